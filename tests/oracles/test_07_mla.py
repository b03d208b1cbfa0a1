"""The reference of 07_mla against transformers' DeepSeek-V3 and DeepSeek-V2."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from references import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention

transformers.logging.set_verbosity_error()
SEEDS = range(8)
DEEPSEEK = 1e-5  # transformers keeps norms, angles and softmax of its layers in float32
CLASSES = {
    "v3": (transformers.DeepseekV3Config, transformers.DeepseekV3ForCausalLM, DeepseekV3Attention),
    "v2": (transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM, DeepseekV2Attention),
}
VERSIONS = pytest.mark.parametrize("version", CLASSES)

mla = load("07_mla")


def draw(seed: int, version: str = "v3") -> tuple[np.random.Generator, Any]:
    """A random tiny model, its last layers mixtures of experts, with or without query latents."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    n_heads = int(rng.integers(1, 5))
    config, model, _ = CLASSES[version]
    made = model(
        config(
            vocab_size=61,
            hidden_size=n_heads * int(rng.integers(3, 7)),
            intermediate_size=int(rng.integers(3, 40)),
            moe_intermediate_size=int(rng.integers(3, 20)),
            num_hidden_layers=2,
            num_attention_heads=n_heads,
            num_key_value_heads=n_heads,
            n_shared_experts=1,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            first_k_dense_replace=1,
            kv_lora_rank=int(rng.integers(2, 20)),
            q_lora_rank=None if seed % 3 == 0 else int(rng.integers(2, 20)),
            qk_rope_head_dim=2 * int(rng.integers(1, 7)),
            qk_nope_head_dim=int(rng.integers(1, 12)),
            v_head_dim=int(rng.integers(1, 12)),
            rope_parameters={"rope_type": "default", "rope_theta": mla.ROPE_BASE},
            rms_norm_eps=mla.NORM_EPS,
            max_position_embeddings=256,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
            attn_implementation="eager",
            experts_implementation="eager",  # the default knows no float64
            **({"num_mtp_layers": 0} if version == "v3" else {}),
        )
    )
    for name, weight in made.named_parameters():
        if "layernorm" in name:  # gains of 1 would hide that they are used
            torch.nn.init.normal_(weight, 1.0, 0.2)
    return rng, made.to(torch.float64).eval().requires_grad_(False)


def params_of(attention: Any) -> dict[str, Any]:
    state = {name: w.numpy() for name, w in attention.state_dict().items()}
    return mla.from_checkpoint(state, n_heads=attention.config.num_attention_heads)


def attended(model: Any, x: Any, layer: int = 0, cache: Any = None, start: int = 0) -> Any:
    """What an attention layer of the model makes of x (B, T, C) after start tokens."""
    T, hidden = x.shape[1], torch.from_numpy(x)
    positions = start + torch.arange(T)[None]
    future = torch.arange(start + T) > positions[0, :, None]
    mask = torch.zeros(future.shape, dtype=hidden.dtype).masked_fill(future, -torch.inf)
    out = model.model.layers[layer].self_attn(
        hidden_states=hidden,
        position_embeddings=model.model.rotary_emb(hidden, positions),
        attention_mask=mask[None, None],
        past_key_values=cache,
        position_ids=positions,
    )[0]
    return out.numpy()


@VERSIONS
@pytest.mark.parametrize("seed", SEEDS)
def test_forward_is_the_attention_layer(seed: int, version: str) -> None:
    """The outputs equal those of DeepseekV3Attention and V2's, with their own tensors."""
    rng, model = draw(seed, version)
    params = params_of(model.model.layers[0].self_attn)
    x = rng.standard_normal((3, 17, model.config.hidden_size))

    saw = mla.forward(params, x)

    np.testing.assert_allclose(saw, attended(model, x), rtol=0, atol=DEEPSEEK)


@pytest.mark.parametrize("extend", ["extend_naive", "extend_absorbed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_pieces_follow_a_dynamic_cache(seed: int, extend: str) -> None:
    """Both ways of extending give the layer's outputs, and its cache the same numbers."""
    rng, model = draw(seed)
    params = params_of(model.model.layers[0].self_attn)
    x = rng.standard_normal((2, 12, model.config.hidden_size))
    ours = mla.init_cache(params, batch=2, capacity=12)
    theirs = transformers.DynamicCache(config=model.config)
    cuts = sorted(rng.choice(np.arange(1, 12), 3, replace=False).tolist())

    for start, stop in zip([0, *cuts], [*cuts, 12], strict=True):
        piece = x[:, start:stop]
        saw = getattr(mla, extend)(params, piece, ours, np.full(2, start))
        want = attended(model, piece, cache=theirs, start=start)

        np.testing.assert_allclose(saw, want, rtol=0, atol=DEEPSEEK)

    layer = theirs.layers[0]
    want = np.concatenate([layer.keys[:, 0].numpy(), layer.values[:, 0].numpy()], axis=-1)
    np.testing.assert_allclose(ours, want, rtol=0, atol=DEEPSEEK)
    assert ours.nbytes == layer.keys.nbytes + layer.values.nbytes


@VERSIONS
@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_generates_with_our_attention_in_its_place(
    seed: int, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefilled naive and decoded absorbed, the whole model has its own logits and tokens."""
    rng, model = draw(seed, version)
    ids = rng.integers(0, 61, (3, 7))
    want = model.generate(
        torch.from_numpy(ids),
        attention_mask=torch.ones(ids.shape),
        max_new_tokens=9,
        do_sample=False,
    )[:, 7:].numpy()
    logits = model(torch.from_numpy(np.concatenate([ids, want], axis=1))).logits.numpy()
    states = {}
    for layer in model.model.layers:
        params = params_of(layer.self_attn)
        states[layer.self_attn] = (params, mla.init_cache(params, batch=3, capacity=16))
    held = 0

    def forward(self: Any, hidden_states: Any, **_: Any) -> Any:
        params, cache = states[self]
        x = hidden_states.numpy()
        extend = mla.extend_absorbed if x.shape[1] == 1 else mla.extend_naive
        return torch.from_numpy(extend(params, x, cache, np.full(len(x), held))), None

    monkeypatch.setattr(CLASSES[version][2], "forward", forward)
    new, piece = [], ids
    while len(new) < 9:
        saw = model(torch.from_numpy(piece), use_cache=False).logits.numpy()
        held += piece.shape[1]
        np.testing.assert_allclose(saw[:, -1], logits[:, held - 1], rtol=0, atol=10 * DEEPSEEK)
        new.append(saw[:, -1].argmax(axis=-1))
        piece = new[-1][:, None]

    np.testing.assert_array_equal(np.stack(new, axis=1), want)


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_far_apart_give_the_rotation_of_complex_numbers(seed: int) -> None:
    """The shared key is that of the checkpoint's pairs as complex numbers, reordered."""
    rng, model = draw(seed)
    attention = model.model.layers[0].self_attn
    params, L = params_of(attention), model.config.kv_lora_rank
    x = torch.from_numpy(rng.standard_normal((2, 5, model.config.hidden_size)))
    positions = torch.from_numpy(rng.integers(0, 100_000, (2, 5)))

    saw = mla.shared_key(params, x.numpy(), positions.numpy())

    pairs = torch.view_as_complex(
        (x @ attention.kv_a_proj_with_mqa.weight[L:].T).unflatten(-1, (-1, 2))
    )
    theta = mla.ROPE_BASE ** (-torch.arange(pairs.shape[-1], dtype=torch.float64) / pairs.shape[-1])
    angle = positions[..., None] * theta
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    want = torch.cat([turned.real, turned.imag], dim=-1).numpy()
    np.testing.assert_allclose(saw, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("seed", SEEDS)
def test_both_ways_are_torch_attention_in_full_precision(
    seed: int, dtype: Any, atol: float
) -> None:
    """Outputs equal those of torch's own norm and attention, in either dtype."""
    rng = np.random.default_rng(seed)
    sizes = {"n_heads": int(rng.integers(1, 5)), "kv_lora_rank": int(rng.integers(2, 20))}
    params = mla.init_params(rng, q_lora_rank=[None, 9][seed % 2], dtype=dtype, **sizes)
    x = rng.standard_normal((2, 11, 20)).astype(dtype)
    cache = mla.init_cache(params, batch=2, capacity=11)

    saw = [
        mla.extend_absorbed(params, x[:, :6], cache, np.zeros(2, np.int64)),
        mla.extend_absorbed(params, x[:, 6:], cache, np.full(2, 6)),
    ]

    w, h = {name: torch.from_numpy(a) for name, a in params.items()}, torch.from_numpy(x)
    rms = torch.nn.functional.rms_norm
    c = rms(h @ w["w_dkv"], w["kv_norm"].shape, w["kv_norm"], mla.NORM_EPS)
    q = rms(h @ w["w_dq"], w["q_norm"].shape, w["q_norm"], mla.NORM_EPS) if "w_dq" in w else h
    q = torch.einsum("btl,lhd->bhtd", q, w["w_uq"])
    at = np.arange(11)
    q_rope = torch.from_numpy(mla.rope(q[..., 6:].numpy(), at))
    k_rope = torch.from_numpy(mla.rope((h @ w["w_kr"]).numpy(), at))[:, None]
    k = torch.einsum("btl,lhd->bhtd", c, w["w_uk"])
    out = torch.nn.functional.scaled_dot_product_attention(
        torch.cat([q[..., :6], q_rope], dim=-1),
        torch.cat([k, k_rope.expand(-1, k.shape[1], -1, -1)], dim=-1),
        torch.einsum("btl,lhd->bhtd", c, w["w_uv"]),
        is_causal=True,
    )
    want = torch.einsum("bhtd,hdc->btc", out, w["w_o"]).numpy()
    np.testing.assert_allclose(np.concatenate(saw, axis=1), want, rtol=0, atol=atol)
    np.testing.assert_allclose(mla.forward(params, x), want, rtol=0, atol=atol)
