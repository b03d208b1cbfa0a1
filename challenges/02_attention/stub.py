"""Attention: scaled dot products, masks, heads and the backward pass, in NumPy.

Dimension key:
    B  batch            T  query positions      D    width of a head's queries and keys
    H  heads            S  key positions        D_v  width of a head's values
    C  model width      ...  any leading axes, the same for q, k and v

All floating arrays of one call have one dtype: float16, float32 or float64. No argument is
modified, and no result is a view of one.
"""

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
    """Scaled dot-product attention.

    Parameters
    ----------
    q : (..., T, D), floating
    k : (..., S, D), dtype and leading axes of q
    v : (..., S, D_v), dtype and leading axes of q
    mask : bool, any shape that broadcasts to (..., T, S)
        True where the query may attend to the key. None allows every pair.
    causal : bool
        Allow query t the keys up to t + S - T, in addition to what ``mask`` asks.
    scale : float
        Factor of the dot products, any finite number; None means 1 / sqrt(D).

    Returns
    -------
    (..., T, D_v), dtype of q. A query that may attend to nothing has zeros.

    Raises
    ------
    ValueError
        Naming the argument: q that is not floating; q, k or v with fewer than two axes or another
        dtype than q; k without the leading axes and width of q; v without the leading axes of k
        and a row for each key; mask that is not boolean or does not broadcast to (..., T, S).

    Examples
    --------
    The dot products are 2 ln 3 and 0, the weights 3/4 and 1/4 (spec.md, worked example).

    >>> q = np.array([[2 * np.log(3), 0, 0, 0]])
    >>> k = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    >>> v = np.array([[8.0], [0.0]])
    >>> attention(q, k, v).round(6)
    array([[6.]])
    >>> attention(q, k, v, mask=np.array([False, True]))
    array([[0.]])
    """
    # TODO stage 1: the weighted means, for scores of any size and all three dtypes; the errors.
    # TODO stage 2: mask and causal; queries that see nothing.
    raise NotImplementedError("02_attention, stage 1")


def multi_head_attention(
    x: np.ndarray,
    params: dict[str, np.ndarray],
    *,
    n_heads: int,
    mask: np.ndarray | None = None,
    causal: bool = False,
) -> np.ndarray:
    """Self-attention in several heads between learned projections.

    Parameters
    ----------
    x : (B, T, C), floating
        One row for each token.
    params : dict of arrays with the dtype of x
        ``w_q``, ``w_k``, ``w_v`` (C, H·D); ``b_q``, ``b_k``, ``b_v`` (H·D,); ``w_o`` (H·D, C);
        ``b_o`` (C,). Head h owns columns h·D to (h + 1)·D - 1 of the projections, and the same
        rows of ``w_o``.
    n_heads : int
        H, at least 1; divides the columns of ``w_q``.
    mask : bool, any shape that broadcasts to (B, H, T, T)
        As in ``attention``; so is ``causal``.

    Returns
    -------
    (B, T, C), dtype of x.

    Raises
    ------
    ValueError
        Naming the argument: x without three axes; n_heads below 1 or not a divisor;
        the parameter (``w_k``, say) whose shape or dtype does not fit; mask as in ``attention``.

    Examples
    --------
    A single token attends to itself alone: identity projections give it back.

    >>> params = {f"w_{name}": np.eye(4) for name in "qkvo"}
    >>> params |= {f"b_{name}": np.zeros(4) for name in "qkvo"}
    >>> multi_head_attention(np.array([[[1.0, 2.0, 3.0, 4.0]]]), params, n_heads=2)
    array([[[1., 2., 3., 4.]]])
    """
    # TODO stage 3: project, attend in all heads, merge, project.
    raise NotImplementedError("02_attention, stage 3")


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
    """Gradients of ``(d_out * attention(q, k, v, ...)).sum()`` with respect to q, k and v.

    Parameters
    ----------
    d_out : (..., T, D_v), dtype of q
        Gradient of the loss with respect to the output.
    q, k, v, mask, causal, scale
        As in ``attention``, and as given to it.

    Returns
    -------
    d_q, d_k, d_v : arrays with the shapes and dtypes of q, k and v

    Raises
    ------
    ValueError
        As ``attention``, and naming d_out if it has another shape or dtype than the output.

    Examples
    --------
    Two keys alike in all but their values: moving weight to the first one raises the output.

    >>> q, k, v = np.array([[2.0]]), np.array([[0.0], [0.0]]), np.array([[8.0], [0.0]])
    >>> d_q, d_k, d_v = attention_backward(np.array([[1.0]]), q, k, v)
    >>> d_q
    array([[0.]])
    >>> d_k
    array([[ 4.],
           [-4.]])
    >>> d_v
    array([[0.5],
           [0.5]])
    """
    # TODO stage 4: the three gradients, with few (T, S) arrays alive at a time.
    raise NotImplementedError("02_attention, stage 4")


def multi_head_attention_backward(
    d_out: np.ndarray,
    x: np.ndarray,
    params: dict[str, np.ndarray],
    *,
    n_heads: int,
    mask: np.ndarray | None = None,
    causal: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Gradients of ``(d_out * multi_head_attention(x, params, ...)).sum()``.

    Parameters
    ----------
    d_out : (B, T, C), dtype of x
        Gradient of the loss with respect to the output.
    x, params, n_heads, mask, causal
        As in ``multi_head_attention``, and as given to it.

    Returns
    -------
    d_x : (B, T, C), dtype of x
    d_params : dict with the keys of params, each array with the shape and dtype of its parameter

    Raises
    ------
    ValueError
        As ``multi_head_attention``, and naming d_out if its shape or dtype is not that of x.

    Examples
    --------
    A single token gives all its weight to itself, so nothing reaches the queries.

    >>> params = {f"w_{name}": np.eye(2) for name in "qkvo"}
    >>> params |= {f"b_{name}": np.zeros(2) for name in "qkvo"}
    >>> x, d_out = np.array([[[2.0, -1.0]]]), np.array([[[1.0, 3.0]]])
    >>> d_x, d_params = multi_head_attention_backward(d_out, x, params, n_heads=2)
    >>> d_x
    array([[[1., 3.]]])
    >>> d_params["b_v"]
    array([1., 3.])
    >>> d_params["b_q"]
    array([0., 0.])
    """
    # TODO stage 4: the gradients of x and of each parameter.
    raise NotImplementedError("02_attention, stage 4")
