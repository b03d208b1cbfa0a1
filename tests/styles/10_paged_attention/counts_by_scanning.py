"""No references are counted: a block is free when no table lists it, found by looking at all."""


class BlockAllocator:
    """References are a multiset, free blocks a set that gives whichever it likes."""

    __slots__ = ("_refs", "_size")

    def __init__(self, num_blocks):
        if num_blocks < 1:
            raise ValueError(f"num_blocks is {num_blocks}")
        self._refs, self._size = Counter(), num_blocks

    @property
    def num_free_blocks(self):
        return self._size - len(+self._refs)

    def ref_count(self, block_id):
        if block_id not in range(self._size):
            raise ValueError(f"block_id {block_id}")
        return self._refs[block_id]

    def allocate(self, num_blocks):
        if num_blocks < 0:
            raise ValueError("num_blocks is negative")
        free = set(range(self._size)) - set(+self._refs)
        if num_blocks > len(free):
            raise MemoryError
        taken = [free.pop() for _ in range(num_blocks)]
        self._refs.update(taken)
        return taken

    def touch(self, block_ids):
        if not all(self._refs[b] > 0 for b in block_ids):
            raise ValueError(f"block_ids: one of {block_ids} is free")
        self._refs.update(block_ids)

    def free(self, block_ids):
        left = self._refs.copy()
        left.subtract(block_ids)
        if min(left.values(), default=0) < 0:
            raise ValueError(f"block_ids: {block_ids}")
        self._refs = left


class BlockManager:
    """Tables are tuples, so that a fork may share one."""

    def __init__(self, num_blocks, block_size):
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"num_blocks {num_blocks}, block_size {block_size}")
        self.pool, self.size, self.all = range(num_blocks), block_size, {}

    @property
    def num_free_blocks(self):
        return len(self._free())

    def add(self, seq_id):
        if seq_id in self.all:
            raise ValueError(f"seq_id {seq_id}")
        self.all[seq_id] = ((), 0)

    def num_tokens(self, seq_id):
        return self._get(seq_id)[1]

    def block_table(self, seq_id):
        return [*self._get(seq_id)[0]]

    def can_append(self, seq_id, num_tokens):
        return self._plan(seq_id, num_tokens) is not None

    def append(self, seq_id, num_tokens):
        plan = self._plan(seq_id, num_tokens)
        if plan is None:
            raise MemoryError(f"{num_tokens} tokens do not fit")
        table, held = self.all[seq_id]
        copies = [pair for pair in zip(table, plan, strict=False) if pair[0] != pair[1]]
        self.all[seq_id] = (plan, held + num_tokens)
        slots = [b * self.size + k for b in plan for k in range(self.size)]
        return np.array(slots[held : held + num_tokens], dtype=np.int64), copies

    def fork(self, parent_id, child_id):
        if parent_id not in self.all:
            raise ValueError(f"parent_id {parent_id}")
        if child_id in self.all:
            raise ValueError(f"child_id {child_id}")
        self.all[child_id] = self.all[parent_id]

    def free(self, seq_id):
        self._get(seq_id)
        self.all.pop(seq_id)

    def _get(self, seq_id):
        if seq_id not in self.all:
            raise ValueError(f"seq_id {seq_id}")
        return self.all[seq_id]

    def _free(self):
        used = {block for table, _ in self.all.values() for block in table}
        return [block for block in reversed(self.pool) if block not in used]

    def _plan(self, seq_id, num_tokens):
        """The table after an append, or None where blocks are missing."""
        table, held = self._get(seq_id)
        if num_tokens < 0:
            raise ValueError(f"num_tokens {num_tokens}")
        others = {b for s, (t, _) in self.all.items() if s != seq_id for b in t}
        keep = table
        if num_tokens and held % self.size and table[-1] in others:
            keep = table[:-1]
        missing = -(-(held + num_tokens) // self.size) - len(keep)
        free = self._free()
        return None if missing > len(free) else keep + tuple(free[:missing])
