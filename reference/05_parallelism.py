"""Data and tensor parallelism, a ring all-reduce, and a communicator over torch.distributed.

Data parallel with buckets: Li et al., "PyTorch Distributed", 2020, arXiv:2006.15704. Tensor
parallel: Shoeybi et al., "Megatron-LM", 2019, arXiv:1909.08053. The ring: Patarasuk and Yuan,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.

Differs from Megatron-LM in: ReLU in the MLP; the backward passes recompute what they need from x,
without another message.

Dimension key:
    N  rows             C  model width     H  heads of the whole layer    R  ranks
    B  batch            F  hidden width    D  width of a head             ...  any leading axes
    T  positions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pytest_llmgrind.cluster import Comm

Array = np.ndarray
Params = dict[str, Array]


# -- given ----------------------------------------------------------------------------------------


def attention_core(q: Array, k: Array, v: Array) -> Array:
    """Causal attention of any number of heads. (B, heads, T, D) each -> (B, heads, T, D)"""
    return _weights(q, k) @ v


def attention_core_backward(
    d_out: Array, q: Array, k: Array, v: Array
) -> tuple[Array, Array, Array]:
    """The gradients of `attention_core` for q, k and v. (B, heads, T, D) each"""
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
    """The mean of all ranks' gradients, a rank with ``rows`` rows weighing as many, by name.

    >>> from pytest_llmgrind.cluster import Cluster, per_rank
    >>> grads = [{"w": np.array([2.0])}, {"w": np.array([6.0])}]
    >>> Cluster(2).run(average_gradients, per_rank(grads), per_rank([3, 1])).results[1]
    {'w': array([3.])}
    """
    names = sorted(grads)  # the order of a dict is each rank's own
    means = _average(comm, [grads[name] for name in names], rows)
    return dict(zip(names, means, strict=True))


def data_parallel_step(
    comm: Comm,
    params: Params,
    x: Array,
    y: Array,
    *,
    loss_and_grads: Callable[[Params, Array, Array], tuple[float, Params]],
    lr: float,
) -> tuple[Params, float]:
    """One step of SGD over the rows of all ranks; new parameters and the loss over all rows."""
    names, dtype = sorted(params), next(iter(params.values())).dtype
    loss, grads = loss_and_grads(params, x, y) if len(x) else (0.0, params)
    arrays = [np.asarray(loss, dtype), *(grads[name] for name in names)]
    mean_loss, *means = _average(comm, arrays, len(x))
    stepped = {name: params[name] - lr * mean for name, mean in zip(names, means, strict=True)}
    return stepped, float(mean_loss)


def _average(comm: Comm, arrays: Sequence[Array], rows: int) -> list[Array]:
    """The mean over all rows of all ranks, in one all-reduce of one bucket."""
    if rows < 0:
        raise ValueError(f"rows: wanted 0 or more, got {rows}")
    dtype = arrays[0].dtype
    # Without rows the gradients may be NaN, and 0 · NaN is NaN.
    terms = [rows * a.ravel() if rows else np.zeros(a.size, dtype) for a in arrays]
    bucket = comm.all_reduce(np.concatenate([*terms, np.array([rows], dtype)]))
    if bucket[-1] == 0:
        raise ValueError("rows: no rank has any")
    ends = np.cumsum([a.size for a in arrays])
    parts = np.split(bucket[:-1] / bucket[-1], ends[:-1])
    return [part.reshape(a.shape) for part, a in zip(parts, arrays, strict=True)]


# -- stage 2: parallel linear layers --------------------------------------------------------------


def shard(array: Array, *, axis: int, rank: int, size: int) -> Array:
    """The rank's part of an array that is cut along ``axis`` into ``size`` equal parts.

    >>> shard(np.arange(6), axis=0, rank=1, size=3)
    array([2, 3])
    """
    if not 0 <= rank < size:
        raise ValueError(f"rank: wanted 0 to size - 1 = {size - 1}, got {rank}")
    if array.shape[axis] % size:
        raise ValueError(f"size: {size} ranks do not divide the {array.shape[axis]} of axis {axis}")
    return np.split(array, size, axis)[rank].copy()


def gather_columns(comm: Comm, y: Array) -> Array:
    """All ranks' columns side by side. (..., F/R) -> (..., F)"""
    return np.concatenate(comm.all_gather(y), axis=-1)


def column_linear(comm: Comm, x: Array, w: Array, b: Array) -> Array:
    """x (..., C), the rank's columns w (C, F/R) and b (F/R,) -> its columns (..., F/R)"""
    return x @ w + b


def column_linear_backward(
    comm: Comm, d_y: Array, x: Array, w: Array
) -> tuple[Array, Array, Array]:
    """d_x (..., C) whole, d_w and d_b of the rank's columns, from its d_y (..., F/R)."""
    # Every rank used all of x, so x gets a term from every rank.
    return comm.all_reduce(d_y @ w.T), _rows(x).T @ _rows(d_y), _rows(d_y).sum(axis=0)


def row_linear(comm: Comm, x: Array, w: Array, b: Array) -> Array:
    """The rank's columns x (..., F/R), its rows w (F/R, C), b (C,) whole -> y (..., C) whole"""
    return comm.all_reduce(x @ w) + b


def row_linear_backward(comm: Comm, d_y: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """d_x (..., F/R) and d_w of the rank's part, d_b (C,) whole, from d_y (..., C)."""
    return d_y @ w.T, _rows(x).T @ _rows(d_y), _rows(d_y).sum(axis=0)


def _rows(x: Array) -> Array:
    """(..., C) -> (N, C)"""
    return x.reshape(-1, x.shape[-1])


# -- stage 3: tensor-parallel blocks --------------------------------------------------------------


def shard_mlp(params: Params, *, rank: int, size: int) -> Params:
    """w_in and b_in by columns, w_out by rows, b_out whole."""
    cut = {"w_in": 1, "b_in": 0, "w_out": 0}
    parts = {n: shard(params[n], axis=axis, rank=rank, size=size) for n, axis in cut.items()}
    return {**parts, "b_out": params["b_out"].copy()}


def parallel_mlp(comm: Comm, x: Array, params: Params) -> Array:
    """relu(x · w_in + b_in) · w_out + b_out, with one all-reduce. (..., C) -> (..., C)"""
    hidden = np.maximum(column_linear(comm, x, params["w_in"], params["b_in"]), 0)  # (..., F/R)
    return row_linear(comm, hidden, params["w_out"], params["b_out"])


def parallel_mlp_backward(comm: Comm, d_y: Array, x: Array, params: Params) -> tuple[Array, Params]:
    """d_x whole and the gradients of the rank's parameters, with one all-reduce."""
    hidden = np.maximum(column_linear(comm, x, params["w_in"], params["b_in"]), 0)  # (..., F/R)
    d_hidden, d_w_out, d_b_out = row_linear_backward(comm, d_y, hidden, params["w_out"])
    d_hidden = d_hidden * (hidden > 0)
    d_x, d_w_in, d_b_in = column_linear_backward(comm, d_hidden, x, params["w_in"])
    return d_x, {"w_in": d_w_in, "b_in": d_b_in, "w_out": d_w_out, "b_out": d_b_out}


def shard_attention(params: Params, *, n_heads: int, rank: int, size: int) -> Params:
    """The rank's heads: their columns of q, of k and of v, their rows of w_o; b_o whole."""
    _check_heads(n_heads, size)
    width = params["b_qkv"].shape[0] // 3  # H·D

    def heads(array: Array) -> Array:
        parts = [array[..., i * width : (i + 1) * width] for i in range(3)]
        own = [shard(part, axis=-1, rank=rank, size=size) for part in parts]
        return np.concatenate(own, axis=-1)

    return {
        "w_qkv": heads(params["w_qkv"]),  # (C, 3·H·D) -> (C, 3·H·D/R)
        "b_qkv": heads(params["b_qkv"]),
        "w_o": shard(params["w_o"], axis=0, rank=rank, size=size),  # (H·D, C) -> (H·D/R, C)
        "b_o": params["b_o"].copy(),
    }


def parallel_attention(comm: Comm, x: Array, params: Params, *, n_heads: int) -> Array:
    """Causal self-attention with the rank's heads and one all-reduce. (B, T, C) -> (B, T, C)"""
    q, k, v = _qkv(comm, x, params, n_heads)
    return row_linear(comm, _merged(attention_core(q, k, v)), params["w_o"], params["b_o"])


def parallel_attention_backward(
    comm: Comm, d_y: Array, x: Array, params: Params, *, n_heads: int
) -> tuple[Array, Params]:
    """d_x whole and the gradients of the rank's parameters, with one all-reduce."""
    q, k, v = _qkv(comm, x, params, n_heads)
    out = _merged(attention_core(q, k, v))  # (B, T, H·D/R)
    d_out, d_w_o, d_b_o = row_linear_backward(comm, d_y, out, params["w_o"])
    B, heads, T, D = q.shape
    d_out = d_out.reshape(B, T, heads, D).swapaxes(1, 2)  # (B, T, H·D/R) -> (B, H/R, T, D)
    parts = [_merged(part) for part in attention_core_backward(d_out, q, k, v)]
    d_qkv = np.concatenate(parts, axis=-1)  # (B, T, 3·H·D/R)
    d_x, d_w_qkv, d_b_qkv = column_linear_backward(comm, d_qkv, x, params["w_qkv"])
    return d_x, {"w_qkv": d_w_qkv, "b_qkv": d_b_qkv, "w_o": d_w_o, "b_o": d_b_o}


def _qkv(comm: Comm, x: Array, params: Params, n_heads: int) -> Array:
    """The rank's queries, keys and values. (B, T, C) -> (3, B, H/R, T, D)"""
    _check_heads(n_heads, comm.size)
    qkv = column_linear(comm, x, params["w_qkv"], params["b_qkv"])  # (B, T, 3·H·D/R)
    split = qkv.reshape(*x.shape[:2], 3, n_heads // comm.size, -1)  # (B, T, 3, H/R, D)
    return split.transpose(2, 0, 3, 1, 4)


def _check_heads(n_heads: int, size: int) -> None:
    if n_heads < 1 or n_heads % size:
        raise ValueError(f"n_heads: {size} ranks do not divide {n_heads} heads")


def _merged(x: Array) -> Array:
    """(B, heads, T, D) -> (B, T, heads·D)"""
    B, heads, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, heads * D)


# -- stage 4: a ring ------------------------------------------------------------------------------


def ring_reduce_scatter(comm: Comm, pieces: Sequence[Array]) -> Array:
    """The sum over the ranks of the piece at this rank's place; R - 1 messages to the right."""
    rank, size = comm.rank, comm.size
    piece = pieces[rank - 1].copy()
    for step in range(1, size):
        received = comm.sendrecv(piece, (rank + 1) % size, (rank - 1) % size)
        piece = received + pieces[(rank - step - 1) % size]
    return piece


def ring_all_gather(comm: Comm, piece: Array) -> list[Array]:
    """Every rank's piece, in the order of the ranks; R - 1 messages to the right."""
    rank, size = comm.rank, comm.size
    pieces = [piece.copy()] * size
    for step in range(1, size):
        last = pieces[(rank - step + 1) % size]
        pieces[(rank - step) % size] = comm.sendrecv(last, (rank + 1) % size, (rank - 1) % size)
    return pieces


def ring_all_reduce(comm: Comm, x: Array) -> Array:
    """The sum of all ranks' x, in 2 (R - 1) messages of 1/R of x. Any shape.

    >>> from pytest_llmgrind.cluster import Cluster
    >>> run = Cluster(4).run(ring_all_reduce, np.ones(1000))
    >>> run.results[3][:2], run.ranks[0].sent_messages, run.ranks[0].sent_bytes
    (array([4., 4.]), 6, 12000)
    """
    own = ring_reduce_scatter(comm, np.array_split(x.ravel(), comm.size))
    return np.concatenate(ring_all_gather(comm, own)).reshape(x.shape)


# -- stage 5: real processes ----------------------------------------------------------------------

DTYPES = ("float32", "float64", "int32", "int64")
_MAX_AXES = 8


class ProcessComm:
    """A communicator over torch.distributed, one process a rank."""

    def __init__(self, rank: int, size: int, init_method: str, *, backend: str = "gloo") -> None:
        """Meet the other ranks; returns when all are there."""
        if not 0 <= rank < size:
            raise ValueError(f"rank: wanted 0 to size - 1 = {size - 1}, got {rank}")
        import torch.distributed as dist  # here, so that the other stages run without torch

        dist.init_process_group(backend, init_method=init_method, rank=rank, world_size=size)
        self.rank, self.size = rank, size
        self._dist, self._device = dist, f"cuda:{rank}" if backend == "nccl" else "cpu"

    def close(self) -> None:
        """Leave the group."""
        self._dist.destroy_process_group()

    def send(self, array: Array, dst: int) -> None:
        """Send an array of any shape; the receiver need not know it."""
        self._swap(array, dst, None)

    def recv(self, src: int) -> Array:
        """The next array from src."""
        return self._swap(None, None, src)

    def sendrecv(self, array: Array, dst: int, src: int) -> Array:
        """Send to dst and receive from src; ranks that all do so do not wait for each other."""
        return self._swap(array, dst, src)

    def all_reduce(self, array: Array) -> Array:
        """The sum of all ranks' arrays, as a new array."""
        total = self._tensor(array)  # a copy: all_reduce works in place
        self._dist.all_reduce(total)
        return total.cpu().numpy()

    def all_gather(self, array: Array) -> list[Array]:
        """All ranks' arrays, which have one shape and dtype, in the order of the ranks."""
        own = self._tensor(array)
        parts = [own.new_empty(own.shape) for _ in range(self.size)]
        self._dist.all_gather(parts, own)
        return [part.cpu().numpy() for part in parts]

    def _swap(self, array: Array | None, dst: int | None, src: int | None) -> Any:
        """Send an array and receive one, both at once: first dtype and shape, then the numbers."""
        out = None if array is None else self._tensor(array)
        head, came = None, self._tensor(np.zeros(2 + _MAX_AXES, np.int64))
        if array is not None:
            shape = [*array.shape, *[0] * (_MAX_AXES - array.ndim)]
            head = self._tensor(np.array([DTYPES.index(array.dtype.name), array.ndim, *shape]))
        self._move(head, dst, came, src)
        code, axes, *shape = came.tolist()
        into = self._tensor(np.empty(shape[:axes], DTYPES[code]))
        self._move(out, dst, into, src)
        return into.cpu().numpy()

    def _move(self, out: Any, dst: int | None, into: Any, src: int | None) -> None:
        """Begin both before waiting for either; nothing is sent for an array without elements."""
        ops = []
        if dst is not None and out.numel():
            ops.append(self._dist.P2POp(self._dist.isend, out, dst))
        if src is not None and into.numel():
            ops.append(self._dist.P2POp(self._dist.irecv, into, src))
        for request in self._dist.batch_isend_irecv(ops) if ops else []:
            request.wait()

    def _tensor(self, array: Array) -> Any:
        """A copy of the array as a tensor where the backend wants it."""
        if array.dtype.name not in DTYPES:
            raise ValueError(f"array: wanted one of {', '.join(DTYPES)}, got {array.dtype}")
        import torch

        return torch.from_numpy(np.array(array, order="C")).to(self._device)
