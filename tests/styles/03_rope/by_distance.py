"""Scores come from the distance of two positions: no query and no key is ever rotated."""


def attention_scores(q, k, q_positions, k_positions, *, layout="half", base=BASE, rotary_dim=None):
    R = _rotary_dim(q.shape[-1], rotary_dim)
    first, second = _pairs(R, layout)
    planes, at = [], []
    for x, positions in ((q, np.asarray(q_positions)), (k, np.asarray(k_positions))):
        _check_positions(positions, x.shape[:-1])
        at.append(np.broadcast_to(positions, x.shape[:-1]).astype(np.float64))
        planes.append(x[..., first].astype(np.float64) + 1j * x[..., second])
    distance = at[0][..., :, None] - at[1][..., None, :]  # (..., T, S)
    turn = np.exp(1j * distance[..., None] * frequencies(R, base=base))  # (..., T, S, R/2)
    scores = np.einsum("...tr,...sr,...tsr->...ts", planes[0], planes[1].conj(), turn).real
    scores += q[..., R:].astype(np.float64) @ k[..., R:].swapaxes(-1, -2)
    return (scores / math.sqrt(q.shape[-1])).astype(q.dtype)
