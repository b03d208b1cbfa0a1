"""The reference of 10_paged_attention against torch's attention over tokens in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from references import load
from torch.nn.functional import scaled_dot_product_attention

ours = load("10_paged_attention")
SEEDS = range(10)
DTYPES = [np.float32, np.float64]
SHAPES = [(1, 1, 4, 1), (4, 4, 8, 4), (4, 2, 8, 16), (6, 2, 5, 3), (8, 1, 16, 7)]
"""Query heads, key/value heads, width of a head, slots a block."""


def draw(seed: int, shape: tuple[int, int, int, int], dtype: Any) -> dict[str, Any]:
    """A batch whose sequences have between one and all of their tokens as queries."""
    rng = np.random.default_rng(seed)
    n_heads, n_kv_heads, head_dim, block_size = shape
    seq_lens = rng.integers(1, 40, rng.integers(1, 5)).tolist()
    query_lens = [int(rng.integers(1, n + 1)) for n in seq_lens]
    query, key_cache, value_cache, tables, keys, values = ours.random_batch(
        rng,
        seq_lens,
        query_lens=query_lens,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        block_size=block_size,
        dtype=dtype,
    )
    return {
        "query": query,
        "caches": (key_cache, value_cache),
        "tables": tables,
        "keys": keys,
        "values": values,
        "seq_lens": seq_lens,
        "query_lens": query_lens,
    }


def torch_attention(query: Any, keys: Any, values: Any) -> Any:
    """Of the last T tokens of one sequence: query (T, H, D), keys and values (S, G, D)."""
    plain = (np.ascontiguousarray(each) for each in (query, keys, values))
    q, k, v = (torch.from_numpy(each).transpose(0, 1) for each in plain)
    n, s = q.shape[1], k.shape[1]
    mask = torch.ones(n, s, dtype=torch.bool).tril(s - n)
    out = scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=True)
    return out[0].transpose(0, 1).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_that_of_torch(
    seed: int, shape: tuple[int, int, int, int], dtype: Any
) -> None:
    """Each sequence through its blocks, as scaled_dot_product_attention has it in one piece."""
    batch = draw(seed, shape, dtype)
    integers = [np.int64, np.int32, np.uint8][seed % 3]

    saw = ours.paged_attention(
        batch["query"],
        *batch["caches"],
        batch["tables"].astype(integers),
        np.array(batch["seq_lens"], integers),
        query_lens=np.array(batch["query_lens"], integers),
    )

    parts = np.split(batch["query"], np.cumsum(batch["query_lens"])[:-1])
    rows = zip(parts, batch["keys"], batch["values"], strict=True)
    want = np.concatenate([torch_attention(*row) for row in rows])
    tolerance = 2e-5 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(saw, want, rtol=tolerance, atol=tolerance)
    assert saw.dtype == dtype


@pytest.mark.parametrize("seed", SEEDS)
def test_decoding_is_that_of_a_mask_over_the_whole_cache(seed: int) -> None:
    """torch reads every slot of the same cache, with a mask that says whose token lies there."""
    rng = np.random.default_rng(seed)
    seq_lens, block_size = rng.integers(1, 30, 3).tolist(), 4
    query, key_cache, value_cache, tables, *_ = ours.random_batch(
        rng, seq_lens, n_heads=4, n_kv_heads=2, head_dim=8, block_size=block_size, dtype=np.float32
    )

    saw = ours.paged_attention(query, key_cache, value_cache, tables, np.array(seq_lens))

    slots = key_cache.shape[0] * block_size
    owned = torch.zeros(len(seq_lens), slots, dtype=torch.bool)
    for row, (table, length) in enumerate(zip(tables, seq_lens, strict=True)):
        for p in range(length):
            owned[row, int(table[p // block_size]) * block_size + p % block_size] = True
    flat = (torch.from_numpy(cache.reshape(slots, 2, 8)) for cache in (key_cache, value_cache))
    keys, values = (each.transpose(0, 1).expand(len(seq_lens), -1, -1, -1) for each in flat)
    queries = torch.from_numpy(query)[:, :, None]  # (B, H, 1, D)
    mask = owned[:, None, None]
    want = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)
    np.testing.assert_allclose(saw, want[:, :, 0].numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_are_those_of_index_put(seed: int) -> None:
    """Tokens at their slots, as torch.index_put_ writes them; padding nowhere."""
    rng = np.random.default_rng(seed)
    keys, values = rng.standard_normal((2, 9, 2, 4))
    caches = rng.standard_normal((2, 5, 4, 2, 4))
    slots = rng.permutation(20)[:9]
    slots[rng.random(9) < 0.3] = -1
    want = torch.from_numpy(caches.copy()).reshape(2, 20, 2, 4)
    at = torch.from_numpy(np.flatnonzero(slots >= 0))
    for cache, new in zip(want, (keys, values), strict=True):
        cache.index_put_((torch.from_numpy(slots)[at],), torch.from_numpy(new)[at])

    ours.reshape_and_cache(keys, values, caches[0], caches[1], slots)

    np.testing.assert_array_equal(caches, want.reshape(2, 5, 4, 2, 4).numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_forked_beam_reads_what_deep_copies_would(seed: int) -> None:
    """Blocks that are shared and copied on write hold what transformers' copied cache holds."""
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(seed)
    manager = ours.BlockManager(64, 4)
    caches = np.zeros((2, 64, 4, 1, 2))
    theirs: dict[int, Any] = {}
    manager.add(0)
    theirs[0] = transformers.DynamicCache()
    for step in range(60):
        live = sorted(theirs)
        seq = int(rng.choice(live))
        if rng.random() < 0.2 and len(live) < 4:
            child = step + 1
            manager.fork(seq, child)
            theirs[child] = transformers.DynamicCache()
            if theirs[seq].get_seq_length():
                layer = theirs[seq].layers[0]
                theirs[child].update(layer.keys.clone(), layer.values.clone(), 0)
        elif rng.random() < 0.1 and len(live) > 1:
            manager.free(seq)
            del theirs[seq]
        elif manager.can_append(seq, n := int(rng.integers(1, 6))):
            new = rng.standard_normal((2, n, 1, 2))
            slots, copies = manager.append(seq, n)
            ours.copy_blocks(caches[0], caches[1], copies)
            ours.reshape_and_cache(new[0], new[1], caches[0], caches[1], slots)
            theirs[seq].update(*(torch.from_numpy(x).transpose(0, 1)[None] for x in new), 0)
        for other, cache in theirs.items():
            length = manager.num_tokens(other)
            assert length == cache.get_seq_length()
            if length:
                at = np.arange(length)
                blocks = np.array(manager.block_table(other))[at // 4]
                want = cache.layers[0].keys[0, 0].numpy()
                np.testing.assert_array_equal(caches[0][blocks, at % 4, 0], want)
