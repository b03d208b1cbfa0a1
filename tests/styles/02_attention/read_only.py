"""Softmax by powers of two where a key is allowed; results are views that are read-only."""


def _weights(q, k, allowed, scale):
    scores = (q * (_scale(q, scale) * math.log2(math.e))) @ k.swapaxes(-1, -2)  # (..., T, S)
    where = np.broadcast_to(True if allowed is None else allowed, scores.shape)
    peak = np.max(scores, axis=-1, keepdims=True, initial=-np.inf, where=where)
    weights = np.zeros_like(scores)
    np.subtract(scores, peak, out=weights, where=where)
    np.exp2(weights, out=weights, where=where)
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=weights, where=total != 0)


def attention(q, k, v, *, mask=None, causal=False, scale=None):
    _check_inputs(q, k, v)
    weights = _weights(_working(q), _working(k), _allowed(q, k, mask, causal), scale)
    out = _working(v).swapaxes(-1, -2) @ weights.swapaxes(-1, -2)  # (..., D_v, T)
    buffer = np.zeros((2, *out.shape), q.dtype)
    buffer[1] = out
    view = buffer[1].swapaxes(-1, -2)
    view.flags.writeable = False
    return view


def multi_head_attention(x, params, *, n_heads, mask=None, causal=False):
    _check_layer(x, params, n_heads)
    wide = {name: _working(array) for name, array in params.items()}
    heads = attention(*_project(_working(x), wide, n_heads), mask=mask, causal=causal)
    out = np.asfortranarray(_merge(heads) @ wide["w_o"] + wide["b_o"]).astype(x.dtype)
    out.flags.writeable = False
    return out
