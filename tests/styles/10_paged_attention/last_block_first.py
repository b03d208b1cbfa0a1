"""One block at a time, the last one first, merged by log-sum-exp; writes go token by token."""


def reshape_and_cache(keys, values, key_cache, value_cache, slot_mapping):
    P, K, *_ = key_cache.shape
    if slot_mapping.shape != (len(keys),) or not set(slot_mapping.tolist()) <= set(
        range(-1, P * K)
    ):
        raise ValueError("slot_mapping does not fit")
    for slot, k, v in zip(slot_mapping.tolist(), keys, values, strict=True):
        if slot != -1:
            block, offset = divmod(slot, K)
            key_cache[block, offset, :, :], value_cache[block][offset] = k, v


def copy_blocks(key_cache, value_cache, copies):
    pairs = np.array(copies, np.int64).reshape(-1, 2)
    if ((pairs < 0) | (pairs >= len(key_cache))).any():
        raise ValueError("copies: no such block")
    for cache in (key_cache, value_cache):
        cache[pairs[:, 1]] = cache[pairs[:, 0]]


def _attend(q, key_cache, value_cache, table, S):
    T, H, D = q.shape
    K, G = key_cache.shape[1:3]
    scale = np.asarray(D, q.dtype) ** -0.5
    lse, out = np.full((T, H), -np.inf, q.dtype), np.zeros((T, H, D), q.dtype)
    for index in reversed(range(len(table))):
        at = np.arange(index * K, min(S, (index + 1) * K))
        keys = key_cache[table[index], : len(at)].repeat(H // G, axis=1)  # (s, H, D)
        values = value_cache[table[index], : len(at)].repeat(H // G, axis=1)
        scores = np.einsum("thd,shd->ths", q * scale, keys)
        scores[(at > np.arange(S - T, S)[:, None])[:, None].repeat(H, axis=1)] = -np.inf
        top = scores.max(axis=-1)
        some = np.isfinite(top)  # queries that see anything of this block
        weights = np.exp(scores - np.where(some, top, 0)[..., None])
        total = np.where(some, weights.sum(axis=-1), 1)
        part = np.einsum("ths,shd->thd", weights / total[..., None], values)
        part_lse = np.where(some, top + np.log(total), -np.inf)
        both = np.logaddexp(lse, part_lse)
        safe = np.where(np.isfinite(both), both, 0)
        out = out * np.exp(lse - safe)[..., None] + part * np.exp(part_lse - safe)[..., None]
        lse = both
    return out
