"""The plain ways: heads one after the other, and a backward pass in which every step has a name."""

import math

import numpy as np


def multi_head_attention(x, params, *, n_heads, mask=None, causal=False):
    """Projections and attention of one head at a time, then one concatenation."""
    width = params["w_q"].shape[1] // n_heads
    length = x.shape[1]
    allowed = np.tri(length, dtype=bool) if causal else np.ones((length, length), bool)
    heads = []
    for h in range(n_heads):
        own = slice(h * width, (h + 1) * width)
        q, k, v = (x @ params[f"w_{name}"][:, own] + params[f"b_{name}"][own] for name in "qkv")
        scores = q @ k.swapaxes(-1, -2) * x.dtype.type(1 / math.sqrt(width))  # (B, T, T)
        scores[:, ~allowed] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        heads.append(weights @ v)  # (B, T, D)
    return np.concatenate(heads, axis=-1) @ params["w_o"] + params["b_o"]


def attention_backward(d_out, q, k, v, *, mask=None, causal=False, scale=None):
    """Forward and backward pass as in a textbook: each intermediate lives to the end."""
    scale = q.dtype.type(1 / math.sqrt(q.shape[-1]))
    allowed = np.tri(q.shape[-2], dtype=bool) if causal else True
    products = q @ k.swapaxes(-1, -2)  # (..., T, S), and so are the next ten
    scores = products * scale
    masked = np.where(allowed, scores, q.dtype.type(-np.inf))
    shifted = masked - masked.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    d_weights = d_out @ v.swapaxes(-1, -2)
    weighted = weights * d_weights
    centred = d_weights - weighted.sum(axis=-1, keepdims=True)
    d_scores = weights * centred
    d_products = d_scores * scale
    return d_products @ k, d_products.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ d_out
