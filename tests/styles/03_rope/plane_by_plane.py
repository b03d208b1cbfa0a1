"""The head's axis comes first in memory, and one pair after the other is turned or moved."""


def rope(x, positions, *, layout="half", base=BASE, rotary_dim=None, sincos=sincos):
    D, positions = x.shape[-1], np.asarray(positions)
    R = _rotary_dim(D, rotary_dim)
    _check_positions(positions, x.shape[:-1])
    planes = np.moveaxis(x, -1, 0)  # (D, ..., T)
    out = planes.copy()
    pairs = zip(*(np.arange(D)[part] for part in _pairs(R, layout)), strict=True)
    for theta, (i, j) in zip(frequencies(R, base=base), pairs, strict=True):
        sin, cos = (np.asarray(part, x.dtype) for part in sincos(positions * theta))
        out[i] = planes[i] * cos - planes[j] * sin
        out[j] = planes[i] * sin + planes[j] * cos
    out.flags.writeable = False
    return np.moveaxis(out, 0, -1)


def _reordered(w, heads, *, called, source, target, rotary_dim):
    _check_layout("source", source)
    _check_layout("target", target)
    if heads < 1 or w.shape[-1] % heads:
        raise ValueError(f"{called} is {heads}")
    D = w.shape[-1] // heads
    if rotary_dim is None and D % 2:
        raise ValueError(f"{called} is {heads}, and a head has {D} columns")
    R, columns = _rotary_dim(D, rotary_dim), np.moveaxis(w, -1, 0)  # (heads·D, ...)
    out = columns.copy()
    for start in range(0, len(columns), D):
        for pair in range(R // 2):
            places = {"half": (pair, pair + R // 2), "interleaved": (2 * pair, 2 * pair + 1)}
            for old, new in zip(places[source], places[target], strict=True):
                out[start + new] = columns[start + old]
    return np.moveaxis(out, 0, -1)
