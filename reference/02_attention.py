"""Scaled dot-product and multi-head attention with masks, forward and backward, in NumPy.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762: equation 1 and section 3.2.2.
The backward pass is Dao et al., "FlashAttention", 2022, arXiv:2205.14135, appendix B.2.

Differs from the papers in: masks are boolean and a query that may attend to nothing gets zeros;
the projections have biases; the backward pass holds score matrices whole, without tiles.

Dimension key:
    B  batch            T  query positions      D    width of a head's queries and keys
    H  heads            S  key positions        D_v  width of a head's values
    C  model width      ...  any leading axes, the same for q, k and v
"""

import math

import numpy as np


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> np.ndarray:
    """Mix the rows of v (..., S, D_v) for each row of q (..., T, D): an array (..., T, D_v).

    >>> q, k, v = np.zeros((2, 4)), np.zeros((3, 4)), np.array([[3.0], [6.0], [0.0]])
    >>> attention(q, k, v, causal=True)
    array([[4.5],
           [3. ]])
    """
    _check_inputs(q, k, v)
    allowed = _allowed(q, k, mask, causal)
    weights = _weights(_working(q), _working(k), allowed, scale)  # (..., T, S)

    # O = P V
    return (weights @ _working(v)).astype(q.dtype, copy=False)  # (..., T, D_v)


def attention_backward(
    d_out: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of ``(d_out * attention(q, k, v)).sum()`` with respect to q, k and v.

    Recomputes the weights. Two score matrices live at once: P, and dP, which becomes dS.

    >>> q, k, v = np.zeros((1, 4)), np.zeros((2, 4)), np.array([[8.0], [0.0]])
    >>> d_q, d_k, d_v = attention_backward(np.ones((1, 1)), q, k, v)
    >>> d_v
    array([[0.5],
           [0.5]])
    """
    _check_inputs(q, k, v)
    _check_gradient(d_out, (*q.shape[:-1], v.shape[-1]), q.dtype)
    dtype, scale = q.dtype, _scale(q, scale)
    allowed = _allowed(q, k, mask, causal)
    d_out, q, k, v = (_working(array) for array in (d_out, q, k, v))
    weights = _weights(q, k, allowed, scale)  # (..., T, S)

    # dV = P^T dO
    d_v = weights.swapaxes(-1, -2) @ d_out  # (..., S, D_v)
    # dS = P * (dP - rowsum(P * dP)), and rowsum(P * dP) = rowsum(dO * O)
    d_scores = d_out @ v.swapaxes(-1, -2)  # (..., T, S), dP so far
    d_scores -= (d_out * (weights @ v)).sum(axis=-1, keepdims=True)
    d_scores *= weights
    # dQ = dS K * scale, dK = dS^T Q * scale
    d_q = d_scores @ (k * scale)  # (..., T, D)
    d_k = d_scores.swapaxes(-1, -2) @ (q * scale)  # (..., S, D)
    return tuple(gradient.astype(dtype, copy=False) for gradient in (d_q, d_k, d_v))


def multi_head_attention(
    x: np.ndarray,
    params: dict[str, np.ndarray],
    *,
    n_heads: int,
    mask: np.ndarray | None = None,
    causal: bool = False,
) -> np.ndarray:
    """Self-attention of x (B, T, C) in n_heads heads between learned projections: (B, T, C).

    >>> params = {f"w_{name}": np.eye(2) for name in "qkvo"}
    >>> params |= {f"b_{name}": np.zeros(2) for name in "qkvo"}
    >>> multi_head_attention(np.array([[[2.0, -1.0]]]), params, n_heads=2)
    array([[[ 2., -1.]]])
    """
    _check_layer(x, params, n_heads)
    wide = {name: _working(array) for name, array in params.items()}
    q, k, v = _project(_working(x), wide, n_heads)  # each (B, H, T, D)
    heads = attention(q, k, v, mask=mask, causal=causal)  # (B, H, T, D)

    # MultiHead = Concat(head_1, ..., head_H) W^O
    out = _merge(heads) @ wide["w_o"] + wide["b_o"]  # (B, T, C)
    return out.astype(x.dtype, copy=False)


def multi_head_attention_backward(
    d_out: np.ndarray,
    x: np.ndarray,
    params: dict[str, np.ndarray],
    *,
    n_heads: int,
    mask: np.ndarray | None = None,
    causal: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Gradients of ``(d_out * multi_head_attention(x, params)).sum()`` for x and each parameter.

    >>> params = {f"w_{name}": np.eye(2) for name in "qkvo"}
    >>> params |= {f"b_{name}": np.zeros(2) for name in "qkvo"}
    >>> x, d_out = np.array([[[2.0, -1.0]]]), np.array([[[1.0, 3.0]]])
    >>> d_x, d_params = multi_head_attention_backward(d_out, x, params, n_heads=2)
    >>> d_params["w_o"]
    array([[ 2.,  6.],
           [-1., -3.]])
    """
    _check_layer(x, params, n_heads)
    _check_gradient(d_out, x.shape, x.dtype)
    dtype = x.dtype
    wide = {name: _working(array) for name, array in params.items()}
    d_out, x = _working(d_out), _working(x)
    q, k, v = _project(x, wide, n_heads)  # each (B, H, T, D)
    merged = _merge(attention(q, k, v, mask=mask, causal=causal))  # (B, T, H·D)
    d_heads = _split(d_out @ wide["w_o"].T, n_heads)  # (B, H, T, D)
    d_qkv = attention_backward(d_heads, q, k, v, mask=mask, causal=causal)

    d_x = np.zeros_like(x)  # (B, T, C)
    d_params = {"w_o": _summed_outer(merged, d_out), "b_o": d_out.sum(axis=(0, 1))}
    for name, gradient in zip("qkv", d_qkv, strict=True):
        flat = _merge(gradient)  # (B, T, H·D)
        d_params[f"w_{name}"] = _summed_outer(x, flat)  # (C, H·D)
        d_params[f"b_{name}"] = flat.sum(axis=(0, 1))  # (H·D,)
        d_x += flat @ wide[f"w_{name}"].T  # x feeds all three projections
    narrow = {name: array.astype(dtype, copy=False) for name, array in d_params.items()}
    return d_x.astype(dtype, copy=False), narrow


def _weights(
    q: np.ndarray, k: np.ndarray, allowed: np.ndarray | None, scale: float | None
) -> np.ndarray:
    """P = softmax(Q K^T * scale) over the allowed keys, in one score matrix from first to last."""
    scores = (q * _scale(q, scale)) @ k.swapaxes(-1, -2)  # (..., T, S)
    if allowed is not None:
        np.copyto(scores, -np.inf, where=~allowed)
    # Without keys the maximum is -inf, and -inf - (-inf) would be NaN.
    peak = scores.max(axis=-1, keepdims=True, initial=-np.inf)  # (..., T, 1)
    peak[np.isneginf(peak)] = 0.0
    scores -= peak
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)  # (..., T, 1), at least 1 where a key is allowed
    total[total == 0.0] = 1.0
    scores /= total
    return scores


def _allowed(
    q: np.ndarray, k: np.ndarray, mask: np.ndarray | None, causal: bool
) -> np.ndarray | None:
    """Which query may attend to which key, broadcastable to (..., T, S); None if all may."""
    shape = (*q.shape[:-1], k.shape[-2])
    if mask is not None:
        _check_mask(mask, shape)
    if not causal:
        return mask
    n_queries, n_keys = shape[-2:]
    past = np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool)  # (T, S), last row all True
    return past if mask is None else mask & past


def _project(x: np.ndarray, params: dict[str, np.ndarray], n_heads: int) -> list[np.ndarray]:
    """Queries, keys and values of all heads, each (B, H, T, D)."""
    return [_split(x @ params[f"w_{name}"] + params[f"b_{name}"], n_heads) for name in "qkv"]


def _split(x: np.ndarray, n_heads: int) -> np.ndarray:
    batch, length, width = x.shape
    heads = x.reshape(batch, length, n_heads, width // n_heads)  # (B, T, H·D) -> (B, T, H, D)
    return heads.transpose(0, 2, 1, 3)  # (B, T, H, D) -> (B, H, T, D)


def _merge(heads: np.ndarray) -> np.ndarray:
    batch, n_heads, length, width = heads.shape
    rows = heads.transpose(0, 2, 1, 3)  # (B, H, T, D) -> (B, T, H, D)
    return rows.reshape(batch, length, n_heads * width)  # (B, T, H, D) -> (B, T, H·D)


def _summed_outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Outer products of rows, summed over batch and positions: (B, T, i), (B, T, j) -> (i, j)."""
    return np.tensordot(left, right, axes=((0, 1), (0, 1)))


def _scale(q: np.ndarray, scale: float | None) -> float:
    """A Python float: a NumPy float64 would turn a float32 product into float64."""
    return 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)


def _working(x: np.ndarray) -> np.ndarray:
    """float16 becomes float32: a dot product leaves float16's range at 65,504."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _check_inputs(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.ndim < 2:
            raise ValueError(f"{name}: wanted at least 2 axes, got shape {array.shape}")
        if array.dtype.kind != "f" or array.dtype != q.dtype:
            raise ValueError(f"{name}: wanted a floating dtype, that of q, got {array.dtype}")
    if (*k.shape[:-2], k.shape[-1]) != (*q.shape[:-2], q.shape[-1]):
        raise ValueError(f"k: wanted q's leading axes and width {q.shape}, got shape {k.shape}")
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"v: wanted a row for each key of {k.shape}, got shape {v.shape}")


def _check_mask(mask: np.ndarray, shape: tuple[int, ...]) -> None:
    if mask.dtype != bool:
        raise ValueError(f"mask: wanted booleans, True where a query may attend, got {mask.dtype}")
    sizes = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.ndim > len(shape) or any(own not in (1, wanted) for own, wanted in sizes):
        raise ValueError(f"mask: wanted a shape that broadcasts to {shape}, got {mask.shape}")


def _check_gradient(d_out: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if d_out.shape != shape or d_out.dtype != dtype:
        came = f"{d_out.dtype} {d_out.shape}"
        raise ValueError(f"d_out: wanted the output's {dtype} {shape}, got {came}")


def _check_layer(x: np.ndarray, params: dict[str, np.ndarray], n_heads: int) -> None:
    if x.ndim != 3:
        raise ValueError(f"x: wanted shape (B, T, C), got {x.shape}")
    model_width, width = x.shape[-1], params["w_q"].shape[-1]
    if n_heads < 1 or width % n_heads:
        raise ValueError(f"n_heads: wanted a divisor of w_q's {width} columns, got {n_heads}")
    wanted = {f"w_{name}": (model_width, width) for name in "qkv"}
    wanted |= {f"b_{name}": (width,) for name in "qkv"}
    wanted |= {"w_o": (width, model_width), "b_o": (model_width,)}
    for name, shape in wanted.items():
        if params[name].shape != shape or params[name].dtype != x.dtype:
            came = f"{params[name].dtype} {params[name].shape}"
            raise ValueError(f"{name}: wanted {x.dtype} {shape}, got {came}")
