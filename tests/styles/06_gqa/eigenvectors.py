"""Alignment by eigenvectors of a symmetric matrix; attention one row of the batch at a time."""


def multi_query_attention(q, k, v, *, causal=False):
    return _attended(q, k, v, 1, causal, 3)


def grouped_query_attention(q, k, v, *, causal=False):
    return _attended(q, k, v, None, causal, 4)


def _attended(q, k, v, n_kv_heads, causal, ndim):
    if q.ndim != 4:
        raise ValueError("q: four axes are wanted")
    B, H, T, D = q.shape
    if k.ndim != ndim or k.shape[0] != B or k.shape[-1] != D:
        raise ValueError("k: another shape is wanted")
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError("v: another shape is wanted")
    G = n_kv_heads or k.shape[1]
    if H % G:
        raise ValueError("k: its heads do not divide those of q")
    S = k.shape[-2]
    if causal and T > S:
        raise ValueError("causal: S is less than T")
    grid = np.indices((T, S), dtype=np.int32)
    seen = (grid[1] - grid[0] <= S - T) | (not causal)
    rows = []
    for b in range(B):
        keys, values = k[b].reshape(G, 1, S, D), v[b].reshape(G, 1, S, -1)
        scores = np.matmul(q[b].reshape(G, H // G, T, D), keys.transpose(0, 1, 3, 2))
        scores = np.where(seen, scores * q.dtype.type(1 / math.sqrt(D)), q.dtype.type("-inf"))
        weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        mean = np.matmul(weights, values) / np.sum(weights, axis=-1, keepdims=True)
        rows.append(mean.reshape(H, T, -1))
    return np.array(rows)


def align_heads(params, n_kv_heads):
    size, new = _group_size(params, n_kv_heads), _copied(params)
    R = len(params["bq"]) // len(params["bk"])
    for g in range(len(params["bk"])):
        users = np.arange(g * R, (g + 1) * R, dtype=np.int32)
        turn = _polar(params, "k", g, g - g % size)
        for name, heads in (("wk", g), ("bk", g), ("wq", users), ("bq", users)):
            new[name][..., heads, :] = new[name][..., heads, :] @ turn
        turn = _polar(params, "v", g, g - g % size)
        for name in ("wv", "bv"):
            new[name][..., g, :] = new[name][..., g, :] @ turn
        new["wo"][users] = np.einsum("ed,hec->hdc", turn, new["wo"][users])
    return new


def _polar(params, name, own, first):
    """Singular vectors out of [[0, M], [Mᵀ, 0]], completed where the weights say nothing."""
    a, b = (
        np.vstack([params[f"w{name}"][:, g], params[f"b{name}"][g]]).astype(np.float64)
        for g in (own, first)
    )
    cross, D = a.T @ b, a.shape[1]
    values, vectors = np.linalg.eigh(
        np.block([[np.zeros((D, D)), cross], [cross.T, np.zeros((D, D))]])
    )
    kept = vectors[:, values > 1e-12 * max(values.max(), 1e-300)]
    left, right = (_completed(part * math.sqrt(2)) for part in (kept[:D], kept[D:]))
    return (left @ right.T).astype(params["wo"].dtype)


def _completed(basis):
    """Orthonormal columns, then as many more as make a basis of all."""
    full = np.linalg.qr(np.hstack([basis, np.eye(len(basis))]))[0]
    return np.hstack([basis, full[:, basis.shape[1] :]])
