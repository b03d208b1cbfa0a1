"""The reference of 03_rope against the rotary embeddings of transformers, and against torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from references import load

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave
from transformers.models.gpt_neox.configuration_gpt_neox import GPTNeoXConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as apply_neox
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as apply_gptj
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as apply_llama

rope = load("03_rope")
SEEDS = range(8)
FLOAT32 = 1e-5  # transformers computes angles and sines in float32, whatever the model is


def draw(seed: int, *shape: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=shape)


def llama_tables(D: int, base: float, positions: np.ndarray) -> tuple[Any, Any]:
    config = LlamaConfig(
        hidden_size=D,
        num_attention_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    x = torch.zeros(1, dtype=torch.float64)
    return LlamaRotaryEmbedding(config)(x, torch.from_numpy(positions))


@pytest.mark.parametrize("seed", SEEDS)
def test_half_layout_is_that_of_llama(seed: int) -> None:
    """Rows of a batch at positions of their own, with any base."""
    rng, x = draw(seed, 2, 3, 5, 8)
    positions = rng.integers(0, 60, size=(2, 5))
    base = float(rng.choice([10_000.0, 500_000.0]))

    cos, sin = llama_tables(8, base, positions)
    want, _ = apply_llama(torch.from_numpy(x), torch.from_numpy(x), cos, sin)

    saw = rope.rope(x, positions[:, None], base=base)
    np.testing.assert_allclose(saw, want.numpy(), atol=FLOAT32)


@pytest.mark.parametrize("seed", SEEDS)
def test_part_of_a_head_is_that_of_gpt_neox(seed: int) -> None:
    """A quarter of each head is rotated, with the frequencies of that quarter."""
    _, x = draw(seed, 1, 2, 6, 16)
    config = GPTNeoXConfig(hidden_size=32, num_attention_heads=2)
    positions = np.arange(6)[None]
    cos, sin = GPTNeoXRotaryEmbedding(config)(torch.zeros(1).double(), torch.from_numpy(positions))

    rotary_dim = cos.shape[-1]
    want, _ = apply_neox(torch.from_numpy(x), torch.from_numpy(x), cos, sin)

    assert rotary_dim == 4
    np.testing.assert_allclose(
        rope.rope(x, np.arange(6), rotary_dim=rotary_dim), want.numpy(), atol=FLOAT32
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_interleaved_layout_is_that_of_gptj(seed: int) -> None:
    """GPT-J turns neighbours and leaves them where they are."""
    rng, x = draw(seed, 1, 5, 2, 8)  # GPT-J's order of axes: batch, position, head, width
    positions = rng.integers(0, 40, size=5)
    sin, cos = create_sinusoidal_positions(64, 8)[positions][None].double().chunk(2, dim=-1)

    want = apply_gptj(torch.from_numpy(x), sin, cos)

    saw = rope.rope(x, positions[:, None], layout="interleaved")
    np.testing.assert_allclose(saw, want.numpy(), atol=FLOAT32)


@pytest.mark.parametrize("seed", SEEDS)
def test_interleaved_scores_are_those_of_deepseek(seed: int) -> None:
    """DeepSeek-V3 hands its pairs back as halves, for queries and keys alike: same scores."""
    rng, q = draw(seed, 1, 2, 5, 8)
    k = rng.normal(size=q.shape)
    positions = np.arange(5)[None] + 11
    cos, sin = llama_tables(8, 10_000.0, positions)

    q_want, k_want = apply_rotary_pos_emb_interleave(
        torch.from_numpy(q), torch.from_numpy(k), cos, sin
    )

    want = (q_want @ k_want.transpose(-1, -2)).numpy() / np.sqrt(8)
    saw = rope.attention_scores(q, k, positions, positions, layout="interleaved")
    np.testing.assert_allclose(saw, want, atol=FLOAT32)


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_that_of_torch_on_rotated_arguments(seed: int) -> None:
    """Everything after the rotation agrees to float64."""
    rng, q = draw(seed, 2, 3, 4, 8)
    k, v = rng.normal(size=(2, 3, 6, 8)), rng.normal(size=(2, 3, 6, 5))
    at_q, at_k = np.arange(4) + 6, np.arange(6)

    turned = [torch.from_numpy(rope.rope(x, at)) for x, at in ((q, at_q), (k, at_k))]
    want = F.scaled_dot_product_attention(*turned, torch.from_numpy(v))

    np.testing.assert_allclose(rope.attend(q, k, v, at_q, at_k), want.numpy(), atol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_far_positions_agree_with_complex_numbers_in_float64(seed: int) -> None:
    """torch.polar on float64 angles, at positions up to a million."""
    rng, x = draw(seed, 6, 8)
    positions = rng.integers(0, 1_000_000, size=6)
    angles = positions[:, None] * rope.frequencies(8)

    turn = torch.polar(torch.ones(6, 4, dtype=torch.float64), torch.from_numpy(angles))
    want = torch.view_as_real(torch.view_as_complex(torch.from_numpy(x).reshape(6, 4, 2)) * turn)

    saw = rope.rope(x, positions, layout="interleaved")
    np.testing.assert_allclose(saw, want.reshape(6, 8).numpy(), atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_interleaved_checkpoint_runs_in_llamas_code(seed: int) -> None:
    """GPT-J's rotation of the original projections, Llama's of the converted ones: same scores."""
    rng, x = draw(seed, 5, 12)
    w_q, w_k = rng.normal(size=(2, 12, 3 * 8))
    sin, cos = create_sinusoidal_positions(64, 8)[:5][None].double().chunk(2, dim=-1)

    def project(w: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((x @ w).reshape(1, 5, 3, 8))  # batch, position, head, width

    q, k = (apply_gptj(project(w), sin, cos).transpose(1, 2) for w in (w_q, w_k))
    new = rope.convert_checkpoint(
        {"w_q": w_q, "w_k": w_k}, n_heads=3, n_kv_heads=3, source="interleaved", target="half"
    )
    tables = llama_tables(8, 10_000.0, np.arange(5)[None])
    new_q, new_k = apply_llama(
        project(new["w_q"]).transpose(1, 2), project(new["w_k"]).transpose(1, 2), *tables
    )

    want = (q @ k.transpose(-1, -2)).numpy()
    np.testing.assert_allclose((new_q @ new_k.transpose(-1, -2)).numpy(), want, atol=40 * FLOAT32)
