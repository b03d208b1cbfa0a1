"""A key/value cache in blocks: who owns which block, and attention that reads them in place.

Kwon et al. 2023, "Efficient Memory Management for Large Language Model Serving with
PagedAttention", arXiv 2309.06180, sections 4.1 to 4.4 and equation 4. Milakov and Gimelshein
2018, "Online normalizer calculation for softmax", arXiv 1805.02867, algorithm 3. Differs from
them in that several blocks are read at a time, since NumPy pays for each call.

Dimension key: B sequences, N query tokens of all sequences, T of one, S key positions of one,
P blocks (pages), K slots a block, M entries a row of block_tables, H query heads,
G key/value heads, D head width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
_TILE = 256  # tokens whose keys and values are gathered at a time


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
    """Sequences of random tokens, contiguous, and the same ones scattered over blocks."""

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


class BlockAllocator:
    """Counts the references to each block; a stack holds the blocks that have none."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks: wanted 1 or more, got {num_blocks}")
        self._ref_counts = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free_blocks(self) -> int:
        """Blocks without a reference."""
        return len(self._free)

    def ref_count(self, block_id: int) -> int:
        """References to a block, 0 if it is free."""
        if not 0 <= block_id < len(self._ref_counts):
            raise ValueError(f"block_id: wanted 0 to {len(self._ref_counts) - 1}, got {block_id}")
        return self._ref_counts[block_id]

    def allocate(self, num_blocks: int) -> list[int]:
        """Free blocks, each with one reference from now on."""
        if num_blocks < 0:
            raise ValueError(f"num_blocks: wanted 0 or more, got {num_blocks}")
        if num_blocks > len(self._free):
            raise MemoryError(f"wanted {num_blocks} blocks, {len(self._free)} are free")
        taken = [self._free.pop() for _ in range(num_blocks)]
        for block_id in taken:
            self._ref_counts[block_id] = 1
        return taken

    def touch(self, block_ids: Sequence[int]) -> None:
        """One more reference for each time that a block is listed."""
        self._check(dict.fromkeys(block_ids, 1))
        for block_id in block_ids:
            self._ref_counts[block_id] += 1

    def free(self, block_ids: Sequence[int]) -> None:
        """One reference less for each time that a block is listed."""
        self._check(Counter(block_ids))
        for block_id in block_ids:
            self._ref_counts[block_id] -= 1
            if self._ref_counts[block_id] == 0:
                self._free.append(block_id)

    def _check(self, wanted: Mapping[int, int]) -> None:
        """Each block has the references that are wanted of it; asked before one changes."""
        for block_id, times in wanted.items():
            have = self._ref_counts[block_id] if 0 <= block_id < len(self._ref_counts) else 0
            if have < times:
                raise ValueError(f"block_ids: {times} times {block_id}, referenced {have} times")


class BlockManager:
    """Keeps the block table and the length of each sequence. It never sees a key or a value."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"block_size: wanted 1 or more, got {block_size}")
        self._allocator, self._block_size = BlockAllocator(num_blocks), block_size
        self._tables, self._lengths = {}, {}  # by seq_id: its blocks, its tokens

    @property
    def num_free_blocks(self) -> int:
        """Blocks that stand in no table."""
        return self._allocator.num_free_blocks

    def add(self, seq_id: int) -> None:
        """A new sequence without tokens or blocks."""
        if seq_id in self._tables:
            raise ValueError(f"seq_id: {seq_id} is there already")
        self._tables[seq_id], self._lengths[seq_id] = [], 0

    def num_tokens(self, seq_id: int) -> int:
        """Tokens of a sequence."""
        return self._known(seq_id)[1]

    def block_table(self, seq_id: int) -> list[int]:
        """The blocks of a sequence, in the order of its tokens."""
        return list(self._known(seq_id)[0])

    def can_append(self, seq_id: int, num_tokens: int) -> bool:
        """Whether append would find the blocks that it needs."""
        return sum(self._need(seq_id, num_tokens)) <= self.num_free_blocks

    def append(self, seq_id: int, num_tokens: int) -> tuple[Array, list[tuple[int, int]]]:
        """Room for more tokens: their slots (num_tokens,), and the blocks to copy before."""
        copy, more = self._need(seq_id, num_tokens)
        new = self._allocator.allocate(copy + more)  # raises before anything has changed
        (table, held), K, copies = self._known(seq_id), self._block_size, []
        if copy:
            copies = [(table[-1], new[0])]
            self._allocator.free([table.pop()])  # the others keep it
        table += new
        positions = np.arange(held, held + num_tokens)
        self._lengths[seq_id] += num_tokens
        return np.array(table, np.int64)[positions // K] * K + positions % K, copies

    def fork(self, parent_id: int, child_id: int) -> None:
        """A new sequence that has the tokens of another, in the same blocks."""
        table, held = self._known(parent_id, "parent_id")
        if child_id in self._tables:
            raise ValueError(f"child_id: {child_id} is there already")
        self._allocator.touch(table)
        self._tables[child_id], self._lengths[child_id] = list(table), held

    def free(self, seq_id: int) -> None:
        """Forget a sequence; blocks that no other one has are free."""
        self._allocator.free(self._known(seq_id)[0])
        del self._tables[seq_id], self._lengths[seq_id]

    def _known(self, seq_id: int, name: str = "seq_id") -> tuple[list[int], int]:
        if seq_id not in self._tables:
            raise ValueError(f"{name}: there is no sequence {seq_id}")
        return self._tables[seq_id], self._lengths[seq_id]

    def _need(self, seq_id: int, num_tokens: int) -> tuple[bool, int]:
        """Is the last block to be copied, and how many blocks come behind it?"""
        (table, held), K = self._known(seq_id), self._block_size
        if num_tokens < 0:
            raise ValueError(f"num_tokens: wanted 0 or more, got {num_tokens}")
        copy = num_tokens > 0 and held % K > 0 and self._allocator.ref_count(table[-1]) > 1
        return copy, -(-(held + num_tokens) // K) - len(table)


def reshape_and_cache(
    keys: Array, values: Array, key_cache: Array, value_cache: Array, slot_mapping: Array
) -> None:
    """Write token i of keys and values (N, G, D) to slot i of the mapping (N,); -1 is no slot."""
    P, K = key_cache.shape[:2]
    in_range = (slot_mapping >= -1) & (slot_mapping < P * K)
    if slot_mapping.shape != (len(keys),) or not in_range.all():
        raise ValueError(f"slot_mapping: {len(keys)} of -1 to {P * K - 1}, got {slot_mapping}")
    real = slot_mapping >= 0
    # Two indices and no reshape: of a cache that is a view, reshape(P * K, G, D) is a copy.
    blocks, offsets = np.divmod(slot_mapping[real].astype(np.int64), K)
    key_cache[blocks, offsets] = keys[real]
    value_cache[blocks, offsets] = values[real]


def copy_blocks(key_cache: Array, value_cache: Array, copies: Sequence[tuple[int, int]]) -> None:
    """Copy whole blocks of both caches (P, K, G, D) in place, from source to destination."""
    if any(not 0 <= block_id < len(key_cache) for pair in copies for block_id in pair):
        raise ValueError(f"copies: wanted blocks from 0 to {len(key_cache) - 1}, got {copies}")
    for source, destination in copies:
        key_cache[destination] = key_cache[source]
        value_cache[destination] = value_cache[source]


def paged_attention(
    query: Array,
    key_cache: Array,
    value_cache: Array,
    block_tables: Array,
    seq_lens: Array,
    *,
    query_lens: Array | None = None,
) -> Array:
    """Attention of the last tokens of each sequence over its blocks. -> (N, H, D)"""
    P, K = key_cache.shape[:2]
    query_lens = np.ones_like(seq_lens) if query_lens is None else query_lens
    if ((seq_lens < 1) | (seq_lens > block_tables.shape[1] * K)).any():
        raise ValueError(f"seq_lens: wanted 1 to {block_tables.shape[1] * K}, got {seq_lens}")
    if ((query_lens < 1) | (query_lens > seq_lens)).any() or query_lens.sum() != len(query):
        raise ValueError(f"query_lens: {query_lens} of {seq_lens} tokens, {len(query)} queries")
    lengths = seq_lens.tolist()  # of Python: -S of an unsigned S is no negative number
    tables = [row[: -(-S // K)] for row, S in zip(block_tables, lengths, strict=True)]
    if any(((row < 0) | (row >= P)).any() for row in tables):
        raise ValueError(f"block_tables: wanted 0 to {P - 1}, got {block_tables}")
    rows = zip(np.split(query, np.cumsum(query_lens)[:-1]), tables, lengths, strict=True)
    return np.concatenate([_attend(q, key_cache, value_cache, row, S) for q, row, S in rows])


def _attend(q: Array, key_cache: Array, value_cache: Array, table: Array, S: int) -> Array:
    """One sequence of S tokens, a tile of blocks at a time. (T, H, D) -> (T, H, D)"""
    (T, H, D), (K, G) = q.shape, key_cache.shape[1:3]
    # The H/G query heads of a group become rows of one product: keys are never repeated.
    q = q.reshape(T, G, H // G, D).swapaxes(0, 1).reshape(G, -1, D) / math.sqrt(D)
    positions = np.repeat(np.arange(S - T, S), H // G)[:, None]  # (T·H/G, 1)
    top = np.full((*q.shape[:2], 1), -np.inf, q.dtype)  # m, the largest score so far
    total, out = np.zeros_like(top), np.zeros_like(q)
    blocks = max(1, _TILE // K)
    for first in range(0, len(table), blocks):
        tile, start = table[first : first + blocks], first * K
        # Cut at S: what lies in the slots behind may be NaN, and 0 · NaN is NaN.
        keys = key_cache[tile].reshape(-1, G, D)[: S - start]  # (s, G, D)
        values = value_cache[tile].reshape(-1, G, D)[: S - start]
        scores = q @ keys.transpose(1, 2, 0)  # (G, T·H/G, s)
        scores[:, np.arange(start, start + len(keys)) > positions] = -np.inf
        # m' = max(m, scores), l' = l·e^(m - m') + Σ e^(scores - m'), and o like l. The first
        # tile holds position 0, which every query sees: from there on m' is finite.
        old, top = top, np.maximum(top, scores.max(axis=-1, keepdims=True))
        weights, keep = np.exp(scores - top), np.exp(old - top)
        total = total * keep + weights.sum(axis=-1, keepdims=True)
        out = out * keep + weights @ values.swapaxes(0, 1)
    return (out / total).reshape(G, T, H // G, D).swapaxes(0, 1).reshape(T, H, D)
