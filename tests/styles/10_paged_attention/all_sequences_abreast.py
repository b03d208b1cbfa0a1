"""All sequences take a step together, those that have ended drop out; a strided result."""


def paged_attention(query, key_cache, value_cache, block_tables, seq_lens, *, query_lens=None):
    (P, K, G, D), M = key_cache.shape, block_tables.shape[1]
    lens = np.asarray(seq_lens, np.int64)
    asked = np.ones(len(lens), np.int64) if query_lens is None else query_lens.astype(np.int64)
    if lens.min() < 1 or lens.max() > M * K:
        raise ValueError("seq_lens: too many for the table, or none")
    if (asked < 1).any() or (asked > lens).any() or asked.sum() != query.shape[0]:
        raise ValueError("query_lens: do not fit")
    used = np.arange(M) * K < lens[:, None]  # (B, M)
    if ((block_tables < 0) | (block_tables >= P))[used].any():
        raise ValueError("block_tables: no such block")
    N, H = query.shape[:2]
    owner = np.repeat(np.arange(len(lens)), asked)  # (N,)
    ends = np.cumsum(asked)
    at = lens[owner] - (ends[owner] - np.arange(N))  # (N,) positions
    q = query.reshape(N, G, H // G, D)
    top = np.full((N, G, H // G), -np.inf, query.dtype)
    total, mixed = np.zeros_like(top), np.zeros_like(q)
    for j in range(-(-int(at.max() + 1) // K)):
        live = np.flatnonzero(at >= j * K)
        block = block_tables[owner[live], j]
        hidden = np.arange(j * K, j * K + K) > at[live, None]  # (n, K)
        keys, values = key_cache[block], value_cache[block]  # (n, K, G, D)
        keys[hidden] = values[hidden] = 0  # a copy: what lies there may be NaN
        scores = np.einsum("ngrd,nkgd->ngrk", q[live], keys) * query.dtype.type(D**-0.5)
        scores[np.broadcast_to(hidden[:, None, None], scores.shape)] = -np.inf
        new = np.maximum(top[live], scores.max(-1))
        weights, keep = np.exp(scores - new[..., None]), np.exp(top[live] - new)
        total[live] = total[live] * keep + weights.sum(-1)
        mixed[live] = mixed[live] * keep[..., None] + np.einsum("ngrk,nkgd->ngrd", weights, values)
        top[live] = new
    wide = np.repeat((mixed / total[..., None]).reshape(N, H, D), 2, axis=2)
    wide.flags.writeable = False
    return wide[..., ::2]
