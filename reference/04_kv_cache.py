"""A Llama-style decoder that generates greedily, without and with a cache of keys and values.

Incremental decoding: Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You Need",
arXiv 1911.02150. The block: Touvron et al. 2023, "LLaMA", arXiv 2302.13971, section 2.2, with
grouped-query attention, Ainslie et al. 2023, "GQA", arXiv 2305.13245.
Differs from them in that nothing is trained, heads have axes of their own in the weights, and
rows of a batch may hold different numbers of tokens.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Params = dict[str, Any]
ROPE_BASE = 10_000.0
NORM_EPS = 1e-5


def init_params(
    rng: np.random.Generator,
    *,
    n_layers: int = 2,
    d_model: int = 16,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    head_dim: int = 8,
    d_ff: int = 32,
    vocab_size: int = 64,
    dtype: Any = np.float64,
) -> Params:
    """Random parameters, scaled so that activations stay near 1. The comments are the shapes."""

    def normal(*shape: int, fan_in: int = 1) -> np.ndarray:
        return (rng.standard_normal(shape) / math.sqrt(fan_in)).astype(dtype)

    def gain() -> np.ndarray:
        return (1 + 0.1 * rng.standard_normal(d_model)).astype(dtype)

    def layer() -> Params:
        return {
            "attn_norm": gain(),  # (C,)
            "wq": normal(d_model, n_heads, head_dim, fan_in=d_model),  # (C, H, D)
            "wk": normal(d_model, n_kv_heads, head_dim, fan_in=d_model),  # (C, G, D)
            "wv": normal(d_model, n_kv_heads, head_dim, fan_in=d_model),  # (C, G, D)
            "wo": normal(n_heads, head_dim, d_model, fan_in=n_heads * head_dim),  # (H, D, C)
            "mlp_norm": gain(),  # (C,)
            "w_gate": normal(d_model, d_ff, fan_in=d_model),  # (C, F)
            "w_up": normal(d_model, d_ff, fan_in=d_model),  # (C, F)
            "w_down": normal(d_ff, d_model, fan_in=d_ff),  # (F, C)
        }

    return {
        "embed": normal(vocab_size, d_model),  # (V, C)
        "layers": [layer() for _ in range(n_layers)],
        "norm": gain(),  # (C,)
        "head": normal(d_model, vocab_size, fan_in=d_model),  # (C, V)
    }


def rms_norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """x / sqrt(mean(x²) + eps) · gain over the last axis. (..., C) -> (..., C)"""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * gain


def rope(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rotate x (B, T, heads, D) by positions (T,) or (B, T), half layout. -> (B, T, heads, D)"""
    half = x.shape[-1] // 2
    theta = ROPE_BASE ** (-np.arange(half) / half)  # (D/2,)
    angle = np.asarray(positions)[..., None, None] * theta  # (..., T, 1, D/2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def swiglu(x: np.ndarray, layer: Params) -> np.ndarray:
    """(silu(x · w_gate) * (x · w_up)) · w_down. (..., C) -> (..., C)"""
    gate = x @ layer["w_gate"]  # (..., F)
    silu = gate * (0.5 + 0.5 * np.tanh(0.5 * gate))  # tanh: no overflow where gate is far below 0
    return (silu * (x @ layer["w_up"])) @ layer["w_down"]


def forward(params: Params, ids: np.ndarray) -> np.ndarray:
    """Logits of every position, computed from scratch. (B, T) -> (B, T, V)"""
    cache = KVCache(params, batch=ids.shape[0], capacity=ids.shape[1])
    return _logits(params, _extend(params, ids, cache, np.full(ids.shape[0], ids.shape[1])))


def generate_naive(params: Params, ids: np.ndarray, max_new_tokens: int) -> np.ndarray:
    """Greedy tokens after ids, each from a forward pass over everything before it. (B, n)"""
    T = ids.shape[1]
    for _ in range(max_new_tokens):
        token = forward(params, ids)[:, -1].argmax(axis=-1)  # (B,)
        ids = np.concatenate([ids, token[:, None]], axis=1)
    return ids[:, T:].astype(np.int64)


class KVCache:
    """Keys and values of every layer, in slots that are allocated once.

    Head-major, so that the keys of one head lie together and each head is one matrix product.
    A row's token at position p lies in slot p; keys are rotated before they are stored, since a
    token's position never changes.
    """

    def __init__(self, params: Params, *, batch: int, capacity: int) -> None:
        G, D = params["layers"][0]["wk"].shape[1:]
        shape = (2, len(params["layers"]), batch, G, capacity, D)
        self._slots = np.zeros(shape, params["embed"].dtype)
        self._lengths = np.zeros(batch, np.int64)

    @property
    def capacity(self) -> int:
        """Tokens that fit in each row."""
        return self._slots.shape[4]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens that each row holds. (B,) int64"""
        return self._lengths.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, filled or not."""
        return self._slots.nbytes

    def fork(self) -> KVCache:
        """A cache with the same tokens that shares no memory with this one."""
        return copy.deepcopy(self)


def prefill(
    params: Params, ids: np.ndarray, cache: KVCache, *, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Append ids (B, T) to the cache; logits of each row's last token. -> (B, V)"""
    lengths = _checked_lengths(ids, cache, lengths)
    x = _extend(params, ids, cache, lengths)  # (B, T, C)
    last = x[np.arange(len(x)), lengths - 1]  # (B, C)
    return _logits(params, last)


def decode(params: Params, tokens: np.ndarray, cache: KVCache) -> np.ndarray:
    """Append one token (B,) to each row; its logits. -> (B, V)"""
    return prefill(params, tokens[:, None], cache)


def generate(params: Params, ids: np.ndarray, max_new_tokens: int) -> np.ndarray:
    """The tokens of generate_naive, each position computed once. (B, n) int64"""
    return np.stack(generate_batch(params, list(ids), max_new_tokens))


def generate_batch(
    params: Params,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    *,
    eos_id: int | None = None,
) -> list[np.ndarray]:
    """Greedy tokens after each prompt, all rows in one batch; a row ends with its first eos_id."""
    lengths = np.array([len(prompt) for prompt in prompts])
    if lengths.size == 0 or lengths.min() == 0:
        raise ValueError(f"prompts: wanted one or more, each of one token or more, got {lengths}")
    ids = np.zeros((len(prompts), lengths.max()), np.int64)  # (B, T), padded on the right
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    new = np.zeros((len(prompts), max_new_tokens), np.int64)
    ends = np.full(len(prompts), max_new_tokens)  # (B,) tokens that each row returns
    cache = KVCache(params, batch=len(ids), capacity=ids.shape[1] + max_new_tokens)
    logits = prefill(params, ids, cache, lengths=lengths)  # (B, V)
    for step in range(max_new_tokens):
        new[:, step] = logits.argmax(axis=-1)
        ends[(new[:, step] == eos_id) & (step < ends)] = step + 1
        if ends.max() == step + 1:  # the last token is returned and never fed back
            break
        logits = decode(params, new[:, step], cache)
    return [row[:end] for row, end in zip(new, ends, strict=True)]


def _extend(params: Params, ids: np.ndarray, cache: KVCache, lengths: np.ndarray) -> np.ndarray:
    """Append the first lengths (B,) of ids (B, T) to the cache; hidden states. -> (B, T, C)"""
    columns = np.arange(ids.shape[1])  # (T,)
    positions = cache.lengths[:, None] + columns  # (B, T)
    real = columns < lengths[:, None]  # (B, T), False on padding
    rows, slots = np.nonzero(real)[0], positions[real]  # (N,) each
    x = params["embed"][ids]  # (B, T, C)
    for index, layer in enumerate(params["layers"]):
        h = rms_norm(x, layer["attn_norm"])
        q = rope(_heads(h, layer["wq"]), positions)  # (B, T, H, D)
        k = rope(_heads(h, layer["wk"]), positions)  # (B, T, G, D)
        v = _heads(h, layer["wv"])  # (B, T, G, D)
        keys, values = cache._slots[:, index]  # (B, G, capacity, D) each
        keys[rows, :, slots] = k[real]  # (N, G, D)
        values[rows, :, slots] = v[real]
        x = x + _attend(q, keys, values, positions) @ layer["wo"].reshape(-1, x.shape[-1])
        x = x + swiglu(rms_norm(x, layer["mlp_norm"]), layer)
    cache._lengths = cache._lengths + lengths
    return x


def _heads(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x (B, T, C) times w (C, heads, D). -> (B, T, heads, D)"""
    return (x @ w.reshape(len(w), -1)).reshape(*x.shape[:2], *w.shape[1:])


def _attend(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """softmax(q · kᵀ / √D) · v over the slots up to each query's position. -> (B, T, H·D)"""
    keys, values = keys[:, :, : positions.max() + 1], values[:, :, : positions.max() + 1]
    (B, T, H, D), (G, S) = q.shape, keys.shape[1:3]
    # The H/G query heads of a group become rows of one product: keys are never repeated.
    q = q.reshape(B, T, G, H // G, D).transpose(0, 2, 3, 1, 4).reshape(B, G, -1, D)
    scores = (q @ keys.swapaxes(2, 3) / math.sqrt(D)).reshape(B, G, H // G, T, S)
    future = np.arange(S) > positions[:, None, None, :, None]  # (B, 1, 1, T, S)
    scores = np.where(future, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out = weights.reshape(B, G, -1, S) @ values  # (B, G, H/G·T, D)
    return out.reshape(B, H, T, D).swapaxes(1, 2).reshape(B, T, H * D)


def _logits(params: Params, x: np.ndarray) -> np.ndarray:
    """(..., C) -> (..., V)"""
    return rms_norm(x, params["norm"]) @ params["head"]


def _checked_lengths(ids: np.ndarray, cache: KVCache, lengths: np.ndarray | None) -> np.ndarray:
    """lengths (B,) as int64, all of T where None, once the call is known to fit the cache."""
    held = cache.lengths
    if ids.ndim != 2 or len(ids) != len(held) or ids.shape[1] == 0:
        raise ValueError(f"ids: wanted shape ({len(held)}, T >= 1), got {ids.shape}")
    T = ids.shape[1]
    lengths = np.full(len(ids), T) if lengths is None else np.asarray(lengths)
    if lengths.shape != held.shape or lengths.min() < 1 or lengths.max() > T:
        raise ValueError(f"lengths: wanted {len(held)} numbers from 1 to {T}, got {lengths}")
    need = int((held + lengths).max())
    if need > cache.capacity:
        raise ValueError(f"capacity: a row would hold {need} tokens of {cache.capacity}")
    return lengths.astype(np.int64)
