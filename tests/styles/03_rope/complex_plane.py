"""A pair is a complex number in float64, and each distinct position is evaluated once."""


def frequencies(dim, *, base=BASE):
    if dim < 2 or dim % 2:
        raise ValueError(f"dim is {dim}")
    return np.exp(np.arange(dim // 2) * (-2 / dim * math.log(base)))


def rope(x, positions, *, layout="half", base=BASE, rotary_dim=None, sincos=sincos):
    R, positions = _rotary_dim(x.shape[-1], rotary_dim), np.asarray(positions)
    _check_positions(positions, x.shape[:-1])
    first, second = _pairs(R, layout)
    distinct, place = np.unique(positions.astype(np.float64), return_inverse=True)
    sin, cos = sincos(np.multiply.outer(distinct, frequencies(R, base=base)))  # (P, R/2) each
    turn = (cos + 1j * sin)[place.reshape(positions.shape)]
    out = x.astype(np.float64)
    z = (out[..., first] + 1j * out[..., second]) * turn
    out[..., first], out[..., second] = z.real, z.imag
    return out.astype(x.dtype)
