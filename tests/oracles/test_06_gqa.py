"""The reference of 06_gqa against torch's enable_gqa, its flop counter, and transformers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from references import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.falcon.modeling_falcon import FalconAttention

gqa = load("06_gqa")

SEEDS = range(12)
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
DTYPES = [np.float64, np.float32]


class Draw:
    """Sizes, parameters and tokens of one random configuration."""

    def __init__(self, seed: int, dtype: Any = np.float64) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.G, self.R, self.B = (int(n) for n in self.rng.integers(1, 5, 3))
        self.C, self.D, self.D_v, self.T = (int(n) for n in self.rng.integers(1, 18, 4))
        self.S = self.T + int(self.rng.integers(0, 9))
        self.H = self.G * self.R

    def array(self, *shape: int) -> Any:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def qkv(self) -> list[Any]:
        keys = (self.B, self.G, self.S)
        return [self.array(self.B, self.H, self.T, self.D), self.array(*keys, self.D),
                self.array(*keys, self.D_v)]  # fmt: skip

    def params(self, n_kv_heads: int | None = None) -> dict[str, Any]:
        return gqa.init_params(
            self.rng,
            d_model=self.C,
            n_heads=self.H,
            n_kv_heads=n_kv_heads or self.G,
            head_dim=self.D,
            dtype=self.dtype,
        )


def sdpa(q: Any, k: Any, v: Any, *, causal: bool) -> Any:
    """torch's attention, in which it finds the groups itself."""
    q, k, v = (torch.from_numpy(a) for a in (q, k, v))
    T, S = q.shape[2], k.shape[2]
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T) if causal else None
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).numpy()


def torch_layer(params: dict[str, Any], x: Any) -> Any:
    """The layer of torch's linear maps and attention."""
    x = torch.from_numpy(x)

    def projected(name: str) -> Any:
        w, b = (torch.from_numpy(params[f"{kind}{name}"]) for kind in "wb")
        return F.linear(x, w.flatten(1).T, b.flatten()).unflatten(-1, b.shape).transpose(1, 2)

    q, k, v = (projected(name) for name in "qkv")
    heads = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    w, b = (torch.from_numpy(params[name]) for name in ("wo", "bo"))
    return F.linear(heads.transpose(1, 2).flatten(2), w.flatten(0, 1).T, b).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_groups_are_those_of_enable_gqa(seed: int, causal: bool, dtype: Any) -> None:
    """The output equals torch's, which finds a query head's key/value head by itself."""
    q, k, v = Draw(seed, dtype).qkv()

    saw = gqa.grouped_query_attention(q, k, v, causal=causal)

    want = sdpa(q, k, v, causal=causal)
    np.testing.assert_allclose(saw, want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_set_of_keys_is_one_group(seed: int, causal: bool) -> None:
    """multi_query_attention equals torch's attention with one key/value head."""
    q, k, v = Draw(seed).qkv()

    saw = gqa.multi_query_attention(q, k[:, 0], v[:, 0], causal=causal)

    want = sdpa(q, k[:, :1], v[:, :1], causal=causal)
    np.testing.assert_allclose(saw, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_layer_pieces_and_shards_are_the_layer_of_torch(seed: int, dtype: Any) -> None:
    """The layer, its pieces over a memory, and the sum of its shards equal torch's layer."""
    draw = Draw(seed, dtype)
    params, x = draw.params(), draw.array(draw.B, draw.T + 2, draw.C)
    memory = gqa.KVMemory(draw.B)
    cut = int(draw.rng.integers(1, draw.T + 2))

    layer = gqa.gqa_layer(params, x)
    pieces = [gqa.cached_layer(params, part, memory) for part in (x[:, :cut], x[:, cut:])]

    want = torch_layer(params, x)
    saws = [layer, np.concatenate(pieces, axis=1)]
    for n_ranks in range(1, draw.H + 1):
        if draw.H % n_ranks == 0 and (draw.G % n_ranks == 0 or n_ranks % draw.G == 0):
            shards = [gqa.shard_params(params, rank, n_ranks) for rank in range(n_ranks)]
            saws.append(sum(torch_layer(shard, x) for shard in shards))
    for saw in saws:
        assert saw.dtype == dtype
        np.testing.assert_allclose(saw, want, rtol=0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("seed", SEEDS)
def test_flops_are_those_that_torch_counts(seed: int) -> None:
    """weight_flops and cache_flops are what torch's counter says of the products of a step."""
    draw = Draw(seed)
    x = torch.from_numpy(draw.array(draw.B, draw.T, draw.C))
    H, G, D, S = draw.H, draw.G, draw.D, draw.S
    with FlopCounterMode(display=False) as weights:
        for columns in (H * D, G * D, G * D):
            F.linear(x, torch.zeros(columns, draw.C, dtype=x.dtype))
        F.linear(x.new_zeros(draw.B, draw.T, H * D), x.new_zeros(draw.C, H * D))
    with FlopCounterMode(display=False) as cache:
        q, k = x.new_zeros(draw.B, H, draw.T, D), x.new_zeros(draw.B, H, S, D)
        (q @ k.transpose(2, 3)) @ k

    cost = gqa.decode_cost(
        d_model=draw.C,
        n_heads=H,
        n_kv_heads=G,
        head_dim=D,
        lengths=[S] * draw.B,
        n_tokens=draw.T,
    )

    assert cost["weight_flops"] == weights.get_total_flops()
    assert cost["cache_flops"] == cache.get_total_flops()


@pytest.mark.parametrize("seed", range(8))
def test_bytes_are_those_of_a_layer_of_llama(seed: int) -> None:
    """weight_bytes and cache_bytes are those of transformers' Llama layer and its cache."""
    draw = Draw(seed, np.float32)
    D = 2 * draw.D
    config = transformers.LlamaConfig(
        vocab_size=11,
        hidden_size=draw.C * draw.H,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=draw.H,
        num_key_value_heads=draw.G,
        head_dim=D,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.zeros(draw.B, draw.S, dtype=torch.int64)
    cache = model(ids, use_cache=True).past_key_values

    cost = gqa.decode_cost(
        d_model=draw.C * draw.H,
        n_heads=draw.H,
        n_kv_heads=draw.G,
        head_dim=D,
        lengths=[draw.S] * draw.B,
        itemsize=4,
    )

    layer = model.model.layers[0].self_attn
    assert cost["weight_bytes"] == sum(p.nbytes for p in layer.parameters())
    assert cost["cache_bytes"] == sum(x.keys.nbytes + x.values.nbytes for x in cache.layers)


@pytest.mark.parametrize("seed", SEEDS)
def test_grouped_layout_is_that_of_falcon(seed: int) -> None:
    """The heads are those that transformers' Falcon splits off its fused projection."""
    draw = Draw(seed)
    H, G, D = draw.H, draw.G, draw.D
    config = transformers.FalconConfig(
        hidden_size=H * D,
        num_attention_heads=H,
        num_kv_heads=G,
        new_decoder_architecture=True,
    )
    w, b = draw.array(draw.C, (H + 2 * G) * D), draw.array((H + 2 * G) * D)

    saw = gqa.unpack_qkv(w, b, n_heads=H, n_kv_heads=G, layout="grouped")

    for kind, fused in (("w", w), ("b", b)):
        split = FalconAttention(config, layer_idx=0)._split_heads
        q, k, v = (a[0].numpy() for a in split(torch.from_numpy(fused.reshape(1, -1, len(b)))))
        for name, want in (("q", q), ("k", k[:, :: H // G]), ("v", v[:, :: H // G])):
            array = saw[f"{kind}{name}"]
            np.testing.assert_array_equal(array, want.reshape(array.shape))


@pytest.mark.parametrize("seed", SEEDS)
def test_concatenated_layout_is_a_split(seed: int) -> None:
    """The heads are those of torch.split with the widths of queries, keys and values."""
    draw = Draw(seed)
    H, G, D = draw.H, draw.G, draw.D
    w, b = draw.array(draw.C, (H + 2 * G) * D), draw.array((H + 2 * G) * D)

    saw = gqa.unpack_qkv(w, b, n_heads=H, n_kv_heads=G, layout="concatenated")

    for kind, fused in (("w", w), ("b", b)):
        parts = torch.split(torch.from_numpy(fused), [H * D, G * D, G * D], dim=-1)
        for name, want in zip("qkv", parts, strict=True):
            array = saw[f"{kind}{name}"]
            np.testing.assert_array_equal(array, want.numpy().reshape(array.shape))


@pytest.mark.parametrize("seed", SEEDS)
def test_dealt_out_heads_are_those_of_tiled_keys(seed: int) -> None:
    """After the reordering, the layer gives what tiled keys and values gave before it."""
    draw = Draw(seed)
    params, x = draw.params(), draw.array(draw.B, draw.T, draw.C)
    tiled = {
        name: torch.from_numpy(params[name]).repeat(*[1] * (params[name].ndim - 2), draw.R, 1)
        for name in ("wk", "bk", "wv", "bv")
    }

    saw = torch_layer(gqa.contiguous_groups(params), x)

    want = torch_layer(params | {name: a.numpy() for name, a in tiled.items()}, x)
    np.testing.assert_allclose(saw, want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("seed", SEEDS)
def test_pooling_is_average_pooling(seed: int) -> None:
    """The pooled parameters equal torch's average pooling along the axis of heads."""
    draw = Draw(seed)
    params = draw.params(n_kv_heads=draw.H)

    saw = gqa.mean_pool(params, draw.G)

    for name in ("wk", "bk", "wv", "bv"):
        heads_last = torch.from_numpy(params[name]).transpose(-1, -2).reshape(-1, 1, draw.H)
        want = F.avg_pool1d(heads_last, draw.R).numpy()
        got = saw[name].swapaxes(-1, -2).reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", SEEDS)
def test_aligned_heads_are_at_the_least_distance(seed: int) -> None:
    """The layer stays, and each squared distance is |A|² + |B|² - 2 · (nuclear norm of Aᵀ · B)."""
    draw = Draw(seed)
    params, x = draw.params(n_kv_heads=draw.H), draw.array(draw.B, draw.T, draw.C)

    new = gqa.align_heads(params, draw.G)

    np.testing.assert_allclose(torch_layer(new, x), torch_layer(params, x), rtol=0, atol=1e-10)
    for name in "kv":
        for h in range(draw.H):
            first = h // draw.R * draw.R
            a, b, turned = (
                torch.from_numpy(np.vstack([p[f"w{name}"][:, i], p[f"b{name}"][i]]))
                for p, i in ((params, h), (params, first), (new, h))
            )
            least = (a**2).sum() + (b**2).sum() - 2 * torch.linalg.matrix_norm(a.T @ b, "nuc")
            assert float(((turned - b) ** 2).sum()) == pytest.approx(float(least), abs=1e-10)
