"""Stub of 07_mla: attention whose cache holds one latent and one small key a token.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.

Arrays are float32 or float64. The arrays of one call share a dtype, the parameters' own, and that
is the dtype of the result. No argument is modified but ``kv_cache``, and that by the extend
functions alone.

Dimension key: B batch, T query positions, S key positions, C model width, H heads,
Dn and Dr width of a query or key without and with RoPE, Dv width of a value, L latent width,
Lq latent width of the queries (C where they are not compressed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Params = dict[str, Array]
ROPE_BASE = 10_000.0
NORM_EPS = 1e-6


def init_params(
    rng: np.random.Generator,
    *,
    d_model: int = 20,
    n_heads: int = 3,
    qk_nope_head_dim: int = 6,
    qk_rope_head_dim: int = 4,
    v_head_dim: int = 5,
    kv_lora_rank: int = 8,
    q_lora_rank: int | None = 7,
    dtype: Any = np.float64,
) -> Params:
    """Random parameters, scaled so that activations stay near 1. Given.

    A dict of arrays of one floating dtype. The comments below are the shapes; every size is read
    off them. Where queries are not compressed, w_dq and q_norm are not there.

    >>> params = init_params(np.random.default_rng(0), q_lora_rank=None)
    >>> params["w_uk"].shape, params["w_uq"].shape, "w_dq" in params
    ((8, 3, 6), (20, 3, 10), False)
    """

    def normal(*shape: int, fan_in: int) -> Array:
        return (rng.standard_normal(shape) / math.sqrt(fan_in)).astype(dtype)

    def gain(width: int) -> Array:
        return (1 + 0.1 * rng.standard_normal(width)).astype(dtype)

    compressed, width = {}, d_model
    if q_lora_rank is not None:
        width = q_lora_rank
        compressed["w_dq"] = normal(d_model, q_lora_rank, fan_in=d_model)  # (C, Lq)
        compressed["q_norm"] = gain(q_lora_rank)  # (Lq,)
    H, Dn, Dr, Dv, L = n_heads, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, kv_lora_rank
    return compressed | {
        "w_uq": normal(width, H, Dn + Dr, fan_in=width),  # (Lq, H, Dn + Dr), or (C, H, Dn + Dr)
        "w_dkv": normal(d_model, L, fan_in=d_model),  # (C, L)
        "kv_norm": gain(L),  # (L,)
        "w_kr": normal(d_model, Dr, fan_in=d_model),  # (C, Dr)
        "w_uk": normal(L, H, Dn, fan_in=L),  # (L, H, Dn)
        "w_uv": normal(L, H, Dv, fan_in=L),  # (L, H, Dv)
        "w_o": normal(H, Dv, d_model, fan_in=H * Dv),  # (H, Dv, C)
    }


def rms_norm(x: Array, gain: Array) -> Array:
    """x / sqrt(mean(x²) + eps) · gain over the last axis. (..., L) -> (..., L). Given.

    >>> rms_norm(np.array([3.0, -3.0]), np.array([1.0, 2.0])).round(3)
    array([ 1., -2.])
    """
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * gain


def rope(x: Array, positions: Array) -> Array:
    """Rotate each vector of x (..., Dr) by its position, half layout. -> (..., Dr). Given.

    Elements i and i + Dr/2 turn together, by ``position · θ_i`` radians. positions: integers that
    broadcast against x.shape[:-1]; vectors of different heads count as different vectors.

    >>> rope(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])).round(3)  # θ = 1
    array([[1.   , 0.   ],
           [0.54 , 0.841]])
    """
    half = x.shape[-1] // 2
    theta = ROPE_BASE ** (-np.arange(half) / half)  # (Dr/2,)
    angle = np.asarray(positions)[..., None] * theta  # (..., Dr/2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


# Stage 1: latents.


def compress(params: Params, x: Array) -> Array:
    """The latent of each token, normed.

    x: (..., C).
    Returns: (..., L).

    >>> eye, ones = np.eye(2), np.ones(2)
    >>> compress({"w_dkv": eye, "kv_norm": ones}, np.array([3.0, -3.0])).round(3)
    array([ 1., -1.])
    """
    # TODO stage 1: one projection and its norm.
    raise NotImplementedError("07_mla, stage 1")


def expand(params: Params, latents: Array) -> tuple[Array, Array]:
    """What the latents of tokens stand for: the keys without RoPE and the values of every head.

    latents: (..., L), as compress makes them.
    Returns: keys (..., H, Dn) and values (..., H, Dv).

    >>> w_uk = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0]])[:, None]  # L = 3, one head, Dn = 2
    >>> w_uv = np.array([1.0, 1.0, 0.0])[:, None, None]  # Dv = 1
    >>> k, v = expand({"w_uk": w_uk, "w_uv": w_uv}, np.array([1.0, -1.0, 2.0]))
    >>> k.tolist(), v.tolist()
    ([[-1.0, 1.0]], [[0.0]])
    """
    # TODO stage 1: both up-projections.
    raise NotImplementedError("07_mla, stage 1")


def queries(params: Params, x: Array) -> tuple[Array, Array]:
    """The queries of every head, in two parts, neither of them rotated.

    x: (..., C).
    Returns: (..., H, Dn), which meets the keys of expand, and (..., H, Dr), which will be
    rotated. In w_uq the Dn come first.

    >>> params = init_params(np.random.default_rng(0))
    >>> q_nope, q_rope = queries(params, np.ones((2, 20)))
    >>> q_nope.shape, q_rope.shape
    ((2, 3, 6), (2, 3, 4))
    """
    # TODO stage 1: with and without w_dq.
    raise NotImplementedError("07_mla, stage 1")


# Stage 2: attention with decoupled RoPE.


def shared_key(params: Params, x: Array, positions: Array) -> Array:
    """The rotated key that each token has for all heads together.

    x: (..., C), inputs of the layer. positions: integers that broadcast against x.shape[:-1].
    Returns: (..., Dr).

    >>> params = {"w_kr": np.array([[1.0, 0.0]])}
    >>> shared_key(params, np.ones((2, 1)), np.array([0, 1])).round(3)
    array([[1.   , 0.   ],
           [0.54 , 0.841]])
    """
    # TODO stage 2.
    raise NotImplementedError("07_mla, stage 2")


def forward(params: Params, x: Array) -> Array:
    """Causal attention over a batch of sequences, from scratch.

    x: (B, T, C), B and T at least 1; tokens at positions 0 to T - 1.
    Returns: (B, T, C).

    >>> params = init_params(np.random.default_rng(0))
    >>> forward(params, np.ones((2, 3, 20))).shape
    (2, 3, 20)
    """
    # TODO stage 2: the attention of the spec, all positions at once.
    raise NotImplementedError("07_mla, stage 2")


# Stage 3: a cache of latents.


def init_cache(params: Params, *, batch: int, capacity: int) -> Array:
    """The slots of a cache without tokens.

    Returns: (batch, capacity, L + Dr) in the dtype of the parameters. A slot is one token: first
    the latent as compress gives it, then the key as shared_key gives it. What the slots hold
    before a token is written to them means nothing.

    >>> init_cache(init_params(np.random.default_rng(0)), batch=2, capacity=5).shape
    (2, 5, 12)
    """
    # TODO stage 3.
    raise NotImplementedError("07_mla, stage 3")


def extend_naive(params: Params, x: Array, kv_cache: Array, lengths: Array) -> Array:
    """Append T tokens to each row of the cache, and attend with the keys and values of all heads.

    x: (B, T, C), B and T at least 1.
    kv_cache: (B, S, L + Dr), any array of that form; changed in place. Row b holds lengths[b]
    tokens in its first slots, and gets its new ones in the slots that follow. Slots beyond those
    hold anything, NaN included, and keep it.
    lengths: (B,) integers, how many tokens each row holds before the call, 0 or more. A token's
    position is the number of its slot. It is the caller who adds T afterwards.
    Returns: (B, T, C), the outputs at the new tokens.
    Raises: ValueError naming x where it is not (B, T, C) with B and T at least 1; lengths where
    it is not (B,) or a number is negative; kv_cache where it is not (B, S, L + Dr) or a row would
    hold more than S tokens. The cache is then as before.

    >>> params = init_params(np.random.default_rng(0))
    >>> x = np.random.default_rng(1).standard_normal((1, 4, 20))
    >>> kv_cache = init_cache(params, batch=1, capacity=4)
    >>> prompt = extend_naive(params, x[:, :3], kv_cache, np.array([0]))
    >>> token = extend_naive(params, x[:, 3:], kv_cache, np.array([3]))
    >>> bool(np.allclose(np.concatenate([prompt, token], axis=1), forward(params, x)))
    True
    """
    # TODO stage 3: write the slots, read all that is held, attend.
    raise NotImplementedError("07_mla, stage 3")


# Stage 4: absorbed projections.


def extend_absorbed(params: Params, x: Array, kv_cache: Array, lengths: Array) -> Array:
    """What extend_naive does and returns, without a key or a value of any cached token.

    Arguments, result, changes and errors are those of extend_naive.

    >>> params = init_params(np.random.default_rng(0))
    >>> x = np.random.default_rng(1).standard_normal((1, 4, 20))
    >>> kv_cache = init_cache(params, batch=1, capacity=4)
    >>> out = extend_absorbed(params, x, kv_cache, np.array([0]))
    >>> bool(np.allclose(out, forward(params, x)))
    True
    """
    # TODO stage 4: the latents themselves are attended to.
    raise NotImplementedError("07_mla, stage 4")


def multiply_adds(params: Params, *, n_new: int, n_held: int) -> dict[str, int]:
    """How many multiply-adds each way of extending takes, for one row, as the spec counts them.

    n_new: T, at least 1. n_held: tokens in the row before the call, 0 or more.
    Returns: {"naive": int, "absorbed": int}.

    >>> params = init_params(np.random.default_rng(0))  # H 3, Dn 6, Dr 4, Dv 5, L 8
    >>> multiply_adds(params, n_new=1, n_held=9)
    {'naive': 3090, 'absorbed': 864}
    """
    # TODO stage 4.
    raise NotImplementedError("07_mla, stage 4")


# Stage 5: a real checkpoint.


def from_checkpoint(state: Mapping[str, Array], *, n_heads: int) -> Params:
    """Parameters from the tensors of one attention layer of DeepSeek-V2 or V3.

    state: arrays by the names in the spec, each as torch keeps it, (outputs, inputs); other
    entries mean nothing. With ``q_proj.weight`` queries are not compressed. n_heads: H. All
    other sizes follow from the shapes.
    Returns: what init_params returns, in the dtype of the tensors: names, shapes, and numbers
    such that the functions of this file compute what the layer computes.
    Raises: ValueError naming n_heads where the shapes are not those of a layer with that many
    heads; naming a tensor that is missing, such as ``kv_b_proj.weight``.

    >>> C, H, Dn, Dr, Dv, L = 5, 2, 3, 4, 1, 6
    >>> shapes = {"q_proj": (H * (Dn + Dr), C), "kv_a_proj_with_mqa": (L + Dr, C)}
    >>> shapes |= {"kv_a_layernorm": (L,), "kv_b_proj": (H * (Dn + Dv), L), "o_proj": (C, H * Dv)}
    >>> state = {f"{name}.weight": np.ones(shape) for name, shape in shapes.items()}
    >>> params = from_checkpoint(state, n_heads=H)
    >>> params["w_uq"].shape, params["w_uk"].shape, params["w_uv"].shape, params["w_o"].shape
    ((5, 2, 7), (6, 2, 3), (6, 2, 1), (2, 1, 5))
    """
    # TODO stage 5.
    raise NotImplementedError("07_mla, stage 5")
