"""Stub of 05_parallelism: one model on many ranks, and the messages between them.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Each function runs once on every rank. `comm` is that rank's end of the cluster:
`comm.rank`, `comm.size`, and the calls that spec.md#the-communicator lists.

To try something, run this file with Python:

    if __name__ == "__main__":
        from pytest_llmgrind.cluster import Cluster
        print(Cluster(4).run(ring_all_reduce, np.ones(1000)).timeline())

Dimension key:
    N  rows             C  model width     H  heads of the whole layer    R  ranks
    B  batch            F  hidden width    D  width of a head             ...  any leading axes
    T  positions

All floating arrays of one call have one dtype, float32 or float64, and so do the results. They may
lie in memory in any order. No argument is modified, and no result is a view of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pytest_llmgrind.cluster import Comm

Array = np.ndarray
Params = dict[str, Array]


# -- given ----------------------------------------------------------------------------------------


def attention_core(q: Array, k: Array, v: Array) -> Array:
    """Causal attention of any number of heads. Given.

    q, k, v : (B, heads, T, D). Returns (B, heads, T, D).

    >>> attention_core(np.zeros((1, 1, 2, 1)), np.zeros((1, 1, 2, 1)), np.array([[[[2.0], [4.0]]]]))
    array([[[[2.],
             [3.]]]])
    """
    return _weights(q, k) @ v


def attention_core_backward(
    d_out: Array, q: Array, k: Array, v: Array
) -> tuple[Array, Array, Array]:
    """The gradients (d_q, d_k, d_v) of `attention_core`. All (B, heads, T, D). Given."""
    weights, scale = _weights(q, k), 1 / math.sqrt(q.shape[-1])
    d_weights = d_out @ v.swapaxes(-1, -2)  # (B, heads, T, T)
    mean = (d_weights * weights).sum(axis=-1, keepdims=True)
    d_scores = weights * (d_weights - mean) * scale
    return d_scores @ k, d_scores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ d_out


def _weights(q: Array, k: Array) -> Array:
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    scores = np.where(np.tri(q.shape[-2], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


# -- stage 1: data parallel -----------------------------------------------------------------------


def average_gradients(comm: Comm, grads: Params, rows: int) -> Params:
    """The mean of the gradients over the rows of all ranks.

    Parameters
    ----------
    grads : dict of floating arrays of any shape
        The mean over this rank's rows. Every rank has the same names with the same shapes, in any
        order. Where `rows` is 0 only the shapes mean anything: the numbers may be NaN.
    rows : int
        Rows of this rank, 0 or more; other ranks may have more or fewer.

    Returns
    -------
    dict with the names, shapes and dtype of `grads`.

    Raises
    ------
    ValueError
        Naming `rows`, if it is negative or if no rank has any.

    Examples
    --------
    Three rows with mean 2 and one row with mean 6: (3 · 2 + 1 · 6) / 4.

    >>> from pytest_llmgrind.cluster import Cluster, per_rank
    >>> grads = [{"w": np.array([2.0])}, {"w": np.array([6.0])}]
    >>> Cluster(2).run(average_gradients, per_rank(grads), per_rank([3, 1])).results[1]
    {'w': array([3.])}
    """
    # TODO stage 1: the mean over all rows, in few messages.
    raise NotImplementedError("05_parallelism, stage 1")


def data_parallel_step(
    comm: Comm,
    params: Params,
    x: Array,
    y: Array,
    *,
    loss_and_grads: Callable[[Params, Array, Array], tuple[float, Params]],
    lr: float,
) -> tuple[Params, float]:
    """One step of SGD over the rows of all ranks.

    Parameters
    ----------
    params : dict of floating arrays, equal on all ranks
    x, y : (N, ...)
        This rank's rows; N may differ between ranks, and may be 0 on some, but not on all.
    loss_and_grads : function of (params, x, y)
        Mean loss and mean gradients (names and shapes of `params`) over its rows. Needs at least
        one row.
    lr : float
        New parameters are params - lr · gradient.

    Returns
    -------
    (params, loss): new arrays under the old names, and the mean loss over the rows of all ranks
    before the step, a float. The same on every rank.
    """
    # TODO stage 1: the step that one process with all rows would make.
    raise NotImplementedError("05_parallelism, stage 1")


# -- stage 2: parallel linear layers --------------------------------------------------------------


def shard(array: Array, *, axis: int, rank: int, size: int) -> Array:
    """The rank's part of an array that is cut along `axis` into `size` equal, consecutive parts.

    Raises ValueError naming `size` where it does not divide the axis, `rank` where it is not one
    of 0 to size - 1.

    >>> shard(np.arange(6), axis=0, rank=1, size=3)
    array([2, 3])
    """
    # TODO stage 2: the part; the errors.
    raise NotImplementedError("05_parallelism, stage 2")


def gather_columns(comm: Comm, y: Array) -> Array:
    """All ranks' columns y (..., F/R) side by side, on every rank. Returns (..., F)."""
    # TODO stage 2: put them in order.
    raise NotImplementedError("05_parallelism, stage 2")


def column_linear(comm: Comm, x: Array, w: Array, b: Array) -> Array:
    """A linear layer whose columns are spread over the ranks.

    x (..., C) is whole, the same on all ranks; w (C, F/R) and b (F/R,) are this rank's columns.
    Returns this rank's columns of the output, (..., F/R).
    """
    # TODO stage 2: the rank's columns.
    raise NotImplementedError("05_parallelism, stage 2")


def column_linear_backward(
    comm: Comm, d_y: Array, x: Array, w: Array
) -> tuple[Array, Array, Array]:
    """The gradients of `column_linear`, from those of this rank's columns, d_y (..., F/R).

    Returns d_x (..., C), whole on every rank; d_w (C, F/R) and d_b (F/R,) of this rank's columns.
    """
    # TODO stage 2: the gradients.
    raise NotImplementedError("05_parallelism, stage 2")


def row_linear(comm: Comm, x: Array, w: Array, b: Array) -> Array:
    """A linear layer whose rows are spread over the ranks.

    x (..., F/R) is this rank's columns of the input, w (F/R, C) its rows; b (C,) is whole, the same
    on all ranks. Returns the whole output (..., C), the same on every rank.

    Examples
    --------
    1 · 1 on one rank, 2 · 3 on the other, and a bias of 10.

    >>> from pytest_llmgrind.cluster import Cluster, per_rank
    >>> xs, ws = [np.array([1.0]), np.array([2.0])], [np.array([[1.0]]), np.array([[3.0]])]
    >>> Cluster(2).run(row_linear, per_rank(xs), per_rank(ws), np.array([10.0])).results
    (array([17.]), array([17.]))
    """
    # TODO stage 2: the whole output.
    raise NotImplementedError("05_parallelism, stage 2")


def row_linear_backward(comm: Comm, d_y: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """The gradients of `row_linear`, from d_y (..., C), the same on all ranks.

    Returns d_x (..., F/R) and d_w (F/R, C) of this rank's part; d_b (C,), whole on every rank.
    """
    # TODO stage 2: the gradients.
    raise NotImplementedError("05_parallelism, stage 2")


# -- stage 3: tensor-parallel blocks --------------------------------------------------------------


def shard_mlp(params: Params, *, rank: int, size: int) -> Params:
    """The rank's part of an MLP's parameters.

    From w_in (C, F), b_in (F,), w_out (F, C), b_out (C,) to w_in (C, F/R), b_in (F/R,),
    w_out (F/R, C), b_out (C,). Raises ValueError naming `size` where it does not divide F.
    """
    # TODO stage 3: the part that parallel_mlp takes.
    raise NotImplementedError("05_parallelism, stage 3")


def parallel_mlp(comm: Comm, x: Array, params: Params) -> Array:
    """relu(x · w_in + b_in) · w_out + b_out over all ranks.

    x (..., C) is the same on all ranks, `params` what `shard_mlp` gave. Returns (..., C), whole on
    every rank.
    """
    # TODO stage 3: one all-reduce.
    raise NotImplementedError("05_parallelism, stage 3")


def parallel_mlp_backward(comm: Comm, d_y: Array, x: Array, params: Params) -> tuple[Array, Params]:
    """The gradients of `parallel_mlp`, from d_y (..., C), the same on all ranks.

    Returns d_x (..., C), whole on every rank, and a dict with the gradients of this rank's
    parameters. The derivative of relu at 0 is 0.
    """
    # TODO stage 3: one all-reduce.
    raise NotImplementedError("05_parallelism, stage 3")


def shard_attention(params: Params, *, n_heads: int, rank: int, size: int) -> Params:
    """The rank's part of an attention layer's parameters: the r-th n_heads / R of the heads.

    From w_qkv (C, 3·H·D), b_qkv (3·H·D,), w_o (H·D, C), b_o (C,) to w_qkv (C, 3·H·D/R),
    b_qkv (3·H·D/R,), w_o (H·D/R, C), b_o (C,). The columns of w_qkv are those of all queries, then
    of all keys, then of all values; each of the three has H heads of D columns. So has the part,
    with H/R heads. Raises ValueError naming `n_heads` where `size` does not divide it.
    """
    # TODO stage 3: the part that parallel_attention takes.
    raise NotImplementedError("05_parallelism, stage 3")


def parallel_attention(comm: Comm, x: Array, params: Params, *, n_heads: int) -> Array:
    """Causal self-attention with its heads spread over the ranks.

    x (B, T, C) is the same on all ranks, `params` what `shard_attention` gave, `n_heads` the H of
    the whole layer. Returns (B, T, C), whole on every rank. Raises ValueError naming `n_heads`
    where the ranks do not divide it.
    """
    # TODO stage 3: one all-reduce.
    raise NotImplementedError("05_parallelism, stage 3")


def parallel_attention_backward(
    comm: Comm, d_y: Array, x: Array, params: Params, *, n_heads: int
) -> tuple[Array, Params]:
    """The gradients of `parallel_attention`, from d_y (B, T, C), the same on all ranks.

    Returns d_x (B, T, C), whole on every rank, and a dict with the gradients of this rank's
    parameters. Raises as `parallel_attention` does.
    """
    # TODO stage 3: one all-reduce.
    raise NotImplementedError("05_parallelism, stage 3")


# -- stage 4: a ring ------------------------------------------------------------------------------


def ring_reduce_scatter(comm: Comm, pieces: Sequence[Array]) -> Array:
    """The sum over all ranks of `pieces[comm.rank]`.

    `pieces` holds R arrays of one dtype, floating or integer; piece r has the same shape on every
    rank, different pieces may differ.
    """
    # TODO stage 4: R - 1 messages, all to the right.
    raise NotImplementedError("05_parallelism, stage 4")


def ring_all_gather(comm: Comm, piece: Array) -> list[Array]:
    """Every rank's piece, in the order of the ranks. Shapes may differ between ranks."""
    # TODO stage 4: R - 1 messages, all to the right.
    raise NotImplementedError("05_parallelism, stage 4")


def ring_all_reduce(comm: Comm, x: Array) -> Array:
    """The sum of all ranks' x, on every rank.

    x has any shape, the same on all ranks, and any number of elements, 0 included; floating or
    integer. Returns a new array of that shape and dtype, the same to the last bit on every rank.

    Examples
    --------
    8,000 bytes on 4 ranks: each sends 2 · 3 messages of 2,000 bytes.

    >>> from pytest_llmgrind.cluster import Cluster
    >>> run = Cluster(4).run(ring_all_reduce, np.ones(1000))
    >>> run.results[3][:2], run.ranks[0].sent_messages, run.ranks[0].sent_bytes
    (array([4., 4.]), 6, 12000)
    """
    # TODO stage 4: 2 (R - 1) messages of 1/R of x.
    raise NotImplementedError("05_parallelism, stage 4")


# -- stage 5: real processes ----------------------------------------------------------------------

DTYPES = ("float32", "float64", "int32", "int64")


class ProcessComm:
    """A communicator over torch.distributed, one process a rank, with the calls of `comm`.

    `rank` and `size` are attributes. Arrays are NumPy arrays of a dtype in DTYPES, of up to 8 axes,
    contiguous or not, and so are the results. Every call that sends raises ValueError naming
    `array` for another dtype, before anything is on its way. Import torch inside the methods: then
    the other stages run on a machine without it.
    """

    def __init__(self, rank: int, size: int, init_method: str, *, backend: str = "gloo") -> None:
        """Meet the other ranks; return when all are there.

        `init_method` and `backend` are those of torch.distributed.init_process_group. With the
        backend nccl, rank r uses the device cuda:r. Raises ValueError naming `rank` where it is not
        one of 0 to size - 1.
        """
        # TODO stage 5: the process group.
        raise NotImplementedError("05_parallelism, stage 5")

    def close(self) -> None:
        """Leave the group. The process may make another ProcessComm afterwards."""
        # TODO stage 5: the end of the process group.
        raise NotImplementedError("05_parallelism, stage 5")

    def send(self, array: Array, dst: int) -> None:
        """Send an array to rank dst; it may be changed as soon as this returns."""
        # TODO stage 5: all that the receiver has to know.
        raise NotImplementedError("05_parallelism, stage 5")

    def recv(self, src: int) -> Array:
        """The next array from rank src, with the dtype and shape that it was sent with."""
        # TODO stage 5: an array of unknown dtype and shape.
        raise NotImplementedError("05_parallelism, stage 5")

    def sendrecv(self, array: Array, dst: int, src: int) -> Array:
        """Send to dst and receive from src at the same time; what was received."""
        # TODO stage 5: all ranks may do this at once.
        raise NotImplementedError("05_parallelism, stage 5")

    def all_reduce(self, array: Array) -> Array:
        """The sum of all ranks' arrays, which have one shape and dtype, as a new array."""
        # TODO stage 5: the sum.
        raise NotImplementedError("05_parallelism, stage 5")

    def all_gather(self, array: Array) -> list[Array]:
        """All ranks' arrays, which have one shape and dtype, in the order of the ranks."""
        # TODO stage 5: the list.
        raise NotImplementedError("05_parallelism, stage 5")
