"""The block freed first is handed out first; counts are an array, sequences are objects."""


class BlockAllocator:
    def __init__(self, num_blocks):
        if num_blocks <= 0:
            raise ValueError("num_blocks must be positive")
        self.counts = np.zeros(num_blocks, np.int32)
        self.queue = np.arange(num_blocks)

    num_free_blocks = property(lambda self: int((self.counts == 0).sum()))

    def ref_count(self, block_id):
        self.inside([block_id], "block_id")
        return self.counts[block_id]

    def allocate(self, num_blocks):
        if num_blocks < 0:
            raise ValueError("num_blocks must not be negative")
        if self.queue.size < num_blocks:
            raise MemoryError("the queue is too short")
        taken, self.queue = np.split(self.queue, [num_blocks])
        self.counts[taken] = 1
        return list(taken)

    def touch(self, block_ids):
        self.change(block_ids, 1)

    def free(self, block_ids):
        self.change(block_ids, -1)

    def change(self, block_ids, sign):
        self.inside(block_ids, "block_ids")
        ids = np.array(block_ids, np.int64)
        if (self.counts[ids] == 0).any():
            raise ValueError("block_ids: a block is free")
        after = self.counts + sign * np.bincount(ids, minlength=len(self.counts)).astype(np.int32)
        if (after < 0).any():
            raise ValueError("block_ids: more than there are references")
        back = np.flatnonzero((after == 0) & (self.counts > 0))
        self.counts, self.queue = after, np.concatenate([self.queue, back])

    def inside(self, ids, name):
        if any(b < 0 or b >= len(self.counts) for b in ids):
            raise ValueError(f"{name} out of range")


class Sequence_:
    __slots__ = ("blocks", "tokens")

    def __init__(self, blocks, tokens):
        self.blocks, self.tokens = blocks, tokens


class BlockManager:
    def __init__(self, num_blocks, block_size):
        if not block_size > 0:
            raise ValueError("block_size must be positive")
        self.pool, self.K, self.seqs = BlockAllocator(num_blocks), block_size, {}

    num_free_blocks = property(lambda self: self.pool.num_free_blocks)

    def add(self, seq_id):
        self.absent(seq_id, "seq_id")
        self.seqs[seq_id] = Sequence_([], 0)

    def num_tokens(self, seq_id):
        return self.present(seq_id, "seq_id").tokens

    def block_table(self, seq_id):
        return self.present(seq_id, "seq_id").blocks[:]

    def can_append(self, seq_id, num_tokens):
        seq = self.present(seq_id, "seq_id")
        if num_tokens < 0:
            raise ValueError("num_tokens must not be negative")
        room = len(seq.blocks) * self.K - seq.tokens
        if room and num_tokens and self.pool.ref_count(seq.blocks[-1]) > 1:
            num_tokens += self.K - room  # as if the last block's tokens came once more
            room = 0
        return bool(num_tokens <= room + self.K * self.num_free_blocks)

    def append(self, seq_id, num_tokens):
        if not self.can_append(seq_id, num_tokens):
            raise MemoryError("no room")
        seq, slots, copies = self.seqs[seq_id], [], []
        for _ in range(num_tokens):  # token by token, as the paper has it
            where = seq.tokens % self.K
            if where == 0:
                seq.blocks += self.pool.allocate(1)
            elif self.pool.ref_count(seq.blocks[-1]) > 1:
                (new,) = self.pool.allocate(1)
                copies.append((seq.blocks[-1], new))
                self.pool.free(seq.blocks[-1:])
                seq.blocks[-1] = new
            slots.append(seq.blocks[-1] * self.K + where)
            seq.tokens += 1
        return np.fromiter(slots, np.int64), copies

    def fork(self, parent_id, child_id):
        parent = self.present(parent_id, "parent_id")
        self.absent(child_id, "child_id")
        self.pool.touch(parent.blocks)
        self.seqs[child_id] = Sequence_(parent.blocks[:], parent.tokens)

    def free(self, seq_id):
        self.pool.free(self.present(seq_id, "seq_id").blocks)
        del self.seqs[seq_id]

    def present(self, seq_id, name):
        if seq_id not in self.seqs:
            raise ValueError(f"{name}: unknown")
        return self.seqs[seq_id]

    def absent(self, seq_id, name):
        if seq_id in self.seqs:
            raise ValueError(f"{name}: taken")
