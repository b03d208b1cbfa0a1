"""The reference of 04_kv_cache against transformers' Llama and its caches, and against torch."""

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

transformers.logging.set_verbosity_error()
SEEDS = range(8)
LLAMA = 1e-5  # transformers keeps the norms' and the rotations' numbers in float32

kv = load("04_kv_cache")


def draw(seed: int, dtype: Any = np.float64) -> tuple[np.random.Generator, dict[str, Any]]:
    """Parameters of a random size: heads that share keys and heads that do not.

    LlamaConfig wants a width that the number of heads divides, though nothing depends on it.
    """
    rng = np.random.default_rng(seed)
    n_kv_heads = int(rng.integers(1, 4))
    n_heads = n_kv_heads * int(rng.integers(1, 4))
    params = kv.init_params(
        rng,
        n_layers=int(rng.integers(1, 4)),
        d_model=n_heads * int(rng.integers(3, 7)),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=2 * int(rng.integers(1, 9)),
        d_ff=int(rng.integers(3, 50)),
        vocab_size=61,
        dtype=dtype,
    )
    return rng, params


def llama(params: dict[str, Any]) -> Any:
    """transformers' model of the same size with the same parameters."""
    C, H, D = params["layers"][0]["wq"].shape
    config = transformers.LlamaConfig(
        vocab_size=len(params["embed"]),
        hidden_size=C,
        intermediate_size=params["layers"][0]["w_gate"].shape[1],
        num_hidden_layers=len(params["layers"]),
        num_attention_heads=H,
        num_key_value_heads=params["layers"][0]["wk"].shape[1],
        head_dim=D,
        rms_norm_eps=kv.NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": kv.ROPE_BASE},
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",  # "eager" makes NaN of left padding in float64
    )
    model = transformers.LlamaForCausalLM(config)
    model.to(torch.from_numpy(params["embed"]).dtype)
    model.load_state_dict({name: torch.from_numpy(w) for name, w in state(params)}, strict=True)
    return model.eval().requires_grad_(False)


def state(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """The parameters under transformers' names: torch's linear layers are (out, in)."""

    def linear(w: Any, inputs: int = 1) -> Any:
        return np.ascontiguousarray(w.reshape(int(np.prod(w.shape[:inputs])), -1).T)

    found = [
        ("model.embed_tokens.weight", params["embed"]),
        ("model.norm.weight", params["norm"]),
        ("lm_head.weight", linear(params["head"])),
    ]
    for index, layer in enumerate(params["layers"]):
        named = {
            "input_layernorm": layer["attn_norm"],
            "post_attention_layernorm": layer["mlp_norm"],
            "self_attn.q_proj": linear(layer["wq"]),
            "self_attn.k_proj": linear(layer["wk"]),
            "self_attn.v_proj": linear(layer["wv"]),
            "self_attn.o_proj": linear(layer["wo"], inputs=2),
            "mlp.gate_proj": linear(layer["w_gate"]),
            "mlp.up_proj": linear(layer["w_up"]),
            "mlp.down_proj": linear(layer["w_down"]),
        }
        found += [(f"model.layers.{index}.{name}.weight", w) for name, w in named.items()]
    return found


def logits(model: Any, ids: Any, **kwargs: Any) -> Any:
    return model(torch.from_numpy(ids), **kwargs).logits.numpy()


def torch_forward(params: dict[str, Any], ids: Any) -> Any:
    """The decoder of torch's own functions in full precision, rotations as complex numbers."""
    p = {k: torch.from_numpy(v) for k, v in params.items() if k != "layers"}
    x = F.embedding(torch.from_numpy(ids), p["embed"])
    C, T = x.shape[-1], x.shape[1]
    for layer in params["layers"]:
        w = {k: torch.from_numpy(v) for k, v in layer.items()}
        half = w["wq"].shape[-1] // 2
        theta = kv.ROPE_BASE ** (-torch.arange(half, dtype=x.dtype) / half)
        turn = torch.polar(torch.ones(T, half, dtype=x.dtype), torch.outer(torch.arange(T), theta))

        def rotated(heads: Any, turn: Any = turn, half: int = half) -> Any:
            turned = torch.complex(heads[..., :half], heads[..., half:]) * turn
            return torch.cat([turned.real, turned.imag], dim=-1)

        h = F.rms_norm(x, (C,), w["attn_norm"], kv.NORM_EPS)
        q, k, v = (torch.einsum("btc,chd->bhtd", h, w[name]) for name in ("wq", "wk", "wv"))
        out = F.scaled_dot_product_attention(
            rotated(q), rotated(k), v, is_causal=True, enable_gqa=True
        )
        x = x + torch.einsum("bhtd,hdc->btc", out, w["wo"])
        h = F.rms_norm(x, (C,), w["mlp_norm"], kv.NORM_EPS)
        x = x + (F.silu(h @ w["w_gate"]) * (h @ w["w_up"])) @ w["w_down"]
    return (F.rms_norm(x, (C,), p["norm"], kv.NORM_EPS) @ p["head"]).numpy()


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_decoder_of_torch_functions(seed: int, dtype: Any, atol: float) -> None:
    """The logits equal those of torch's own norm, attention and activation, in either dtype."""
    rng, params = draw(seed, dtype)
    ids = rng.integers(0, 61, (3, 11))

    saw = kv.forward(params, ids)

    assert saw.dtype == dtype
    np.testing.assert_allclose(saw, torch_forward(params, ids), rtol=0, atol=atol)


@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_llama(seed: int) -> None:
    """The logits equal those of LlamaForCausalLM with the same parameters."""
    rng, params = draw(seed)
    ids = rng.integers(0, 61, (2, 23))

    saw = kv.forward(params, ids)

    np.testing.assert_allclose(saw, logits(llama(params), ids), rtol=0, atol=LLAMA)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_and_steps_follow_the_caches_of_transformers(seed: int, kind: str) -> None:
    """Any split of a sequence gives the logits and lengths of DynamicCache and StaticCache."""
    rng, params = draw(seed)
    model = llama(params)
    ids = rng.integers(0, 61, (2, 12))
    cuts = sorted(rng.choice(np.arange(1, 12), 3, replace=False).tolist())
    ours = kv.KVCache(params, batch=2, capacity=16)
    theirs = (
        transformers.DynamicCache(config=model.config)
        if kind == "dynamic"
        else transformers.StaticCache(config=model.config, max_cache_len=16)
    )

    for start, stop in zip([0, *cuts], [*cuts, 12], strict=True):
        saw = kv.prefill(params, ids[:, start:stop], ours)
        want = logits(model, ids[:, start:stop], past_key_values=theirs)[:, -1]

        np.testing.assert_allclose(saw, want, rtol=0, atol=LLAMA)
        assert ours.lengths.tolist() == [int(theirs.get_seq_length())] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_bytes_are_those_of_a_static_cache(seed: int, dtype: Any) -> None:
    """nbytes is what StaticCache allocates for the same model, batch and capacity."""
    rng, params = draw(seed, dtype)
    model = llama(params)
    batch, capacity = (int(n) for n in rng.integers(1, 20, 2))
    theirs = transformers.StaticCache(config=model.config, max_cache_len=capacity)
    logits(model, np.zeros((batch, 1), np.int64), past_key_values=theirs)

    ours = kv.KVCache(params, batch=batch, capacity=capacity)

    assert ours.nbytes == sum(t.nbytes for x in theirs.layers for t in (x.keys, x.values))


@pytest.mark.parametrize("seed", SEEDS)
def test_generate_is_greedy_generation(seed: int) -> None:
    """The tokens equal those of transformers' generate, with and without a cache."""
    rng, params = draw(seed)
    ids = rng.integers(0, 61, (3, 7))

    saw = kv.generate(params, ids, 20)

    want = llama(params).generate(
        torch.from_numpy(ids),
        attention_mask=torch.ones(ids.shape),  # else id 0, the padding, is masked
        max_new_tokens=20,
        do_sample=False,
    )
    np.testing.assert_array_equal(saw, want[:, 7:].numpy())
    np.testing.assert_array_equal(kv.generate_naive(params, ids, 20), saw)


@pytest.mark.parametrize("seed", SEEDS)
def test_ragged_rows_are_generated_as_by_a_masked_batch(seed: int) -> None:
    """The tokens equal those of transformers' generate on a batch padded on the other side."""
    rng, params = draw(seed)
    model = llama(params)
    prompts = [rng.integers(0, 61, n) for n in rng.integers(1, 12, 5)]
    # An id that some row generates, so that rows end at different steps.
    eos_id = int(kv.generate(params, prompts[0][None], 6)[0, -1])
    width = max(len(prompt) for prompt in prompts)
    ids = np.stack([np.pad(prompt, (width - len(prompt), 0)) for prompt in prompts])
    mask = np.stack([np.arange(width) >= width - len(prompt) for prompt in prompts])

    saw = kv.generate_batch(params, prompts, 15, eos_id=eos_id)

    want = model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask.astype(np.int64)),
        max_new_tokens=15,
        do_sample=False,
        eos_token_id=eos_id,
        pad_token_id=0,
    )[:, width:].numpy()
    for row, other in zip(saw, want, strict=True):
        np.testing.assert_array_equal(row, other[: len(row)])
        assert len(row) == other.size or row[-1] == eos_id
