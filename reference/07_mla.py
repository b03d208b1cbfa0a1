"""Multi-head latent attention, with a cache of latents that is read expanded or absorbed.

DeepSeek-AI 2024, "DeepSeek-V2", arXiv 2405.04434, section 2.1, equations 9 to 19. The norms on
the latents and the names in a checkpoint are those of the released models.
Differs from the paper in that W_UQ and W_QR are one array, as they are in a checkpoint, and in
that rows of a batch may hold different numbers of tokens.

Dimension key: B batch, T query positions, S key positions, C model width, H heads,
Dn and Dr width of a query or key without and with RoPE, Dv width of a value, L latent width,
Lq latent width of the queries (C where they are not compressed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
    """Random parameters, scaled so that activations stay near 1. The comments are the shapes."""

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
    """x / sqrt(mean(x²) + eps) · gain over the last axis. (..., L) -> (..., L)"""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * gain


def rope(x: Array, positions: Array) -> Array:
    """Rotate x (..., Dr), half layout; positions broadcast against x.shape[:-1]. -> (..., Dr)"""
    half = x.shape[-1] // 2
    theta = ROPE_BASE ** (-np.arange(half) / half)  # (Dr/2,)
    angle = np.asarray(positions)[..., None] * theta  # (..., Dr/2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def compress(params: Params, x: Array) -> Array:
    """The latent that keys and values are made of, normed. (..., C) -> (..., L)"""
    # c = norm(W_DKV · h), equation 9
    return rms_norm(x @ params["w_dkv"], params["kv_norm"])


def expand(params: Params, latents: Array) -> tuple[Array, Array]:
    """Keys without position and values of every head. (..., L) -> (..., H, Dn), (..., H, Dv)"""
    # k = W_UK · c and v = W_UV · c, equations 10 and 11
    return _heads(latents, params["w_uk"]), _heads(latents, params["w_uv"])


def queries(params: Params, x: Array) -> tuple[Array, Array]:
    """Queries before any rotation. (..., C) -> (..., H, Dn), (..., H, Dr)"""
    if "w_dq" in params:  # equation 12
        x = rms_norm(x @ params["w_dq"], params["q_norm"])  # (..., Lq)
    q = _heads(x, params["w_uq"])  # (..., H, Dn + Dr), equations 13 and 14
    Dn = params["w_uk"].shape[2]
    return q[..., :Dn], q[..., Dn:]


def shared_key(params: Params, x: Array, positions: Array) -> Array:
    """The one rotated key of each token, for all heads. (..., C) -> (..., Dr)"""
    # k = RoPE(W_KR · h), equation 15
    return rope(x @ params["w_kr"], positions)


def forward(params: Params, x: Array) -> Array:
    """Causal attention from scratch. (B, T, C) -> (B, T, C)"""
    cache = init_cache(params, batch=x.shape[0], capacity=x.shape[1])
    return extend_naive(params, x, cache, np.zeros(len(x), np.int64))


def init_cache(params: Params, *, batch: int, capacity: int) -> Array:
    """Slots for latent and shared key of each token. (batch, capacity, L + Dr)"""
    width = params["w_dkv"].shape[1] + params["w_kr"].shape[1]
    return np.zeros((batch, capacity, width), params["w_dkv"].dtype)


def extend_naive(params: Params, x: Array, kv_cache: Array, lengths: Array) -> Array:
    """Append T tokens to each row and attend with keys and values. (B, T, C) -> (B, T, C)"""
    return _extend(params, x, kv_cache, lengths, _attend_expanded)


def extend_absorbed(params: Params, x: Array, kv_cache: Array, lengths: Array) -> Array:
    """The same output from the latents themselves. (B, T, C) -> (B, T, C)"""
    return _extend(params, x, kv_cache, lengths, _attend_absorbed)


def multiply_adds(params: Params, *, n_new: int, n_held: int) -> dict[str, int]:
    """Multiply-adds between projected queries and attended heads, for one row."""
    (L, H, Dn), Dv, Dr = params["w_uk"].shape, params["w_uv"].shape[2], params["w_kr"].shape[1]
    pairs = n_new * (n_held + n_new) * H
    fold = L * H * (Dn + Dv)  # one token through W_UK and W_UV, from either side
    return {
        "naive": (n_held + n_new) * fold + pairs * (Dn + Dr + Dv),
        "absorbed": n_new * fold + pairs * (L + Dr + L),
    }


def from_checkpoint(state: Mapping[str, Array], *, n_heads: int) -> Params:
    """Parameters from the tensors of a DeepSeek-V3 attention layer."""
    if "q_proj.weight" in state:
        new, w_uq = {}, _tensor(state, "q_proj")
    else:
        new = {"w_dq": _tensor(state, "q_a_proj").T, "q_norm": _tensor(state, "q_a_layernorm")}
        w_uq = _tensor(state, "q_b_proj")
    kv_norm = _tensor(state, "kv_a_layernorm")
    w_dkv = _tensor(state, "kv_a_proj_with_mqa").T  # (C, L + Dr): the latent, then the shared key
    w_uq = _by_head(w_uq, n_heads)  # (Lq, H, Dn + Dr)
    w_ukv = _by_head(_tensor(state, "kv_b_proj"), n_heads)  # (L, H, Dn + Dv)
    w_o = _by_head(_tensor(state, "o_proj").T, n_heads).transpose(1, 2, 0)  # (H, Dv, C)
    L = len(kv_norm)
    Dr = w_dkv.shape[1] - L
    Dn = w_uq.shape[2] - Dr
    if w_ukv.shape[2] != Dn + w_o.shape[1]:
        raise ValueError(f"n_heads: {n_heads} heads do not fit the shapes of the tensors")
    # rope pairs i with i + Dr/2, the checkpoint 2i with 2i + 1.
    order = np.r_[0:Dr:2, 1:Dr:2]
    return new | {
        "w_uq": np.concatenate([w_uq[..., :Dn], w_uq[..., Dn:][..., order]], axis=-1),
        "w_dkv": w_dkv[:, :L],
        "kv_norm": kv_norm,
        "w_kr": w_dkv[:, L:][:, order],
        "w_uk": w_ukv[..., :Dn],
        "w_uv": w_ukv[..., Dn:],
        "w_o": w_o,
    }


def _extend(
    params: Params, x: Array, kv_cache: Array, lengths: Array, attend: Callable[..., Array]
) -> Array:
    """Write x (B, T, C) to the cache, then attend to all that each row holds. -> (B, T, C)"""
    _check_fit(params, x, kv_cache, lengths)
    B, T, C = x.shape
    positions = lengths.astype(np.int64)[:, None] + np.arange(T)  # (B, T)
    new = [compress(params, x), shared_key(params, x, positions)]
    kv_cache[np.arange(B)[:, None], positions] = np.concatenate(new, axis=-1)
    S = positions.max() + 1
    # A short row's free slots may hold NaN, and a weight of 0 does not undo that.
    filled = np.arange(S) <= positions[:, -1:]  # (B, S)
    held = np.where(filled[..., None], kv_cache[:, :S], 0)  # (B, S, L + Dr)
    q_nope, q_rope = (q.swapaxes(1, 2) for q in queries(params, x))  # (B, H, T, Dn or Dr)
    q_rope = rope(q_rope, positions[:, None])
    future = np.arange(S) > positions[:, None, :, None]  # (B, 1, T, S)
    heads = attend(params, q_nope, q_rope, held, future)  # (B, H, T, Dv)
    return heads.swapaxes(1, 2).reshape(B, T, -1) @ params["w_o"].reshape(-1, C)


def _attend_expanded(
    params: Params, q_nope: Array, q_rope: Array, held: Array, future: Array
) -> Array:
    """Multi-head attention over keys and values made of the latents. -> (B, H, T, Dv)"""
    latents, k_rope = np.split(held, [len(params["w_uk"])], axis=-1)  # (B, S, L), (B, S, Dr)
    k_nope, v = (a.swapaxes(1, 2) for a in expand(params, latents))  # (B, H, S, Dn or Dv)
    # qᵀk of equations 16 to 18: a part of each head's own, and one over the shared key
    scores = q_nope @ k_nope.swapaxes(2, 3) + q_rope @ k_rope[:, None].swapaxes(2, 3)
    return _softmax(scores, future, q_nope.shape[3] + q_rope.shape[3]) @ v


def _attend_absorbed(
    params: Params, q_nope: Array, q_rope: Array, held: Array, future: Array
) -> Array:
    """Multi-query attention: one key for all heads, whose latent is the value. -> (B, H, T, Dv)"""
    (B, H, T, Dn), Dr = q_nope.shape, q_rope.shape[3]
    # qᵀ(W_UK · c) = (W_UKᵀ · q)ᵀ c: W_UK is applied to T queries and not to S latents.
    q_latent = q_nope @ params["w_uk"].transpose(1, 2, 0)  # (B, H, T, L)
    q = np.concatenate([q_latent, q_rope], axis=-1).reshape(B, H * T, -1)  # (B, H·T, L + Dr)
    scores = (q @ held.swapaxes(1, 2)).reshape(B, H, T, -1)  # (B, H, T, S)
    weights = _softmax(scores, future, Dn + Dr)  # the width of a head, not that of q
    # Σ w · (W_UV · c) = W_UV · (Σ w · c)
    mixed = weights.reshape(B, H * T, -1) @ held[..., : len(params["w_uk"])]  # (B, H·T, L)
    return mixed.reshape(B, H, T, -1) @ params["w_uv"].swapaxes(0, 1)


def _softmax(scores: Array, future: Array, width: int) -> Array:
    """Weights of scores (B, H, T, S) / √width, 0 where future (B, 1, T, S). -> (B, H, T, S)"""
    scores = np.where(future, -np.inf, scores / math.sqrt(width))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _tensor(state: Mapping[str, Array], name: str) -> Array:
    if f"{name}.weight" not in state:
        raise ValueError(f"state: {name}.weight is missing")
    return state[f"{name}.weight"]


def _by_head(w: Array, n_heads: int) -> Array:
    """w (H·D, n) as torch keeps it. -> (n, H, D)"""
    if n_heads < 1 or len(w) % n_heads:
        raise ValueError(f"n_heads: {n_heads} heads do not divide a width of {len(w)}")
    return w.reshape(n_heads, -1, w.shape[1]).transpose(2, 0, 1)


def _heads(x: Array, w: Array) -> Array:
    """x (..., n) times w (n, H, D). -> (..., H, D)"""
    return (x @ w.reshape(len(w), -1)).reshape(*x.shape[:-1], *w.shape[1:])


def _check_fit(params: Params, x: Array, kv_cache: Array, lengths: Array) -> None:
    C, L = params["w_dkv"].shape
    if x.ndim != 3 or x.shape[2] != C or 0 in x.shape:
        raise ValueError(f"x: wanted shape (B >= 1, T >= 1, {C}), got {x.shape}")
    if lengths.shape != (len(x),) or lengths.min() < 0:
        raise ValueError(f"lengths: wanted {len(x)} numbers from 0, got {lengths}")
    need, width = int(lengths.max()) + x.shape[1], L + params["w_kr"].shape[1]
    if kv_cache.ndim != 3 or kv_cache.shape[::2] != (len(x), width) or kv_cache.shape[1] < need:
        wanted = f"({len(x)}, S, {width}) with S >= {need}"
        raise ValueError(f"kv_cache: wanted shape {wanted}, got {kv_cache.shape}")
