"""Rotary position embedding in both layouts, and the way from one layout to the other.

The task is spec.md. Arrays are float32 or float64; the arrays of one call share a dtype, and that
is the dtype of the result. No argument is modified. Positions are any finite numbers of any real
dtype, whole or not, in any order.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width, R rotated width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

BASE = 10_000.0
LAYOUTS = ("half", "interleaved")
SinCos = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def sincos(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of angles in radians, any shape."""
    return np.sin(angles), np.cos(angles)


def frequencies(dim: int, *, base: float = BASE) -> np.ndarray:
    """The angle in radians by which each pair turns from one position to the next.

    dim: rotated width R, even and above 0.
    Returns: (R/2,) float64, the frequency of pair 0 first.
    Raises: ValueError naming dim where it is odd, 0 or negative.

    >>> frequencies(4).tolist()
    [1.0, 0.01]
    """
    # TODO stage 1: the frequencies of the spec.
    raise NotImplementedError("03_rope, stage 1")


def rotate(
    x: np.ndarray, position: float, *, layout: str = "half", base: float = BASE
) -> np.ndarray:
    """Turn every vector of x to one position.

    x: (..., D), D even. position: one number. layout: "half" or "interleaved".
    Returns: (..., D), dtype of x.
    Raises: ValueError naming x where D is odd, layout where it is neither of the two.

    >>> rotate(np.array([1.0, 2.0, 3.0, 4.0]), 1).round(4).tolist()
    [-1.9841, 1.9599, 2.4624, 4.0198]
    """
    # TODO stage 1: one position, both layouts.
    raise NotImplementedError("03_rope, stage 1")


def rope(
    x: np.ndarray,
    positions: np.ndarray,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
    sincos: SinCos = sincos,
) -> np.ndarray:
    """Turn each vector of x to its own position.

    x: (..., T, D). positions: an array that broadcasts to x.shape[:-1], such as (T,) for all
    rows alike or (B, 1, T) for x of shape (B, H, T, D). rotary_dim: R, how many leading numbers
    of each vector are rotated, even; None means D. sincos: what computes sines and cosines; it
    takes a float64 array of angles p·θ and returns two arrays of its shape, sines first, which
    stay as they are.
    Returns: (..., T, D), dtype of x.
    Raises: ValueError naming x (rotary_dim is None and D is odd), rotary_dim (odd, below 2 or
    above D), positions (do not broadcast), or layout.

    >>> x = np.array([[1.0, 2.0, 3.0, 4.0]] * 2)  # (2, 4)
    >>> rope(x, np.array([0, 1]), layout="interleaved").round(4).tolist()
    [[1.0, 2.0, 3.0, 4.0], [-1.1426, 1.9221, 2.9599, 4.0298]]
    """
    # TODO stage 2: any positions, part of a head, each angle once.
    raise NotImplementedError("03_rope, stage 2")


def attention_scores(
    q: np.ndarray,
    k: np.ndarray,
    q_positions: np.ndarray,
    k_positions: np.ndarray,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
) -> np.ndarray:
    """Scaled dot products of rotated queries and keys, before any softmax.

    q: (..., T, D), k: (..., S, D), not yet rotated, with the same leading axes; the positions
    broadcast as in rope.
    Returns: (..., T, S), the dot products divided by √D.
    Raises: ValueError as rope does; for q, k and their positions rope's own names will do.

    >>> q, k = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> attention_scores(q, k, np.array([7]), np.array([7])).round(4).tolist()
    [[1.4142]]
    """
    # TODO stage 3: scores of rotated queries and keys.
    raise NotImplementedError("03_rope, stage 3")


def attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    q_positions: np.ndarray,
    k_positions: np.ndarray,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
) -> np.ndarray:
    """Attention with rotary positions: every query over every key, without a mask.

    q: (..., T, D), k: (..., S, D), v: (..., S, D_v), S at least 1, D_v any width.
    Returns: (..., T, D_v), each row the mean of the values weighted by the softmax of its scores,
    which may be of any size.
    Raises: as attention_scores.

    >>> q, k, v = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[5.0]])
    >>> attend(q, k, v, np.array([7]), np.array([3])).tolist()
    [[5.0]]
    """
    # TODO stage 3: the whole of attention.
    raise NotImplementedError("03_rope, stage 3")


def shift(
    k_rotated: np.ndarray,
    delta: float,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
) -> np.ndarray:
    """Move keys that are rotated already: what a cache does when tokens before them are dropped.

    k_rotated: (..., S, D), keys as rope returned them, each at its position p.
    Returns: (..., S, D), the same keys as rope returns them at p + delta.
    Raises: as rope does for x = k_rotated.

    >>> k = np.array([[1.0, 0.0]])
    >>> shift(rope(k, np.array([5])), -5).round(4).tolist()
    [[1.0, 0.0]]
    """
    # TODO stage 3: keys at new positions, without the keys before rotation.
    raise NotImplementedError("03_rope, stage 3")


def convert(
    w: np.ndarray, *, n_heads: int, source: str, target: str, rotary_dim: int | None = None
) -> np.ndarray:
    """A query or key projection (or its bias) for the other layout.

    w: (..., n_heads·D); head h owns columns h·D to (h+1)·D − 1, tokens are rows: x @ w.
    source, target: the layout that w was trained for, and the one it will be run with.
    Returns: (..., n_heads·D), a new array, dtype of w.
    Raises: ValueError naming n_heads where it does not divide the width, or where heads of odd
    width are to be rotated whole; rotary_dim (odd, below 2 or above D); source or target where it
    is neither of the two layouts.

    >>> w = np.array([[0.0, 1.0, 2.0, 3.0]])
    >>> convert(w, n_heads=1, source="interleaved", target="half").tolist()
    [[0.0, 2.0, 1.0, 3.0]]
    """
    # TODO stage 4: one projection.
    raise NotImplementedError("03_rope, stage 4")


def convert_checkpoint(
    params: Mapping[str, np.ndarray],
    *,
    n_heads: int,
    n_kv_heads: int,
    source: str,
    target: str,
    rotary_dim: int | None = None,
) -> dict[str, np.ndarray]:
    """All parameters of an attention layer for the other layout.

    params: any of w_q (C, H·D), w_k and w_v (C, G·D), w_o (H·D, C), b_q (H·D,), b_k and b_v
    (G·D,), b_o (C,), and arrays of other names; H is n_heads, G is n_kv_heads.
    Returns: the same names, each a new array of the same shape and dtype.
    Raises: as convert, naming n_kv_heads where the keys do not fit.

    >>> params = {"w_k": np.array([[0.0, 1.0, 2.0, 3.0]]), "w_v": np.array([[0.0, 1.0, 2.0, 3.0]])}
    >>> new = convert_checkpoint(
    ...     params, n_heads=2, n_kv_heads=1, source="half", target="interleaved"
    ... )
    >>> new["w_k"].tolist(), new["w_v"].tolist()
    ([[0.0, 2.0, 1.0, 3.0]], [[0.0, 1.0, 2.0, 3.0]])
    """
    # TODO stage 4: a layer.
    raise NotImplementedError("03_rope, stage 4")
