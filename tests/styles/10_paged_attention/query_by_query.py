"""Writes through a flat copy with one row for padding; the lowest free block; query by query."""


class BlockAllocator:
    """The lowest free block comes first; ids of blocks in use are the keys of a dictionary."""

    def __init__(self, num_blocks):
        if num_blocks < 1:
            raise ValueError(f"num_blocks={num_blocks}")
        self.last, self.refs, self.spare = num_blocks - 1, {}, list(range(num_blocks))

    @property
    def num_free_blocks(self):
        return self.last + 1 - len(self.refs)

    def ref_count(self, block_id):
        if not 0 <= block_id <= self.last:
            raise ValueError(f"block_id={block_id}")
        return self.refs.get(block_id, 0)

    def allocate(self, num_blocks):
        if num_blocks < 0:
            raise ValueError(f"num_blocks={num_blocks}")
        if num_blocks > len(self.spare):
            raise MemoryError("full")
        taken = sorted(self.spare)[:num_blocks]
        self.spare = sorted(self.spare)[num_blocks:]
        self.refs |= dict.fromkeys(taken, 1)
        return taken[::-1]

    def touch(self, block_ids):
        new = dict(self.refs)
        for block_id in block_ids:
            if block_id not in new:
                raise ValueError(f"block_ids={block_ids}")
            new[block_id] += 1
        self.refs = new

    def free(self, block_ids):
        new, back = dict(self.refs), []
        for block_id in block_ids:
            if block_id not in new:
                raise ValueError(f"block_ids={block_ids}")
            new[block_id] -= 1
            if not new[block_id]:
                del new[block_id]
                back.append(block_id)
        self.refs, self.spare = new, self.spare + back


def reshape_and_cache(keys, values, key_cache, value_cache, slot_mapping):
    P, K = key_cache.shape[:2]
    slots = np.asarray(slot_mapping)
    if slots.shape != (len(keys),) or any(not -1 <= s < P * K for s in slots):
        raise ValueError(f"slot_mapping: {slots}")
    # -1 lands in a row that is thrown away.
    for cache, rows in ((key_cache, keys), (value_cache, values)):
        flat = np.concatenate([cache.reshape(P * K, *cache.shape[2:]), cache[:1, 0]])
        flat[slots] = rows
        cache[...] = flat[:-1].reshape(cache.shape)


def _attend(q, key_cache, value_cache, table, S):
    """Head by head and query by query, as a kernel has it."""
    (T, H, D), (K, G) = q.shape, key_cache.shape[1:3]
    out = np.empty_like(q)
    for g in range(G):
        for t in range(T):
            seen = S - T + t + 1
            rows = q[t, g * (H // G) : (g + 1) * (H // G)] / math.sqrt(D)  # (H/G, D)
            top = np.full(len(rows), -np.inf, q.dtype)
            total, mixed = np.zeros_like(top), np.zeros_like(rows)
            for i in range(0, -(-seen // K), 32):
                ids = table[i : min(i + 32, -(-seen // K))]
                keys = key_cache[ids, :, g].reshape(-1, D)[: seen - i * K]
                values = value_cache[ids, :, g].reshape(-1, D)[: seen - i * K]
                scores = rows @ keys.T
                new = np.maximum(top, scores.max(axis=1))
                weights = np.exp(scores - new[:, None])
                total = total * np.exp(top - new) + weights.sum(axis=1)
                mixed = mixed * np.exp(top - new)[:, None] + weights @ values
                top = new
            out[t, g * (H // G) : (g + 1) * (H // G)] = mixed / total[:, None]
    return out
