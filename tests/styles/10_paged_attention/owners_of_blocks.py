"""Blocks know who has them; counts are layers of bits in big integers; slots are read only."""

from dataclasses import dataclass, field


class BlockAllocator:
    """Layer i has a bit for each block with more than i references."""

    __slots__ = ("_layers", "_size")

    def __init__(self, num_blocks):
        if num_blocks < 1:
            raise ValueError(f"num_blocks={num_blocks!r}")
        self._size, self._layers = num_blocks, [0]

    @property
    def num_free_blocks(self):
        return self._size - self._layers[0].bit_count()

    def ref_count(self, block_id):
        if not 0 <= block_id < self._size:
            raise ValueError(f"block_id={block_id!r}")
        return sum(layer >> block_id & 1 for layer in self._layers)

    def allocate(self, num_blocks):
        if num_blocks < 0:
            raise ValueError(f"num_blocks={num_blocks!r}")
        if num_blocks > self.num_free_blocks:
            raise MemoryError
        free = (b for b in reversed(range(self._size)) if not self._layers[0] >> b & 1)
        taken = [next(free) for _ in range(num_blocks)]
        self._layers[0] |= sum(1 << b for b in taken)
        return taken

    def touch(self, block_ids):
        layers = list(self._layers)
        for b in block_ids:
            if b not in range(self._size) or not layers[0] >> b & 1:
                raise ValueError(f"block_ids: nobody has {b}")
            if layers[-1] >> b & 1:
                layers.append(0)
            lowest = next(i for i, layer in enumerate(layers) if not layer >> b & 1)
            layers[lowest] |= 1 << b
        self._layers = layers

    def free(self, block_ids):
        layers = list(self._layers)
        for b in block_ids:
            if b not in range(self._size) or not layers[0] >> b & 1:
                raise ValueError(f"block_ids: {b} is there too often")
            highest = max(i for i, layer in enumerate(layers) if layer >> b & 1)
            layers[highest] ^= 1 << b
        self._layers = layers


@dataclass(slots=True, eq=False)
class _Block:
    id: int
    owners: set = field(default_factory=set)


@dataclass(slots=True)
class _Sequence:
    blocks: list
    length: int


class BlockManager:
    __slots__ = ("_block_size", "_blocks", "_sequences")

    def __init__(self, num_blocks, block_size):
        if num_blocks < 1:
            raise ValueError("num_blocks is below 1")
        if block_size < 1:
            raise ValueError("block_size is below 1")
        self._blocks, self._block_size = tuple(map(_Block, range(num_blocks))), block_size
        self._sequences = {}

    @property
    def num_free_blocks(self):
        return sum(not block.owners for block in self._blocks)

    def _get(self, seq_id, *, name="seq_id"):
        try:
            return self._sequences[seq_id]
        except KeyError:
            raise ValueError(f"unknown {name} {seq_id}") from None

    def add(self, seq_id):
        if seq_id in self._sequences:
            raise ValueError("seq_id is taken")
        self._sequences[seq_id] = _Sequence([], 0)

    def num_tokens(self, seq_id):
        return self._get(seq_id).length

    def block_table(self, seq_id):
        return [block.id for block in self._get(seq_id).blocks]

    def _plan(self, seq_id, num_tokens):
        """The sequence, the place of each new token, and the entries that need a free block."""
        sequence = self._get(seq_id)
        if num_tokens < 0:
            raise ValueError("num_tokens is below 0")
        positions = range(sequence.length, sequence.length + num_tokens)
        places = [divmod(p, self._block_size) for p in positions]
        blocks = dict(enumerate(sequence.blocks))
        entries = dict.fromkeys(entry for entry, _ in places)
        wanted = [i for i in entries if i not in blocks or blocks[i].owners != {seq_id}]
        return sequence, places, wanted

    def can_append(self, seq_id, num_tokens):
        return len(self._plan(seq_id, num_tokens)[2]) <= self.num_free_blocks

    def append(self, seq_id, num_tokens):
        sequence, places, wanted = self._plan(seq_id, num_tokens)
        free = [block for block in self._blocks if not block.owners]
        if len(free) < len(wanted):
            raise MemoryError("no block is left")
        copies = []
        for entry, block in zip(wanted, free, strict=False):
            block.owners.add(seq_id)
            for old in sequence.blocks[entry : entry + 1]:
                copies.append((old.id, block.id))
                old.owners.remove(seq_id)
            sequence.blocks[entry : entry + 1] = [block]
        sequence.length += num_tokens
        slots = (sequence.blocks[i].id * self._block_size + offset for i, offset in places)
        slots = np.fromiter(slots, np.int64, num_tokens)
        slots.flags.writeable = False
        return slots, copies

    def fork(self, parent_id, child_id):
        parent = self._get(parent_id, name="parent_id")
        if child_id in self._sequences:
            raise ValueError("child_id is taken")
        self._sequences[child_id] = _Sequence(parent.blocks.copy(), parent.length)
        for block in parent.blocks:
            block.owners.add(child_id)

    def free(self, seq_id):
        for block in self._get(seq_id).blocks:
            block.owners.discard(seq_id)
        del self._sequences[seq_id]
