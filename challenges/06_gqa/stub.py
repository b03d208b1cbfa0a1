"""Stub of 06_gqa: attention whose query heads share keys and values.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.

Dimension key: B batch, T query positions, S key positions, C model width, H query heads,
G key/value heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Params = dict[str, np.ndarray]


def init_params(
    rng: np.random.Generator, *, d_model: int = 16, n_heads: int = 4, n_kv_heads: int = 2,
    head_dim: int = 8, dtype: type = np.float64,
) -> Params:
    """Random parameters of one layer, scaled so that what it computes stays near 1. Given.

    A dict of arrays of one dtype. Every size of a layer is read off its parameters.

    >>> params = init_params(np.random.default_rng(0))
    >>> params["wq"].shape, params["wk"].shape, params["wo"].shape
    ((16, 4, 8), (16, 2, 8), (4, 8, 16))
    """
    C, H, G, D = d_model, n_heads, n_kv_heads, head_dim
    shapes = {"wq": (C, H, D), "bq": (H, D), "wk": (C, G, D), "bk": (G, D)}
    shapes |= {"wv": (C, G, D), "bv": (G, D), "wo": (H, D, C), "bo": (C,)}
    fan_in = {"wq": C, "wk": C, "wv": C, "wo": H * D}
    return {
        name: (rng.standard_normal(shape) / math.sqrt(fan_in.get(name, 1))).astype(dtype)
        for name, shape in shapes.items()
    }


# Stage 1: one key and value head for all query heads.


def multi_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool = False
) -> np.ndarray:
    """Attention of all H query heads over one set of keys and values.

    Parameters
    ----------
    q : (B, H, T, D) float32 or float64, not modified, as are k and v. No axis is empty.
    k : (B, S, D) of the same dtype.
    v : (B, S, D_v) of the same dtype. D_v need not be D.
    causal : query t sees the keys up to t + S - T: the queries are the last T of S positions.

    Returns
    -------
    (B, H, T, D_v) in the dtype of q.

    Raises
    ------
    ValueError
        Naming ``q``, ``k`` or ``v``, the first of them whose shape does not fit those before it;
        naming ``causal`` if it is set and T is larger than S.

    >>> q = np.array([[[[2 * math.log(3), 0.0, 0, 0]], [[0.0, 0, 0, 0]]]])  # (1, 2, 1, 4)
    >>> k, v = np.eye(4)[None, :2], np.array([[[8.0], [0.0]]])  # (1, 2, 4), (1, 2, 1)
    >>> multi_query_attention(q, k, v)[0, :, 0, 0].round(3)  # weights 3/4, 1/4 and 1/2, 1/2
    array([6., 4.])
    """
    # TODO stage 1.
    raise NotImplementedError("06_gqa, stage 1")


# Stage 2: groups of query heads.


def grouped_query_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool = False
) -> np.ndarray:
    """Attention in which query head h uses key/value head ⌊h · G / H⌋.

    Parameters
    ----------
    q : (B, H, T, D) float32 or float64, not modified, as are k and v. No axis is empty.
    k : (B, G, S, D) of the same dtype. G divides H.
    v : (B, G, S, D_v) of the same dtype.
    causal : as in ``multi_query_attention``.

    Returns
    -------
    (B, H, T, D_v) in the dtype of q.

    Raises
    ------
    ValueError
        As ``multi_query_attention``; naming ``k`` also if G does not divide H.

    >>> q = np.zeros((1, 4, 1, 2))
    >>> k, v = np.zeros((1, 2, 3, 2)), np.array([1.0, 5.0]).reshape(1, 2, 1, 1).repeat(3, axis=2)
    >>> grouped_query_attention(q, k, v)[0, :, 0, 0]  # two heads for each value head
    array([1., 1., 5., 5.])
    """
    # TODO stage 2.
    raise NotImplementedError("06_gqa, stage 2")


def gqa_layer(params: Params, x: np.ndarray) -> np.ndarray:
    """Causal self-attention with its projections and their biases.

    Parameters
    ----------
    params : as ``init_params`` makes them, or functions of stages 4 and 5; not modified.
    x : (B, T, C) in their dtype, not modified. No axis is empty.

    Returns
    -------
    (B, T, C) in the dtype of the parameters.

    Raises
    ------
    ValueError
        Naming ``x`` if it does not have three axes, the last of length C.

    >>> params = init_params(np.random.default_rng(0))
    >>> gqa_layer(params, np.ones((2, 3, 16))).shape
    (2, 3, 16)
    """
    # TODO stage 2.
    raise NotImplementedError("06_gqa, stage 2")


# Stage 3: a cache of key/value heads, each of them read once.


class KVMemory:
    """Keys and values of a batch in slow memory, and a count of the bytes that are read. Given.

    ``lengths`` has the number of tokens of each row, ``nbytes`` the bytes of all that is held, and
    ``bytes_read`` those of all loads so far. Nothing else of it may be used. A row holds as many
    heads as its first append brought; one that holds nothing cannot be loaded.

    >>> memory = KVMemory(batch=2)
    >>> memory.append(0, np.zeros((1, 3, 4)), np.ones((1, 3, 4)))  # one head, 3 tokens, D = 4
    >>> keys, values = memory.load(0, head=0)
    >>> memory.lengths, keys.shape, memory.nbytes, memory.bytes_read  # 2 · 3 · 4 numbers
    ([3, 0], (3, 4), 192, 192)
    """

    def __init__(self, batch: int) -> None:
        self.lengths = [0] * batch
        self.nbytes = self.bytes_read = 0
        self._rows: list[np.ndarray] = [np.empty(0)] * batch  # (2, heads, S, D) each

    def append(self, row: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Store T more tokens behind a row's others: keys and values (heads, T, D), copied.

        >>> memory = KVMemory(batch=1)
        >>> memory.append(0, np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))
        >>> memory.append(0, np.zeros((2, 1, 4)), np.zeros((2, 1, 4)))
        >>> memory.lengths
        [4]
        """
        pieces = [self._rows[row]] * (self.lengths[row] > 0) + [np.stack([keys, values])]
        self._rows[row] = np.concatenate(pieces, axis=2)
        self._rows[row].flags.writeable = False
        self.lengths[row], self.nbytes = self._rows[row].shape[2], sum(r.nbytes for r in self._rows)

    def load(self, row: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (S, D) of one head of a row, read-only. Each call counts its bytes.

        >>> memory = KVMemory(batch=1)
        >>> memory.append(0, np.zeros((2, 3, 4)), np.ones((2, 3, 4)))
        >>> memory.load(0, 1)[1].sum()
        np.float64(12.0)
        """
        keys, values = self._rows[row][:, head]
        self.bytes_read += keys.nbytes + values.nbytes
        return keys, values


def cached_layer(params: Params, x: np.ndarray, memory: KVMemory) -> np.ndarray:
    """``gqa_layer`` for the next T tokens of each row, whose earlier ones are in the memory.

    Parameters
    ----------
    params : as ``init_params`` makes them; not modified.
    x : (B, T, C) in their dtype, one row for each row of the memory; not modified. T = 1 is a
        decode step, a larger T a piece of a prompt, or a draft that is verified. The rows of the
        memory may hold different numbers of tokens, none included.
    memory : gets the T new tokens in each row. What it holds already are the G keys and values of
        earlier tokens, (G, S, D) as ``append`` takes them.

    Returns
    -------
    (B, T, C) in the dtype of the parameters.

    Raises
    ------
    ValueError
        Naming ``x`` if its shape does not fit; the memory is as before, nothing read or stored.

    >>> params = init_params(np.random.default_rng(0))
    >>> x, memory = np.random.default_rng(1).standard_normal((1, 5, 16)), KVMemory(batch=1)
    >>> out = np.concatenate([cached_layer(params, x[:, t : t + 1], memory) for t in range(5)], 1)
    >>> bool(np.allclose(out, gqa_layer(params, x)))
    True
    """
    # TODO stage 3.
    raise NotImplementedError("06_gqa, stage 3")


def decode_cost(
    *,
    d_model: int,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    lengths: Sequence[int],
    n_tokens: int = 1,
    itemsize: int = 2,
) -> dict[str, int]:
    """What one call of ``cached_layer`` computes, and what it has to read.

    Parameters
    ----------
    lengths : for each row the tokens that it holds at the end of the call, the new ones included.
    n_tokens : T, the new tokens of each row.
    itemsize : bytes of one number.

    Returns
    -------
    A dict of four ints. ``weight_flops`` and ``cache_flops``: multiplications and additions of the
    four projections, and of the products with keys and with values, over all slots of a row
    whether masked or not. ``weight_bytes`` and ``cache_bytes``: bytes of the four projections'
    weights, and of the keys and values of all slots, each number read once. Biases, the scale and
    the softmax are left out.

    >>> cost = decode_cost(d_model=1, n_heads=2, n_kv_heads=1, head_dim=1, lengths=[3])
    >>> cost["weight_flops"], cost["weight_bytes"]  # 2 + 1 + 1 + 2 weights
    (12, 12)
    >>> cost["cache_flops"], cost["cache_bytes"]  # 2 heads · 3 slots · 2 products; 3 keys, 3 values
    (24, 12)
    """
    # TODO stage 3.
    raise NotImplementedError("06_gqa, stage 3")


# Stage 4: the heads of one rank.


def shard_params(params: Params, rank: int, n_ranks: int) -> Params:
    """The layer of one of several ranks that split the heads between them.

    Parameters
    ----------
    params : as ``init_params`` makes them; not modified.
    rank : 0 to n_ranks - 1.
    n_ranks : divides H, and divides G or is a multiple of G.

    Returns
    -------
    Parameters of the same names, for ``gqa_layer`` and ``cached_layer``, that share no memory with
    those given: ``wq`` (C, H / n_ranks, D), ``wk`` (C, G / n_ranks or 1, D), and so on.

    Raises
    ------
    ValueError
        Naming ``n_ranks`` if it does not fit, naming ``rank`` if there is none such.

    >>> params = init_params(np.random.default_rng(0), n_heads=8, n_kv_heads=2)
    >>> [shard_params(params, 0, n)["wk"].shape[1] for n in (1, 2, 4, 8)]
    [2, 1, 1, 1]
    """
    # TODO stage 4.
    raise NotImplementedError("06_gqa, stage 4")


# Stage 5: checkpoints.


def unpack_qkv(
    w_qkv: np.ndarray, b_qkv: np.ndarray, *, n_heads: int, n_kv_heads: int, layout: str
) -> Params:
    """The projections out of one fused matrix, whose columns are H + 2 G heads of width D.

    Parameters
    ----------
    w_qkv : (C, (H + 2 G) · D), not modified.
    b_qkv : ((H + 2 G) · D,), not modified; in the order of the columns.
    layout : "concatenated": all query heads, all key heads, all value heads. "grouped": for each
        of the G groups its H / G query heads, then its key head, then its value head.

    Returns
    -------
    ``wq``, ``bq``, ``wk``, ``bk``, ``wv``, ``bv`` in the shapes of ``init_params``, and no other.
    They share no memory with the arguments.

    Raises
    ------
    ValueError
        Naming ``n_kv_heads`` if it is below 1 or does not divide n_heads, ``layout`` if it is
        neither of the two, ``w_qkv`` or ``b_qkv`` if its shape does not fit.

    >>> w = np.arange(8.0)[None]  # C = 1, D = 1, H = 4, G = 2
    >>> heads = unpack_qkv(w, w[0], n_heads=4, n_kv_heads=2, layout="grouped")
    >>> heads["wq"].ravel(), heads["wk"].ravel(), heads["wv"].ravel()
    (array([0., 1., 4., 5.]), array([2., 6.]), array([3., 7.]))
    """
    # TODO stage 5.
    raise NotImplementedError("06_gqa, stage 5")


def contiguous_groups(params: Params) -> Params:
    """The same layer for ``gqa_layer``, out of one whose query head h uses key/value head h mod G.

    Parameters
    ----------
    params : in the shapes of ``init_params``; not modified.

    Returns
    -------
    Parameters of the same names and shapes, that share no memory with those given.

    >>> params = init_params(np.random.default_rng(0), n_heads=4, n_kv_heads=1)
    >>> new = contiguous_groups(params)  # all heads use the only one: nothing has to move
    >>> all(bool((new[name] == params[name]).all()) for name in params)
    True
    """
    # TODO stage 5.
    raise NotImplementedError("06_gqa, stage 5")


def mean_pool(params: Params, n_kv_heads: int) -> Params:
    """A layer of fewer key/value heads, each made of the mean of G / n_kv_heads neighbours.

    Parameters
    ----------
    params : as ``init_params`` makes them, G key/value heads; not modified.
    n_kv_heads : divides G.

    Returns
    -------
    Parameters of the same names and dtype, that share no memory with those given.

    Raises
    ------
    ValueError
        Naming ``n_kv_heads`` if it is below 1 or does not divide G.

    >>> params = init_params(np.random.default_rng(0), n_kv_heads=4)
    >>> params["bk"] = np.array([1.0, 3.0, 5.0, 9.0]).repeat(8).reshape(4, 8)
    >>> mean_pool(params, 2)["bk"][:, 0]
    array([2., 7.])
    """
    # TODO stage 5.
    raise NotImplementedError("06_gqa, stage 5")


def align_heads(params: Params, n_kv_heads: int) -> Params:
    """The same layer in other bases: the heads that ``mean_pool`` will average made alike.

    Parameters
    ----------
    params : as ``init_params`` makes them, G key/value heads; not modified. C may be less than D.
    n_kv_heads : divides G; the groups are those of ``mean_pool``.

    Returns
    -------
    Parameters of the same names, shapes and dtype, that share no memory with those given.

    Raises
    ------
    ValueError
        Naming ``n_kv_heads`` if it is below 1 or does not divide G.

    >>> params = init_params(np.random.default_rng(0), n_heads=2, n_kv_heads=2, head_dim=2)
    >>> flip = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> for name in ("wv", "bv"):  # value head 1 is head 0, a quarter turn on
    ...     params[name][..., 1, :] = params[name][..., 0, :] @ flip
    >>> new = align_heads(params, 1)
    >>> bool(np.allclose(new["wv"][:, 1], params["wv"][:, 0]))
    True
    """
    # TODO stage 5.
    raise NotImplementedError("06_gqa, stage 5")
