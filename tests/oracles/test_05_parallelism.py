"""The reference of 05_parallelism and the simulated cluster against torch and its collectives."""

from __future__ import annotations

import numpy as np
import parallel_programs as programs
import pytest
import torch
import torch.nn.functional as F
from references import load

from pytest_llmgrind.cluster import Cluster, per_rank
from pytest_llmgrind.rank import launch

parallel = load("05_parallelism")

SIZES = [1, 2, 4]
SEEDS = range(4)
CLOSE = {"rtol": 0, "atol": 1e-12}


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in arrays.items()}


def mlp_params(rng: np.random.Generator, C: int, width: int) -> dict[str, np.ndarray]:
    shapes = {"w_in": (C, width), "b_in": (width,), "w_out": (width, C), "b_out": (C,)}
    return {name: normal(rng, *shape) for name, shape in shapes.items()}


# -- the cluster --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_collectives_of_the_cluster_are_those_of_torch(size, dtype):
    """Sum, maximum, broadcast, gather, reduce-scatter and all-to-all give what gloo gives."""
    rng = np.random.default_rng(size)
    xs = [(10 * normal(rng, 3, 2)).astype(dtype) for _ in range(size)]
    pieces = [[(10 * normal(rng, 4)).astype(dtype) for _ in range(size)] for _ in range(size)]

    def program(comm, x, pieces):
        root = comm.size - 1
        total, top = comm.all_reduce(x), comm.all_reduce(x, op="max")
        rooted, gathered = comm.broadcast(x, root=root), comm.all_gather(x)
        reduced, swapped = comm.reduce_scatter(pieces), comm.all_to_all(pieces)
        return [total, top, rooted, *gathered, reduced, *swapped]

    ours = Cluster(size).run(program, per_rank(xs), per_rank(pieces)).results
    theirs = launch(programs.collectives, size, per_rank(xs), per_rank(pieces))

    for mine, wanted in zip(ours, theirs, strict=True):
        for saw, want in zip(mine, wanted, strict=True):
            assert saw.dtype == want.dtype
            np.testing.assert_allclose(saw, want, **CLOSE)


# -- data parallel ------------------------------------------------------------------------------


def least_squares(params, x, y):
    """Half the squared error, by autograd."""
    leaves = tensors(params)
    error = torch.from_numpy(x) @ leaves["w"] + leaves["b"] - torch.from_numpy(y)
    loss = error.square().sum(dim=1).mean() / 2
    loss.backward()
    return float(loss.detach()), {name: leaf.grad.numpy() for name, leaf in leaves.items()}


@pytest.mark.parametrize("rows", [[3, 3], [1, 4, 2], [2, 0, 5], [7]])
def test_a_step_is_that_of_one_process_under_autograd(rows):
    """Gradients of torch on the whole batch, whatever part each rank has."""
    rng = np.random.default_rng(len(rows))
    params = {"w": normal(rng, 3, 2), "b": normal(rng, 2)}
    x, y, cuts = normal(rng, sum(rows), 3), normal(rng, sum(rows), 2), np.cumsum(rows)[:-1]
    loss, grads = least_squares(params, x, y)

    args = params, per_rank(np.split(x, cuts)), per_rank(np.split(y, cuts))
    keywords = {"loss_and_grads": least_squares, "lr": 0.1}
    run = Cluster(len(rows)).run(parallel.data_parallel_step, *args, **keywords)

    for stepped, mean in run.results:
        assert mean == pytest.approx(loss, abs=1e-12)
        for name in params:
            want = params[name] - 0.1 * grads[name]
            np.testing.assert_allclose(stepped[name], want, **CLOSE)


def test_a_step_is_that_of_distributed_data_parallel():
    """Equal parts on two ranks: the parameters that torch's DDP has after its step."""
    rng = np.random.default_rng(0)
    params = {"w": normal(rng, 3, 2), "b": normal(rng, 2)}
    xs, ys = [normal(rng, 4, 3) for _ in range(2)], [normal(rng, 4, 2) for _ in range(2)]

    args = params, per_rank(xs), per_rank(ys)
    keywords = {"loss_and_grads": least_squares, "lr": 0.1}
    ours = Cluster(2).run(parallel.data_parallel_step, *args, **keywords).results
    theirs = launch(programs.ddp_step, 2, *args, 0.1, timeout_s=60)

    for (stepped, _), wanted in zip(ours, theirs, strict=True):
        for name in params:
            np.testing.assert_allclose(stepped[name], wanted[name], **CLOSE)


# -- tensor parallel ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_linear_layers_have_the_gradients_of_autograd(size, seed):
    """By columns and by rows, for any leading axes."""
    rng = np.random.default_rng([size, seed])
    lead = tuple(int(n) for n in rng.integers(1, 4, int(rng.integers(0, 3))))
    inner, outer = (int(n) * size for n in rng.integers(1, 4, 2))
    arrays = {"x": normal(rng, *lead, inner), "w": normal(rng, inner, outer)}
    b, d_y = normal(rng, outer), normal(rng, *lead, outer)
    leaves = tensors({**arrays, "b": b})
    y = leaves["x"] @ leaves["w"] + leaves["b"]
    y.backward(torch.from_numpy(d_y))
    want = {name: leaf.grad.numpy() for name, leaf in leaves.items()}

    def both(comm, x, w, b, d_y):
        def part(array, axis):
            return parallel.shard(array, axis=axis, rank=comm.rank, size=comm.size)

        columns = parallel.column_linear(comm, x, part(w, 1), part(b, 0))
        rows = parallel.row_linear(comm, part(x, -1), part(w, 0), b)
        back = parallel.column_linear_backward(comm, part(d_y, -1), x, part(w, 1))
        forth = parallel.row_linear_backward(comm, d_y, part(x, -1), part(w, 0))
        return parallel.gather_columns(comm, columns), rows, back, forth

    results = Cluster(size).run(both, arrays["x"], arrays["w"], b, d_y).results

    for columns, rows, _, _ in results:
        np.testing.assert_allclose(columns, y.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(rows, y.detach().numpy(), **CLOSE)
    by_columns, by_rows = ([r[place] for r in results] for place in (2, 3))
    for d_x, _, _ in by_columns:
        np.testing.assert_allclose(d_x, want["x"], **CLOSE)
    joined = np.concatenate([d_w for _, d_w, _ in by_columns], axis=1)
    np.testing.assert_allclose(joined, want["w"], **CLOSE)
    joined = np.concatenate([d_b for _, _, d_b in by_columns])
    np.testing.assert_allclose(joined, want["b"], **CLOSE)
    joined = np.concatenate([d_x for d_x, _, _ in by_rows], axis=-1)
    np.testing.assert_allclose(joined, want["x"], **CLOSE)
    joined = np.concatenate([d_w for _, d_w, _ in by_rows], axis=0)
    np.testing.assert_allclose(joined, want["w"], **CLOSE)
    for _, _, d_b in by_rows:
        np.testing.assert_allclose(d_b, want["b"], **CLOSE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_attention_is_that_of_scaled_dot_product_attention(size, seed):
    """Output and every gradient, against torch's attention and autograd."""
    rng = np.random.default_rng([size, seed])
    B, T, C, D, per = (int(n) for n in rng.integers(1, 5, 5))
    H = per * size
    shapes = {"w_qkv": (C, 3 * H * D), "b_qkv": (3 * H * D,), "w_o": (H * D, C), "b_o": (C,)}
    params = {name: normal(rng, *shape) for name, shape in shapes.items()}
    x, d_y = normal(rng, B, T, C), normal(rng, B, T, C)
    leaves = tensors({**params, "x": x})
    qkv = (leaves["x"] @ leaves["w_qkv"] + leaves["b_qkv"]).reshape(B, T, 3, H, D)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y = out.transpose(1, 2).reshape(B, T, H * D) @ leaves["w_o"] + leaves["b_o"]
    y.backward(torch.from_numpy(d_y))
    grads = {name: leaves[name].grad.numpy() for name in params}

    def both(comm, x, d_y, params):
        part = parallel.shard_attention(params, n_heads=H, rank=comm.rank, size=comm.size)
        forward = parallel.parallel_attention(comm, x, part, n_heads=H)
        return forward, *parallel.parallel_attention_backward(comm, d_y, x, part, n_heads=H)

    results = Cluster(size).run(both, x, d_y, params).results

    for rank, (forward, d_x, d_params) in enumerate(results):
        np.testing.assert_allclose(forward, y.detach().numpy(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(d_x, leaves["x"].grad.numpy(), rtol=0, atol=1e-10)
        parts = parallel.shard_attention(grads, n_heads=H, rank=rank, size=size)
        for name, want in parts.items():
            np.testing.assert_allclose(d_params[name], want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [2, 4])
def test_an_mlp_is_that_of_torch_s_tensor_parallelism(size):
    """ColwiseParallel and RowwiseParallel over gloo: output, d_x and each rank's gradients."""
    rng = np.random.default_rng(size)
    params, x, d_y = mlp_params(rng, 3, 8), normal(rng, 5, 3), normal(rng, 5, 3)

    def both(comm, params, x, d_y):
        part = parallel.shard_mlp(params, rank=comm.rank, size=comm.size)
        y = parallel.parallel_mlp(comm, x, part)
        d_x, d_params = parallel.parallel_mlp_backward(comm, d_y, x, part)
        return {"y": y, "d_x": d_x, **d_params}

    ours = Cluster(size).run(both, params, x, d_y).results
    theirs = launch(
        programs.dtensor_mlp, size, params, x, d_y,
        preload=["torch.distributed.tensor.parallel"], timeout_s=60,
    )  # fmt: skip

    for saw, want in zip(ours, theirs, strict=True):
        assert saw.keys() == want.keys()
        for name in want:
            np.testing.assert_allclose(saw[name], want[name], **CLOSE)


# -- the ring and the processes -----------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_ring_over_processes_is_the_all_reduce_of_gloo(size):
    """The reference's ring over its own communicator, against dist.all_reduce."""
    rng = np.random.default_rng(size)
    xs = [normal(rng, 7) for _ in range(size)]
    pieces = per_rank([[x] * size for x in xs])

    ours = launch(programs.over_processes, size, per_rank(xs), solution=parallel)
    theirs = launch(programs.collectives, size, per_rank(xs), pieces)

    for (total, parts), (want, *_) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(total, want, **CLOSE)
        assert [part.tolist() for part in parts] == [[r] * (r + 1) for r in range(size)]
