"""Rotary position embedding in both layouts, and the way from one layout to the other.

Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864,
equations 14 to 16 (the rotation and why scores depend on distance) and 34 (without a matrix).
Differs from the paper in that the half layout of GPT-NeoX is there too, part of a head may stay
unrotated, and positions may be any numbers.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width, R rotated width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

BASE = 10_000.0
LAYOUTS = ("half", "interleaved")
SinCos = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def sincos(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of angles in radians, any shape."""
    return np.sin(angles), np.cos(angles)


def frequencies(dim: int, *, base: float = BASE) -> np.ndarray:
    """Radians per position of each pair. -> (dim/2,) float64"""
    if dim <= 0 or dim % 2:
        raise ValueError(f"dim: wanted an even number above 0, got {dim}")
    # θ_i = base^(−2i/d), i from 0
    return float(base) ** (-np.arange(0, dim, 2) / dim)


def rotate(
    x: np.ndarray, position: float, *, layout: str = "half", base: float = BASE
) -> np.ndarray:
    """Every vector of x (..., D) turned to one position. -> (..., D)"""
    return rope(x, np.asarray(position), layout=layout, base=base)


def rope(
    x: np.ndarray,
    positions: np.ndarray,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
    sincos: SinCos = sincos,
) -> np.ndarray:
    """Each vector of x (..., T, D) turned to its own position. -> (..., T, D)"""
    R = _rotary_dim(x.shape[-1], rotary_dim)
    positions = np.asarray(positions)
    _check_positions(positions, x.shape[:-1])
    # Angles in float64 whatever x is: in float32, position 100,000 is off by a hundredth already.
    angles = positions[..., None] * frequencies(R, base=base)  # (..., T, R/2)
    # One sine for each angle that is given, never one for each head: broadcast afterwards.
    sin, cos = (part.astype(x.dtype) for part in sincos(angles))  # (..., T, R/2) each
    first, second = _pairs(R, layout)
    a, b = x[..., first], x[..., second]  # (..., T, R/2) each
    out = x.copy()
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


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
    """Scaled scores of q (..., T, D) against k (..., S, D) at their positions. -> (..., T, S)"""
    q = rope(q, q_positions, layout=layout, base=base, rotary_dim=rotary_dim)
    k = rope(k, k_positions, layout=layout, base=base, rotary_dim=rotary_dim)
    return q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])


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
    """Attention of q (..., T, D) over k (..., S, D) and v (..., S, D_v). -> (..., T, D_v)"""
    scores = attention_scores(
        q, k, q_positions, k_positions, layout=layout, base=base, rotary_dim=rotary_dim
    )
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))  # (..., T, S)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v


def shift(
    k_rotated: np.ndarray,
    delta: float,
    *,
    layout: str = "half",
    base: float = BASE,
    rotary_dim: int | None = None,
) -> np.ndarray:
    """Rotated keys (..., S, D) moved on by delta positions. -> (..., S, D)"""
    # R(p + δ) = R(δ) · R(p): rotations of one plane add up.
    return rope(k_rotated, np.asarray(delta), layout=layout, base=base, rotary_dim=rotary_dim)


def convert(
    w: np.ndarray, *, n_heads: int, source: str, target: str, rotary_dim: int | None = None
) -> np.ndarray:
    """Columns of a query or key projection (..., n_heads·D) reordered. -> (..., n_heads·D)"""
    return _reordered(
        w, n_heads, called="n_heads", source=source, target=target, rotary_dim=rotary_dim
    )


def convert_checkpoint(
    params: Mapping[str, np.ndarray],
    *,
    n_heads: int,
    n_kv_heads: int,
    source: str,
    target: str,
    rotary_dim: int | None = None,
) -> dict[str, np.ndarray]:
    """The parameters of an attention layer for the other layout, as new arrays."""
    heads = {"w_q": n_heads, "b_q": n_heads, "w_k": n_kv_heads, "b_k": n_kv_heads}
    new = {}
    for name, w in params.items():
        if name not in heads:
            new[name] = w.copy()
            continue
        called = "n_heads" if name.endswith("q") else "n_kv_heads"
        new[name] = _reordered(
            w, heads[name], called=called, source=source, target=target, rotary_dim=rotary_dim
        )
    return new


def _reordered(
    w: np.ndarray, heads: int, *, called: str, source: str, target: str, rotary_dim: int | None
) -> np.ndarray:
    """convert for a number of heads that the caller calls n_heads or n_kv_heads."""
    _check_layout("source", source)
    _check_layout("target", target)
    if heads <= 0 or w.shape[-1] % heads:
        raise ValueError(f"{called}: {heads} heads do not divide a width of {w.shape[-1]}")
    D = w.shape[-1] // heads
    if rotary_dim is None and D % 2:
        raise ValueError(f"{called}: {heads} heads of {D} numbers each have no pairs")
    R = _rotary_dim(D, rotary_dim)
    order = np.arange(D)
    for old, new in zip(_pairs(R, source), _pairs(R, target), strict=True):
        order[new] = np.arange(D)[old]
    return w.reshape(*w.shape[:-1], heads, D)[..., order].reshape(w.shape)


def _pairs(R: int, layout: str) -> tuple[slice, slice]:
    """Where the first and the second number of every pair stand."""
    _check_layout("layout", layout)
    if layout == "half":
        return slice(0, R // 2), slice(R // 2, R)
    return slice(0, R, 2), slice(1, R, 2)


def _check_layout(name: str, layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"{name}: wanted half or interleaved, got {layout!r}")


def _rotary_dim(D: int, rotary_dim: int | None) -> int:
    if rotary_dim is None:
        if D % 2:
            raise ValueError(f"x: the head width must be even, got {D}")
        return D
    if not 0 < rotary_dim <= D or rotary_dim % 2:
        raise ValueError(f"rotary_dim: wanted an even number from 2 to {D}, got {rotary_dim}")
    return rotary_dim


def _check_positions(positions: np.ndarray, shape: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(positions.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"positions: {positions.shape} does not broadcast to {shape}")
