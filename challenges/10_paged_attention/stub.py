"""Stub of 10_paged_attention: a key/value cache in blocks, and attention that reads them in place.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.

Dimension key: B sequences, N query tokens of all sequences, T of one, S key positions of one,
P blocks (pages), K slots a block, M entries a row of block_tables, H query heads,
G key/value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def random_batch(
    rng: np.random.Generator,
    seq_lens: Sequence[int],
    *,
    query_lens: Sequence[int] | None = None,
    block_size: int = 4,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 8,
    dtype: Any = np.float64,
) -> tuple[Any, ...]:
    """Sequences of random tokens, contiguous, and the same ones scattered over blocks. Given.

    Returns ``query, key_cache, value_cache, block_tables, keys, values``. The first four are
    arguments of ``paged_attention``, with 2 blocks that no sequence uses, and a table row that
    is at least 1 entry longer than any sequence needs. ``keys`` and ``values`` hold the same
    tokens once more, one array (S, G, D) for each sequence. Lengths are lists of ints; without
    query_lens each sequence has one query. The hidden tests draw their input here.

    >>> batch = random_batch(np.random.default_rng(0), [5, 2])
    >>> query, key_cache, value_cache, block_tables, keys, values = batch
    >>> query.shape, key_cache.shape, block_tables.shape
    ((2, 4, 8), (5, 4, 2, 8), (2, 3))
    >>> bool((key_cache[block_tables[0, 1], 0] == keys[0][4]).all())  # token 4 is in block 4 // 4
    True
    """

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    query = normal(sum(query_lens or [1] * len(seq_lens)), n_heads, head_dim)  # (N, H, D)
    keys, values = ([normal(n, n_kv_heads, head_dim) for n in seq_lens] for _ in range(2))
    need = [-(-n // block_size) for n in seq_lens]
    num_blocks = sum(need) + 2
    key_cache, value_cache = normal(2, num_blocks, block_size, n_kv_heads, head_dim)
    free = rng.permutation(num_blocks).tolist()
    block_tables = rng.integers(0, num_blocks, (len(seq_lens), max(need) + 1))  # (B, M)
    for row, k, v, n in zip(block_tables, keys, values, need, strict=True):
        row[:n], free = free[:n], free[n:]
        at = row[np.arange(len(k)) // block_size], np.arange(len(k)) % block_size
        key_cache[at], value_cache[at] = k, v
    return query, key_cache, value_cache, block_tables, keys, values


# Stage 1: who owns which block.


class BlockAllocator:
    """A pool of blocks 0 to num_blocks - 1, each with a count of references.

    A block without references is free. Which of the free blocks are handed out is yours to
    choose. ``block_ids`` are lists or tuples of ints, and are not modified.

    >>> allocator = BlockAllocator(3)
    >>> first, second = allocator.allocate(2)
    >>> allocator.touch([first])
    >>> allocator.free([first, second])
    >>> allocator.ref_count(first), allocator.ref_count(second), allocator.num_free_blocks
    (1, 0, 2)
    """

    def __init__(self, num_blocks: int) -> None:
        """All blocks are free.

        Raises
        ------
        ValueError
            Naming ``num_blocks`` if it is below 1.

        >>> BlockAllocator(3).num_free_blocks
        3
        """
        # TODO stage 1.
        raise NotImplementedError("10_paged_attention, stage 1")

    @property
    def num_free_blocks(self) -> int:
        """Blocks without a reference.

        >>> allocator = BlockAllocator(3)
        >>> _ = allocator.allocate(1)
        >>> allocator.num_free_blocks
        2
        """
        raise NotImplementedError("10_paged_attention, stage 1")

    def ref_count(self, block_id: int) -> int:
        """References to a block; 0 if it is free.

        Raises
        ------
        ValueError
            Naming ``block_id`` if the pool has no such block.

        >>> allocator = BlockAllocator(1)
        >>> allocator.ref_count(0)
        0
        >>> _ = allocator.allocate(1)
        >>> allocator.ref_count(0)
        1
        """
        raise NotImplementedError("10_paged_attention, stage 1")

    def allocate(self, num_blocks: int) -> list[int]:
        """Take ``num_blocks`` (0 or more) free blocks; each has one reference from now on.

        Returns
        -------
        list of ints, all different.

        Raises
        ------
        MemoryError
            If fewer blocks are free; nothing has changed.
        ValueError
            Naming ``num_blocks`` if it is negative.

        >>> sorted(BlockAllocator(3).allocate(3))
        [0, 1, 2]
        """
        # TODO stage 1: all of them or none.
        raise NotImplementedError("10_paged_attention, stage 1")

    def touch(self, block_ids: Sequence[int]) -> None:
        """Add one reference to a block for each time that it is listed.

        Raises
        ------
        ValueError
            Naming ``block_ids`` if one of them is free or not in the pool; nothing has changed.

        >>> allocator = BlockAllocator(1)
        >>> _ = allocator.allocate(1)
        >>> allocator.touch([0, 0])
        >>> allocator.ref_count(0)
        3
        """
        raise NotImplementedError("10_paged_attention, stage 1")

    def free(self, block_ids: Sequence[int]) -> None:
        """Take one reference off a block for each time that it is listed.

        Raises
        ------
        ValueError
            Naming ``block_ids`` if one of them is listed more often than it has references, is
            free, or is not in the pool; nothing has changed.

        >>> allocator = BlockAllocator(1)
        >>> _ = allocator.allocate(1)
        >>> allocator.touch([0])
        >>> allocator.free([0, 0])
        >>> allocator.num_free_blocks
        1
        """
        # TODO stage 1: what a list may hold before anything is counted down.
        raise NotImplementedError("10_paged_attention, stage 1")


# Stages 2 and 4: block tables.


class BlockManager:
    """The block tables and lengths of all sequences. It never sees a key or a value.

    A ``seq_id`` is any int that the caller chooses.

    >>> manager = BlockManager(num_blocks=8, block_size=4)
    >>> manager.add(42)
    >>> slot_mapping, copies = manager.append(42, 6)
    >>> first, second = manager.block_table(42)
    >>> (slot_mapping - 4 * np.array([first] * 4 + [second] * 2)).tolist(), copies
    ([0, 1, 2, 3, 0, 1], [])
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        """A pool of ``num_blocks`` blocks of ``block_size`` slots, and no sequence.

        Raises
        ------
        ValueError
            Naming ``num_blocks`` or ``block_size`` if it is below 1.

        >>> BlockManager(num_blocks=8, block_size=4).num_free_blocks
        8
        """
        # TODO stage 2.
        raise NotImplementedError("10_paged_attention, stage 2")

    @property
    def num_free_blocks(self) -> int:
        """Blocks that stand in no table.

        >>> manager = BlockManager(num_blocks=8, block_size=4)
        >>> manager.add(0)
        >>> _ = manager.append(0, 5)
        >>> manager.num_free_blocks
        6
        """
        raise NotImplementedError("10_paged_attention, stage 2")

    def add(self, seq_id: int) -> None:
        """Begin a sequence, without tokens and blocks.

        Raises
        ------
        ValueError
            Naming ``seq_id`` if there is such a sequence.

        >>> manager = BlockManager(num_blocks=8, block_size=4)
        >>> manager.add(0)
        >>> manager.num_tokens(0), manager.block_table(0)
        (0, [])
        """
        raise NotImplementedError("10_paged_attention, stage 2")

    def num_tokens(self, seq_id: int) -> int:
        """Tokens of a sequence.

        Raises
        ------
        ValueError
            Naming ``seq_id`` if there is no such sequence.

        >>> manager = BlockManager(num_blocks=8, block_size=4)
        >>> manager.add(0)
        >>> _ = manager.append(0, 5)
        >>> manager.num_tokens(0)
        5
        """
        raise NotImplementedError("10_paged_attention, stage 2")

    def block_table(self, seq_id: int) -> list[int]:
        """Blocks of a sequence in the order of its tokens: a list of ints, the caller's own.

        Raises
        ------
        ValueError
            Naming ``seq_id`` if there is no such sequence.

        >>> manager = BlockManager(num_blocks=2, block_size=4)
        >>> manager.add(0)
        >>> _ = manager.append(0, 5)
        >>> sorted(manager.block_table(0))
        [0, 1]
        """
        raise NotImplementedError("10_paged_attention, stage 2")

    def can_append(self, seq_id: int, num_tokens: int) -> bool:
        """Whether ``append`` with the same arguments would find the blocks that it needs.

        Raises
        ------
        ValueError
            Naming ``seq_id`` if there is no such sequence, ``num_tokens`` if it is negative.

        >>> manager = BlockManager(num_blocks=2, block_size=4)
        >>> manager.add(0)
        >>> manager.can_append(0, 8), manager.can_append(0, 9)
        (True, False)
        """
        # TODO stage 2; stage 4: count the copy.
        raise NotImplementedError("10_paged_attention, stage 2")

    def append(self, seq_id: int, num_tokens: int) -> tuple[Array, list[tuple[int, int]]]:
        """Make room for ``num_tokens`` (0 or more) tokens at the end of a sequence.

        Returns
        -------
        slot_mapping : (num_tokens,) int64, the slots of the new tokens in their order.
        copies : list of (source, destination) blocks that ``copy_blocks`` has to copy before the
            new tokens are written; empty where no sequence was forked.

        Raises
        ------
        MemoryError
            If it needs more blocks than are free; nothing has changed.
        ValueError
            Naming ``seq_id`` if there is no such sequence, ``num_tokens`` if it is negative.

        >>> manager = BlockManager(num_blocks=1, block_size=4)
        >>> manager.add(0)
        >>> manager.append(0, 3)
        (array([0, 1, 2]), [])
        >>> manager.append(0, 1)
        (array([3]), [])
        """
        # TODO stage 2: copies is []; stage 4: a block that others use is not written to.
        raise NotImplementedError("10_paged_attention, stage 2")

    def fork(self, parent_id: int, child_id: int) -> None:
        """Begin the sequence ``child_id`` with the tokens of ``parent_id``, in the same blocks.

        Raises
        ------
        ValueError
            Naming ``parent_id`` if there is no such sequence, ``child_id`` if there is one.

        >>> manager = BlockManager(num_blocks=8, block_size=4)
        >>> manager.add(0)
        >>> _ = manager.append(0, 6)
        >>> manager.fork(0, 1)
        >>> manager.block_table(1) == manager.block_table(0), manager.num_free_blocks
        (True, 6)
        >>> slot_mapping, copies = manager.append(1, 1)
        >>> copies == [(manager.block_table(0)[1], manager.block_table(1)[1])]
        True
        """
        # TODO stage 4.
        raise NotImplementedError("10_paged_attention, stage 4")

    def free(self, seq_id: int) -> None:
        """Forget a sequence. Blocks that no other sequence has are free; its id may come again.

        Raises
        ------
        ValueError
            Naming ``seq_id`` if there is no such sequence.

        >>> manager = BlockManager(num_blocks=8, block_size=4)
        >>> manager.add(0)
        >>> _ = manager.append(0, 5)
        >>> manager.free(0)
        >>> manager.num_free_blocks
        8
        """
        # TODO stage 2; stage 4: others may have its blocks.
        raise NotImplementedError("10_paged_attention, stage 2")


# Stage 3: keys and values.


def reshape_and_cache(
    keys: Array, values: Array, key_cache: Array, value_cache: Array, slot_mapping: Array
) -> None:
    """Write the keys and values of new tokens to their slots, in place.

    Parameters
    ----------
    keys, values : (N, G, D), floating; not modified.
    key_cache, value_cache : (P, K, G, D) in the same dtype; modified. Slot s is
        ``cache[s // K, s % K]``. Each may be a view of a larger array, with strides of any kind.
    slot_mapping : (N,) integers from -1 to P·K - 1, no slot twice; not modified. A token whose
        slot is -1 is padding and is written nowhere.

    Raises
    ------
    ValueError
        Naming ``slot_mapping`` if its shape is not (N,) or a slot is out of range; nothing has
        been written.

    >>> key_cache, value_cache = np.zeros((2, 2, 4, 1, 1))  # 2 blocks of 4 slots each
    >>> keys = np.array([7.0, 8.0, 9.0]).reshape(3, 1, 1)
    >>> reshape_and_cache(keys, -keys, key_cache, value_cache, np.array([6, -1, 1]))
    >>> key_cache[:, :, 0, 0]
    array([[0., 9., 0., 0.],
           [0., 0., 7., 0.]])
    """
    # TODO stage 3.
    raise NotImplementedError("10_paged_attention, stage 3")


def copy_blocks(key_cache: Array, value_cache: Array, copies: Sequence[tuple[int, int]]) -> None:
    """Copy whole blocks of both caches, in place.

    Parameters
    ----------
    key_cache, value_cache : (P, K, G, D), floating; modified. Views, as above.
    copies : list of (source, destination) blocks; no destination is listed twice or is a source.

    Raises
    ------
    ValueError
        Naming ``copies`` if a block is not in 0 to P - 1; nothing has been copied.

    >>> key_cache, value_cache = np.arange(6.0).reshape(3, 2, 1, 1), np.zeros((3, 2, 1, 1))
    >>> copy_blocks(key_cache, value_cache, [(0, 2)])
    >>> key_cache[:, :, 0, 0]
    array([[0., 1.],
           [2., 3.],
           [0., 1.]])
    """
    # TODO stage 4.
    raise NotImplementedError("10_paged_attention, stage 4")


def paged_attention(
    query: Array,
    key_cache: Array,
    value_cache: Array,
    block_tables: Array,
    seq_lens: Array,
    *,
    query_lens: Array | None = None,
) -> Array:
    """Causal attention of the last tokens of each sequence over all of its tokens.

    Parameters
    ----------
    query : (N, H, D), floating; not modified. The queries of sequence 0, then those of
        sequence 1, and so on; G divides H.
    key_cache, value_cache : (P, K, G, D) in the dtype of query; not modified. They hold all
        tokens, those of the queries included.
    block_tables : (B, M) integers; not modified. Row b begins with the blocks of sequence b, in
        the order of its tokens. What follows is padding: any integer.
    seq_lens : (B,) integers from 1 to M·K; not modified. Tokens of each sequence.
    query_lens : (B,) integers from 1 to seq_lens[b], N in sum; not modified. The queries of
        sequence b are its last query_lens[b] tokens. None: one each.

    Returns
    -------
    (N, H, D) in the dtype of query.

    Raises
    ------
    ValueError
        Naming ``seq_lens`` if a value is out of range; ``query_lens`` if one is, or if N is not
        their sum (B, if they are None); ``block_tables`` if an entry that is no padding is not
        in 0 to P - 1.

    >>> key_cache = np.zeros((3, 2, 1, 1))  # all scores are 0: the output is a mean
    >>> value_cache = np.arange(6.0).reshape(3, 2, 1, 1)
    >>> tables = np.array([[2, 0]])  # values 4, 5, 0, 1
    >>> query = np.ones((1, 1, 1))
    >>> paged_attention(query, key_cache, value_cache, tables, np.array([3])).item()
    3.0
    """
    # TODO stage 3: one query each; then several, of which each sees its past alone.
    raise NotImplementedError("10_paged_attention, stage 3")
