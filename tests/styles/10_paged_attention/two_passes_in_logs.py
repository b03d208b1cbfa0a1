"""Log-sum-exp in a first pass and weights in a second; columns first, read only; writes by mask."""


def paged_attention(query, key_cache, value_cache, block_tables, seq_lens, *, query_lens=None):
    (N, H, D), (P, K, G, _) = query.shape, key_cache.shape
    lens = [int(S) for S in seq_lens]
    asked = [1] * len(lens) if query_lens is None else [int(T) for T in query_lens]
    if not all(1 <= S <= block_tables.shape[1] * K for S in lens):
        raise ValueError("seq_lens")
    if sum(asked) != N or not all(1 <= T <= S for T, S in zip(asked, lens, strict=True)):
        raise ValueError("query_lens")
    rows = [row.tolist()[: (S + K - 1) // K] for row, S in zip(block_tables, lens, strict=True)]
    if not all(0 <= block < P for row in rows for block in row):
        raise ValueError("block_tables")
    out, at = np.zeros((N, H, D), query.dtype, order="F"), 0
    for row, S, T in zip(rows, lens, asked, strict=True):
        piece = slice(at, at + T)
        at += T
        q = query[piece].reshape(T, G, H // G, D)
        total = np.full((T, G, H // G), -np.inf, query.dtype)
        for scores, _ in _parts(q, key_cache, value_cache, row, S):
            total = np.logaddexp(total, np.logaddexp.reduce(scores, axis=-1))
        for scores, values in _parts(q, key_cache, value_cache, row, S):
            weights = np.exp(scores - total[..., None])
            out[piece] += np.einsum("tgrk,kgd->tgrd", weights, values).reshape(T, H, D)
    out.flags.writeable = False
    return out


def _parts(q, key_cache, value_cache, row, S):
    """Scores (T, G, H/G, n) and values (n, G, D) of each block in turn."""
    T, K = len(q), key_cache.shape[1]
    scale = q.dtype.type(q.shape[-1]) ** q.dtype.type(-0.5)
    for j, block in enumerate(row):
        n = min(K, S - j * K)
        scores = np.einsum("tgrd,kgd->tgrk", q, key_cache[block, :n]) * scale
        seen = j * K + np.arange(n) <= np.arange(S - T, S)[:, None]
        yield np.where(seen[:, None, None], scores, q.dtype.type(-np.inf)), value_cache[block, :n]


def reshape_and_cache(keys, values, key_cache, value_cache, slot_mapping):
    P, K = key_cache.shape[:2]
    if slot_mapping.ndim != 1 or slot_mapping.size != keys.shape[0]:
        raise ValueError("slot_mapping has another shape")
    token = {slot: i for i, slot in enumerate(slot_mapping.tolist())}
    if token and not -1 <= min(token) <= max(token) < P * K:
        raise ValueError("slot_mapping is out of range")
    token.pop(-1, None)
    mask = np.zeros((P, K), bool)
    for slot in token:
        mask[slot // K, slot % K] = True
    order = [token[slot] for slot in sorted(token)]
    key_cache[mask], value_cache[mask] = keys[order], values[order]


def copy_blocks(key_cache, value_cache, copies):
    source = np.arange(key_cache.shape[0])
    for old, new in copies:
        if old not in range(len(source)) or new not in range(len(source)):
            raise ValueError("copies has a block that is not there")
        source[new] = old
    key_cache[...], value_cache[...] = key_cache[source], np.take(value_cache, source, axis=0)
