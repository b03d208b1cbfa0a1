"""The naive way: complex numbers, one vector at a time, angles anew for every head."""

from __future__ import annotations

import numpy as np

BASE = 10_000.0


def _sincos(angles):
    return np.sin(angles), np.cos(angles)


def rope(x, positions, *, layout="half", base=BASE, rotary_dim=None, sincos=_sincos):
    """Each vector of x (..., T, D) turned to its own position. -> (..., T, D)"""
    rotary = x.shape[-1] if rotary_dim is None else rotary_dim
    theta = float(base) ** (-np.arange(0, rotary, 2) / rotary)
    places = np.broadcast_to(positions, x.shape[:-1])
    out = x.copy()
    for index in np.ndindex(x.shape[:-1]):
        sin, cos = sincos(places[index] * theta)
        vector = x[index][:rotary].astype(np.float64)
        if layout == "half":
            turned = (vector[: rotary // 2] + 1j * vector[rotary // 2 :]) * (cos + 1j * sin)
            out[index][: rotary // 2], out[index][rotary // 2 : rotary] = turned.real, turned.imag
        else:
            turned = (vector[::2] + 1j * vector[1::2]) * (cos + 1j * sin)
            out[index][:rotary:2], out[index][1:rotary:2] = turned.real, turned.imag
    return out
