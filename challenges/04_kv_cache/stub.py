"""Stub of 04_kv_cache: a decoder that generates without computing anything twice.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

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
    """Random parameters, scaled so that activations stay near 1. Given.

    A dict of arrays of one floating dtype, and ``layers``, a list of such dicts. The comments
    below are the shapes; every size of the model is read off them.

    >>> params = init_params(np.random.default_rng(0), n_layers=3)
    >>> len(params["layers"]), params["layers"][0]["wk"].shape
    (3, (16, 2, 8))
    """

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
    """x / sqrt(mean(x²) + eps) · gain over the last axis. (..., C) -> (..., C). Given.

    >>> rms_norm(np.array([3.0, -3.0]), np.array([1.0, 2.0])).round(3)
    array([ 1., -2.])
    """
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * gain


def rope(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rotate x (B, T, heads, D) by positions (T,) or (B, T), half layout. Given.

    Element i of a head and element i + D/2 turn together, by ``position · θ_i`` radians.

    >>> rope(np.array([[[[1.0, 0.0]]]]), np.array([1])).round(3)  # θ = 1: cos(1), sin(1)
    array([[[[0.54 , 0.841]]]])
    """
    half = x.shape[-1] // 2
    theta = ROPE_BASE ** (-np.arange(half) / half)  # (D/2,)
    angle = np.asarray(positions)[..., None, None] * theta  # (..., T, 1, D/2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def swiglu(x: np.ndarray, layer: Params) -> np.ndarray:
    """(silu(x · w_gate) * (x · w_up)) · w_down. (..., C) -> (..., C). Given.

    >>> one = np.ones((1, 1))
    >>> swiglu(2 * one, {"w_gate": one, "w_up": one, "w_down": one}).round(3)  # 2 · σ(2) · 2
    array([[3.523]])
    """
    gate = x @ layer["w_gate"]  # (..., F)
    silu = gate * (0.5 + 0.5 * np.tanh(0.5 * gate))  # tanh: no overflow where gate is far below 0
    return (silu * (x @ layer["w_up"])) @ layer["w_down"]


# Stage 1: generate by recomputing everything.


def forward(params: Params, ids: np.ndarray) -> np.ndarray:
    """Logits of every position, computed from scratch.

    Parameters
    ----------
    params : as ``init_params`` makes them; not modified.
    ids : (B, T) integers in [0, V), with B and T at least 1; not modified.

    Returns
    -------
    (B, T, V) in the dtype of the parameters. Logits at position t are those of the token after it.

    >>> params = init_params(np.random.default_rng(0))
    >>> forward(params, np.array([[5, 6, 7], [7, 6, 5]])).shape
    (2, 3, 64)
    """
    # TODO stage 1: the decoder of the spec, all positions at once.
    raise NotImplementedError("04_kv_cache, stage 1")


def generate_naive(params: Params, ids: np.ndarray, max_new_tokens: int) -> np.ndarray:
    """Greedy tokens after ids, each from a forward pass over everything before it.

    Parameters
    ----------
    ids : (B, T) integers in [0, V), B prompts of the same length; not modified.
    max_new_tokens : 0 or more.

    Returns
    -------
    (B, max_new_tokens) int64: the new tokens alone. Of equal logits the lowest id wins.

    >>> params = init_params(np.random.default_rng(0))
    >>> ids = np.array([[5, 6, 7]])
    >>> new = generate_naive(params, ids, 2)
    >>> new.shape, bool(new[0, 0] == forward(params, ids)[0, -1].argmax())
    ((1, 2), True)
    """
    # TODO stage 1: the slow way that every later stage is held against.
    raise NotImplementedError("04_kv_cache, stage 1")


# Stages 2 and 3: a cache.


class KVCache:
    """The keys and values of every layer, for the tokens of each row seen so far.

    Starts empty. ``prefill`` and ``decode`` append to it. How it stores what it holds is yours.

    >>> params = init_params(np.random.default_rng(0))
    >>> cache = KVCache(params, batch=2, capacity=4)
    >>> _ = prefill(params, np.array([[5, 6, 7], [7, 6, 5]]), cache)
    >>> cache.capacity, cache.lengths.tolist()
    (4, [3, 3])
    """

    def __init__(self, params: Params, *, batch: int, capacity: int) -> None:
        """Room for ``capacity`` tokens in each of ``batch`` rows, in the dtype of the parameters.

        >>> KVCache(init_params(np.random.default_rng(0)), batch=2, capacity=4).lengths.tolist()
        [0, 0]
        """
        # TODO stage 2: what prefill and decode need; stage 3: all memory is allocated here.
        raise NotImplementedError("04_kv_cache, stage 2")

    @property
    def capacity(self) -> int:
        """Tokens that fit in each row.

        >>> KVCache(init_params(np.random.default_rng(0)), batch=2, capacity=4).capacity
        4
        """
        raise NotImplementedError("04_kv_cache, stage 2")

    @property
    def lengths(self) -> np.ndarray:
        """Tokens that each row holds: (B,) int64. Later calls do not change what was returned.

        >>> params = init_params(np.random.default_rng(0))
        >>> cache = KVCache(params, batch=1, capacity=4)
        >>> _ = decode(params, np.array([9]), cache)
        >>> cache.lengths
        array([1])
        """
        raise NotImplementedError("04_kv_cache, stage 2")

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values that the cache has room for.

        >>> params = init_params(np.random.default_rng(0))  # 2 layers, G = 2, D = 8, float64
        >>> KVCache(params, batch=3, capacity=10).nbytes
        15360
        """
        # TODO stage 3.
        raise NotImplementedError("04_kv_cache, stage 3")

    def fork(self) -> KVCache:
        """A cache with the same tokens and capacity; what happens to one does not reach the other.

        >>> params = init_params(np.random.default_rng(0))
        >>> cache = KVCache(params, batch=1, capacity=4)
        >>> other = cache.fork()
        >>> _ = decode(params, np.array([9]), other)
        >>> cache.lengths.tolist(), other.lengths.tolist()
        ([0], [1])
        """
        # TODO stage 2.
        raise NotImplementedError("04_kv_cache, stage 2")


def prefill(
    params: Params, ids: np.ndarray, cache: KVCache, *, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Append tokens to each row of the cache; logits of each row's last token.

    Parameters
    ----------
    params : those that the cache was made for; not modified.
    ids : (B, T) integers in [0, V), T at least 1, one row for each row of the cache; not modified.
        They continue what the cache holds: a prompt may come in several calls.
    cache : is extended.
    lengths : (B,) integers from 1 to T; not modified. Row b consists of its first ``lengths[b]``
        ids, what follows is padding. None: all T are tokens.

    Returns
    -------
    (B, V) in the dtype of the parameters.

    Raises
    ------
    ValueError
        Naming ``capacity`` if a row would hold more tokens than that; the cache is as before.
        Naming ``ids`` if its shape is not (B, T) with the cache's B and T at least 1; naming
        ``lengths`` if its shape is not (B,) or a value is out of range.

    >>> params = init_params(np.random.default_rng(0))
    >>> ids = np.array([[5, 6, 7]])
    >>> logits = prefill(params, ids, KVCache(params, batch=1, capacity=8))
    >>> bool(np.allclose(logits, forward(params, ids)[:, -1]))
    True
    """
    # TODO stage 2: without lengths; stage 3: capacity; stage 4: lengths.
    raise NotImplementedError("04_kv_cache, stage 2")


def decode(params: Params, tokens: np.ndarray, cache: KVCache) -> np.ndarray:
    """Append one token to each row of the cache; the logits of the token after it.

    Parameters
    ----------
    tokens : (B,) integers in [0, V), one for each row of the cache; not modified.
    cache : is extended. Its rows may hold different numbers of tokens (stage 4).

    Returns
    -------
    (B, V) in the dtype of the parameters.

    Raises
    ------
    ValueError
        Naming ``capacity`` if a row is full; the cache is as before.

    >>> params = init_params(np.random.default_rng(0))
    >>> cache = KVCache(params, batch=1, capacity=8)
    >>> _ = prefill(params, np.array([[5, 6]]), cache)
    >>> logits = decode(params, np.array([7]), cache)
    >>> bool(np.allclose(logits, forward(params, np.array([[5, 6, 7]]))[:, -1]))
    True
    """
    # TODO stage 2: one position is computed, none twice.
    raise NotImplementedError("04_kv_cache, stage 2")


def generate(params: Params, ids: np.ndarray, max_new_tokens: int) -> np.ndarray:
    """The tokens of ``generate_naive``, by prefill and decode. Same arguments, same result.

    >>> params = init_params(np.random.default_rng(0))
    >>> ids = np.array([[5, 6, 7]])
    >>> bool((generate(params, ids, 6) == generate_naive(params, ids, 6)).all())
    True
    """
    # TODO stage 2.
    raise NotImplementedError("04_kv_cache, stage 2")


# Stage 4: rows of unequal lengths.


def generate_batch(
    params: Params,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
    *,
    eos_id: int | None = None,
) -> list[np.ndarray]:
    """Greedy tokens after each of several prompts, all of them decoded together.

    Parameters
    ----------
    prompts : B arrays (T_b,) of integers in [0, V), T_b at least 1, lengths as they come; not
        modified.
    max_new_tokens : 0 or more.
    eos_id : a row ends with the first such token that it generates; None: no row ends early.

    Returns
    -------
    B arrays int64, in the order of the prompts: the new tokens of each row, eos_id included.

    Raises
    ------
    ValueError
        Naming ``prompts`` if there is none or one is empty.

    >>> params = init_params(np.random.default_rng(0))
    >>> short, long = np.array([5]), np.array([5, 6, 7])
    >>> new = generate_batch(params, [short, long], 4)
    >>> [bool((new[b] == generate(params, p[None], 4)).all()) for b, p in enumerate((short, long))]
    [True, True]
    """
    # TODO stage 4.
    raise NotImplementedError("04_kv_cache, stage 4")
