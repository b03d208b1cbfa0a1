"""The reference of 02_attention against torch's attention, its layer, and autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import load
from torch.nn.attention.bias import causal_lower_right

attention = load("02_attention")

SEEDS = range(12)
NAMES = ("q", "k", "v")
TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
DTYPES = [np.float64, np.float32]


class Draw:
    """Sizes and arrays of one random configuration."""

    def __init__(self, seed: int, dtype: Any = np.float64) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.lead = tuple(int(n) for n in self.rng.integers(1, 4, 2))
        self.T, self.S, self.D, self.D_v = (int(n) for n in self.rng.integers(1, 18, 4))

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k and v."""
        rows = ((self.T, self.D), (self.S, self.D), (self.S, self.D_v))
        q, k, v = (self.normal(*self.lead, *shape) for shape in rows)
        return q, k, v

    def mask(self) -> np.ndarray:
        """A mask that leaves some queries without keys, of one of the usual shapes."""
        batch, heads = self.lead
        shapes = [
            (self.T, self.S),
            (batch, 1, 1, self.S),
            (batch, 1, self.T, self.S),
            (batch, heads, self.T, self.S),
        ]
        mask = self.rng.random(shapes[int(self.rng.integers(4))]) < 0.6
        mask[..., -1, :] &= self.rng.random() < 0.5
        return mask

    def layer(self) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
        """Tokens and parameters that nn.MultiheadAttention can hold: C = H·D."""
        n_heads = int(self.rng.integers(1, 5))
        width = n_heads * self.D
        x = self.normal(self.lead[0], self.T, width)
        params = {}
        for name in "qkvo":
            params[f"w_{name}"] = self.normal(width, width) / self.dtype(width**0.5)
            params[f"b_{name}"] = self.normal(width)
        return x, params, n_heads


def leaf(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, requires_grad=True)


def assert_close(ours: np.ndarray, theirs: torch.Tensor | None, dtype: Any) -> None:
    assert theirs is not None
    assert ours.dtype == dtype
    wanted = theirs.detach().numpy()
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=scale * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_that_of_torch(seed: int, dtype: Any) -> None:
    """Without a mask, for sizes of all kinds, with the default scale and with others."""
    draw = Draw(seed, dtype)
    q, k, v = draw.inputs()
    scale = [None, 0.3, -1.5][seed % 3]

    ours = attention.attention(q, k, v, scale=scale)

    theirs = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), scale=scale)
    assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_masks_mean_what_torch_takes_them_for(seed: int, dtype: Any) -> None:
    """True allows, masks broadcast, and torch gives zeros to a query without keys too."""
    draw = Draw(seed, dtype)
    q, k, v = draw.inputs()
    mask = draw.mask()

    ours = attention.attention(q, k, v, mask=mask)

    tensors = map(torch.tensor, (q, k, v))
    theirs = F.scaled_dot_product_attention(*tensors, attn_mask=torch.tensor(mask))
    assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_causal_order_is_that_of_causal_lower_right(seed: int) -> None:
    """With fewer queries than keys the last query sees all keys."""
    draw = Draw(seed)
    draw.S += draw.T
    q, k, v = draw.inputs()

    ours = attention.attention(q, k, v, causal=True)

    bias = causal_lower_right(draw.T, draw.S)
    theirs = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), attn_mask=bias)
    assert_close(ours, theirs, np.float64)


@pytest.mark.parametrize("seed", SEEDS)
def test_causal_order_of_a_square_is_that_of_is_causal(seed: int) -> None:
    """Where T = S both conventions say the same."""
    draw = Draw(seed)
    draw.S = draw.T
    q, k, v = draw.inputs()

    ours = attention.attention(q, k, v, causal=True)

    theirs = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), is_causal=True)
    assert_close(ours, theirs, np.float64)


def test_is_causal_starts_at_the_top_left() -> None:
    """The trap that the spec warns of: torch lets query 0 see key 0 alone, whatever S is."""
    q, k, v = np.zeros((1, 4)), np.zeros((3, 4)), np.array([[6.0], [3.0], [0.0]])

    ours = attention.attention(q, k, v, causal=True)

    theirs = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), is_causal=True)
    assert theirs.item() == pytest.approx(v[0].item())
    assert ours.item() == pytest.approx(v.mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_float16_is_float32_rounded_once(seed: int) -> None:
    """The result is torch's in float32 on the same numbers, to half a unit of float16."""
    draw = Draw(seed, np.float16)
    q, k, v = draw.inputs()

    ours = attention.attention(4 * q, 4 * k, v)

    wide = (torch.tensor(array).float() for array in (4 * q, 4 * k, v))
    theirs = F.scaled_dot_product_attention(*wide).numpy()
    assert ours.dtype == np.float16
    np.testing.assert_allclose(ours.astype(np.float32), theirs, rtol=2**-11, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_those_of_autograd(seed: int, dtype: Any) -> None:
    """Under masks that leave queries without keys, with the default scale and with others."""
    draw = Draw(seed, dtype)
    arrays = draw.inputs()
    mask, scale = draw.mask(), [None, 0.7][seed % 2]
    d_out = draw.normal(*draw.lead, draw.T, draw.D_v)

    ours = attention.attention_backward(d_out, *arrays, mask=mask, scale=scale)

    leaves = [leaf(array) for array in arrays]
    out = F.scaled_dot_product_attention(*leaves, attn_mask=torch.tensor(mask), scale=scale)
    out.backward(torch.tensor(d_out))
    for gradient, tensor in zip(ours, leaves, strict=True):
        assert_close(gradient, tensor.grad, dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_causal_gradients_are_those_of_autograd(seed: int) -> None:
    """Also where T > S, so that the first queries see nothing."""
    draw = Draw(seed)
    arrays = draw.inputs()
    d_out = draw.normal(*draw.lead, draw.T, draw.D_v)

    ours = attention.attention_backward(d_out, *arrays, causal=True)

    leaves = [leaf(array) for array in arrays]
    past = torch.ones(draw.T, draw.S, dtype=torch.bool).tril(draw.S - draw.T)
    F.scaled_dot_product_attention(*leaves, attn_mask=past).backward(torch.tensor(d_out))
    for gradient, tensor in zip(ours, leaves, strict=True):
        assert_close(gradient, tensor.grad, np.float64)


def torch_layer(params: dict[str, np.ndarray], n_heads: int) -> torch.nn.MultiheadAttention:
    """nn.MultiheadAttention with our parameters: transposed, q, k and v packed into one."""
    width = params["b_o"].size
    module = torch.nn.MultiheadAttention(width, n_heads, batch_first=True)
    module.to(torch.tensor(params["w_q"]).dtype)
    with torch.no_grad():
        packed = np.concatenate([params[f"w_{name}"].T for name in "qkv"])
        module.in_proj_weight.copy_(torch.tensor(packed))
        biases = np.concatenate([params[f"b_{name}"] for name in "qkv"])
        module.in_proj_bias.copy_(torch.tensor(biases))
        module.out_proj.weight.copy_(torch.tensor(params["w_o"].T))
        module.out_proj.bias.copy_(torch.tensor(params["b_o"]))
    return module


def layer_options(draw: Draw, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same mask for us and for torch's layer, where True forbids."""
    batch, length = draw.lead[0], draw.T
    real = np.arange(length) < draw.rng.integers(1, length + 1, (batch, 1))  # (B, T)
    future = ~np.tri(length, dtype=bool)
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"causal": True}, {"attn_mask": torch.tensor(future)}),
        ({"mask": real[:, None, None]}, {"key_padding_mask": torch.tensor(~real)}),
        (
            {"mask": real[:, None, None], "causal": True},
            {"attn_mask": torch.tensor(future), "key_padding_mask": torch.tensor(~real)},
        ),
    ]
    return kinds[seed % 4]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_layer_is_that_of_torch(seed: int, dtype: Any) -> None:
    """Plain, causal, padded, and both."""
    draw = Draw(seed, dtype)
    x, params, n_heads = draw.layer()
    options, torch_options = layer_options(draw, seed)

    ours = attention.multi_head_attention(x, params, n_heads=n_heads, **options)

    tokens = torch.tensor(x)
    module = torch_layer(params, n_heads)
    theirs, _ = module(tokens, tokens, tokens, need_weights=False, **torch_options)
    assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_of_the_layer_are_those_of_autograd(seed: int, dtype: Any) -> None:
    """For the tokens and for all eight parameters."""
    draw = Draw(seed, dtype)
    x, params, n_heads = draw.layer()
    options, torch_options = layer_options(draw, seed)
    d_out = draw.normal(*x.shape)

    d_x, d_params = attention.multi_head_attention_backward(
        d_out, x, params, n_heads=n_heads, **options
    )

    tokens = leaf(x)
    module = torch_layer(params, n_heads)
    out, _ = module(tokens, tokens, tokens, need_weights=False, **torch_options)
    out.backward(torch.tensor(d_out))
    assert_close(d_x, tokens.grad, dtype)
    weights = module.in_proj_weight.grad
    biases = module.in_proj_bias.grad
    assert weights is not None
    assert biases is not None
    for name, weight, bias in zip("qkv", weights.chunk(3), biases.chunk(3), strict=True):
        assert_close(d_params[f"w_{name}"].T, weight, dtype)
        assert_close(d_params[f"b_{name}"], bias, dtype)
    assert_close(d_params["w_o"].T, module.out_proj.weight.grad, dtype)
    assert_close(d_params["b_o"], module.out_proj.bias.grad, dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_layer_of_other_inner_width_is_the_one_written_out_in_torch(seed: int) -> None:
    """H·D need not be C, and float64 gradients agree through the whole layer."""
    draw = Draw(seed)
    n_heads, width = 3, 7
    inner = n_heads * draw.D
    x = draw.normal(draw.lead[0], draw.T, width)
    shapes = {**dict.fromkeys(("w_q", "w_k", "w_v"), (width, inner)), "w_o": (inner, width)}
    shapes |= {**dict.fromkeys(("b_q", "b_k", "b_v"), (inner,)), "b_o": (width,)}
    params = {name: draw.normal(*shape) / 4 for name, shape in shapes.items()}
    d_out = draw.normal(*x.shape)

    out = attention.multi_head_attention(x, params, n_heads=n_heads, causal=True)
    d_x, d_params = attention.multi_head_attention_backward(
        d_out, x, params, n_heads=n_heads, causal=True
    )

    tokens = leaf(x)
    leaves = {name: leaf(array) for name, array in params.items()}
    heads = (
        (tokens @ leaves[f"w_{name}"] + leaves[f"b_{name}"]).unflatten(2, (n_heads, -1))
        for name in NAMES
    )
    q, k, v = (head.transpose(1, 2) for head in heads)
    merged = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    theirs = merged @ leaves["w_o"] + leaves["b_o"]
    theirs.backward(torch.tensor(d_out))
    assert_close(out, theirs, np.float64)
    assert_close(d_x, tokens.grad, np.float64)
    for name, tensor in leaves.items():
        assert_close(d_params[name], tensor.grad, np.float64)
