"""No score matrix: only the allowed pairs of query and key are listed, and added up by row."""


def attention(q, k, v, *, mask=None, causal=False, scale=None):
    _check_inputs(q, k, v)
    dtype, shape = q.dtype, (*q.shape[:-1], k.shape[-2])
    allowed = _allowed(q, k, mask, causal)
    allowed = np.broadcast_to(True if allowed is None else allowed, shape)
    n, t, s = np.nonzero(allowed.reshape(math.prod(shape[:-2]), *shape[-2:]))
    scale = _scale(q, scale)
    q, k, v = (_working(a).reshape(math.prod(shape[:-2]), *a.shape[-2:]) for a in (q, k, v))
    row = n * shape[-2] + t  # the query of each pair
    scores = (q[n, t] * k[n, s]).sum(axis=-1) * scale  # (pairs,)
    peak = np.full(math.prod(shape[:-1]), -np.inf, q.dtype)
    np.maximum.at(peak, row, scores)
    weights, total = np.exp(scores - peak[row]), np.zeros_like(peak)
    np.add.at(total, row, weights)
    out = np.zeros((len(peak), v.shape[-1]), q.dtype)
    np.add.at(out, row, (weights / total[row])[:, None] * v[n, s])
    return out.reshape(*shape[:-1], v.shape[-1]).astype(dtype)
