"""A sequence is split in halves until one block is left; slots come from a dictionary."""


class BlockManager:
    def __init__(self, num_blocks, block_size):
        if block_size < 1:
            raise ValueError(f"block_size {block_size}")
        self._pool, self._block_size = BlockAllocator(num_blocks), block_size
        self._sequences = {}  # seq_id -> {position: slot}

    @property
    def num_free_blocks(self):
        return self._pool.num_free_blocks

    def add(self, seq_id):
        if self._sequences.setdefault(seq_id, slots := {}) is not slots:
            raise ValueError(f"seq_id {seq_id} exists")

    def num_tokens(self, seq_id):
        return len(self._slots(seq_id))

    def block_table(self, seq_id):
        return list(dict.fromkeys(s // self._block_size for s in self._slots(seq_id).values()))

    def can_append(self, seq_id, num_tokens):
        return len(self._new(seq_id, num_tokens)[0]) <= self.num_free_blocks

    def append(self, seq_id, num_tokens):
        firsts, copied = self._new(seq_id, num_tokens)
        blocks = self._pool.allocate(len(firsts))
        slots, K = self._sequences[seq_id], self._block_size
        start = len(slots)
        copies = []
        if copied:
            old, new = slots[start - 1] // K, blocks[0]
            copies = [(old, new)]
            self._pool.free([old])
            for p in range(firsts[0], start):
                slots[p] = new * K + p % K
        of = dict(zip(firsts, blocks, strict=True))
        for p in range(start, start + num_tokens):
            first = p - p % K
            slots[p] = (of[first] if first in of else slots[first] // K) * K + p % K
        return np.array([slots[p] for p in range(start, len(slots))], np.int64), copies

    def fork(self, parent_id, child_id):
        slots = self._slots(parent_id, "parent_id")
        if child_id in self._sequences:
            raise ValueError(f"child_id {child_id} exists")
        self._pool.touch(tuple(self.block_table(parent_id)))
        self._sequences[child_id] = dict(slots)

    def free(self, seq_id):
        self._pool.free(self.block_table(seq_id))
        self._sequences.pop(seq_id)

    def _slots(self, seq_id, name="seq_id"):
        try:
            return self._sequences[seq_id]
        except KeyError:
            raise ValueError(f"{name} {seq_id} is unknown") from None

    def _new(self, seq_id, num_tokens):
        """First positions of the blocks to allocate, and whether the first is a copy."""
        slots, K = self._slots(seq_id), self._block_size
        if num_tokens < 0:
            raise ValueError(f"num_tokens {num_tokens}")
        held, table = len(slots), self.block_table(seq_id)
        copied = bool(held % K and num_tokens) and self._pool.ref_count(table[-1]) != 1
        begin = held // K * K if copied else -(-held // K) * K
        return list(range(begin, held + num_tokens, K)), copied


def _attend(q, key_cache, value_cache, table, S):
    T, H, D = q.shape
    _, total, mixed = _part(q, key_cache, value_cache, table, S, 0)
    return np.moveaxis(mixed / total[..., None], 0, 1).reshape(T, H, D)


def _part(q, key_cache, value_cache, table, S, first):
    """Largest score, sum of weights (H, T) and weighted values (H, T, D) of some blocks."""
    K, G = key_cache.shape[1:3]
    if len(table) > 1:
        half = len(table) // 2
        a = _part(q, key_cache, value_cache, table[:half], S, first)
        b = _part(q, key_cache, value_cache, table[half:], S, first + half)
        top = np.maximum(a[0], b[0])
        safe = np.where(np.isfinite(top), top, 0)
        x, y = np.exp(a[0] - safe), np.exp(b[0] - safe)
        return top, a[1] * x + b[1] * y, a[2] * x[..., None] + b[2] * y[..., None]
    (T, H, D), at = q.shape, np.arange(first * K, min(S, first * K + K))
    heads = np.arange(H) // (H // G)
    keys = np.moveaxis(key_cache[table[0], : len(at), :], 1, 0)[heads]  # (H, s, D)
    values = np.moveaxis(value_cache[table[0], : len(at), :], 1, 0)[heads]
    scores = np.matmul(np.moveaxis(q, 1, 0), np.moveaxis(keys, 1, 2)) / math.sqrt(D)
    scores = np.where(at <= np.arange(S - T, S)[:, None], scores, -np.inf)
    top = scores.max(axis=-1)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0)[..., None])
    return top, weights.sum(axis=-1), weights @ values
