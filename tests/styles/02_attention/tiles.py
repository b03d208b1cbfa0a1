"""Keys come in tiles of eight, forward and backward, with a running maximum: FlashAttention."""

TILE = 8


def attention(q, k, v, *, mask=None, causal=False, scale=None):
    _check_inputs(q, k, v)
    wide = [_working(array) for array in (q, k, v)]
    return _online(*wide, _allowed(q, k, mask, causal), _scale(q, scale))[0].astype(q.dtype)


def attention_backward(d_out, q, k, v, *, mask=None, causal=False, scale=None):
    _check_inputs(q, k, v)
    _check_gradient(d_out, (*q.shape[:-1], v.shape[-1]), q.dtype)
    dtype, scale, allowed = q.dtype, _scale(q, scale), _allowed(q, k, mask, causal)
    d_out, q, k, v = (_working(array) for array in (d_out, q, k, v))
    out, lse = _online(q, k, v, allowed, scale)
    mean = (d_out * out).sum(axis=-1, keepdims=True)
    d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for at, scores in _tiles(q, k, allowed, scale):
        weights = np.exp(scores - lse)  # (..., T, TILE)
        d_v[..., at, :] = weights.swapaxes(-1, -2) @ d_out
        d_scores = weights * (d_out @ v[..., at, :].swapaxes(-1, -2) - mean) * scale
        d_q += d_scores @ k[..., at, :]
        d_k[..., at, :] = d_scores.swapaxes(-1, -2) @ q
    return tuple(gradient.astype(dtype) for gradient in (d_q, d_k, d_v))


def _online(q, k, v, allowed, scale):
    """The output, and the logarithm of each row's sum: infinite where no key is allowed."""
    peak = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)  # (..., T, 1)
    total, out = np.zeros_like(peak), np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for at, scores in _tiles(q, k, allowed, scale):
        new = np.maximum(peak, scores.max(axis=-1, keepdims=True))
        safe = np.where(np.isneginf(new), 0, new).astype(q.dtype)
        shrink, weights = np.exp(peak - safe), np.exp(scores - safe)
        total = total * shrink + weights.sum(axis=-1, keepdims=True)
        out, peak = out * shrink + weights @ v[..., at, :], new
    none = total == 0
    total[none], peak[none] = 1, np.inf
    return out / total, peak + np.log(total)


def _tiles(q, k, allowed, scale):
    if allowed is not None:
        allowed = np.broadcast_to(allowed, (*q.shape[:-1], k.shape[-2]))
    for start in range(0, k.shape[-2], TILE):
        at = slice(start, start + TILE)
        scores = q @ k[..., at, :].swapaxes(-1, -2) * scale
        if allowed is not None:
            scores[~allowed[..., at]] = -np.inf
        yield at, scores
