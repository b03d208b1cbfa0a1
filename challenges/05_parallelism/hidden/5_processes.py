"""Stage 5: the same code over processes that share nothing but torch.distributed."""

import numpy as np
import pytest

from pytest_llmgrind import check, rule
from pytest_llmgrind.cluster import per_rank
from pytest_llmgrind.rank import RankError, launch

from . import common, ranks

TIMEOUT_S = 6.0
GIVEN = ("rows of [3, 0, 1] on 3 ranks", [3, 0, 1])


def start(function, size, *args, solution, given, backend="gloo"):
    """Run a function on ranks; a rank that dies or hangs is what the test saw."""
    keywords = {"solution": solution, "backend": backend, "timeout_s": TIMEOUT_S}
    try:
        return launch(function, size, *args, **keywords)
    except RankError as error:
        text = str(error)
        raise check.RuleBroken(f"{given}: {text}", where=given, value=text) from error


def make_arrays(rng):
    """Arrays of every dtype and of odd shapes, and the words for them."""
    shapes = [(3,), (), (2, 3), (0,), (2, 0, 3), (1, 1, 1, 1), (5, 7)]
    dtypes = ["float64", "float32", "int64", "int32", "float32", "int32", "float64"]
    arrays = [
        np.asarray(rng.standard_normal(shape) * 100).astype(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    listed = zip(shapes, dtypes, strict=True)
    return arrays, ", ".join(f"{dtype} {shape}" for shape, dtype in listed)


def compare(saw, want, *, what, given, n=8):
    """Floating point as close as the order of a sum leaves it, integers exactly."""
    if want.dtype.kind == "f":
        check.close(saw, want, n=n, what=what, given=given)
    else:
        check.equal(saw, want, what=what, given=given)


@rule("R28")
def test_arrays_arrive_as_they_were_sent(solution, rng):
    arrays, listed = make_arrays(rng)

    results = start(ranks.there_and_back, 2, arrays, solution=solution, given=listed)

    for rank, back in ((1, results[1]), (0, results[0])):
        for number, (saw, want) in enumerate(zip(back, arrays, strict=True)):
            what = f"array {number} on rank {rank}"
            check.equal(saw, want, moved=True, what=what, given=f"sent one by one: {listed}")


@rule("R28")
def test_views_arrive_as_they_look(solution, rng):
    array = rng.standard_normal((3, 4))
    how = "views of an array (3, 4): a.T, a[:, ::2], a[::-1]"

    _, got = start(ranks.views, 2, array, solution=solution, given=how)

    views = [array.T, array[:, ::2], array[::-1]]
    for number, (saw, want) in enumerate(zip(got, views, strict=False)):
        check.equal(saw, want.copy(), moved=True, what=f"view {number} on rank 1", given=how)
    for number, (saw, want) in enumerate(zip(got[3:], views, strict=True)):
        check.close(saw, 2 * want, what=f"the sum of view {number}", given=how)


@rule("R29")
def test_sums_and_lists_are_those_of_the_cluster(solution, rng):
    size = 3
    sets = [make_arrays(rng) for _ in range(size)]
    arrays, listed = [arrays for arrays, _ in sets], f"3 ranks, {sets[0][1]}"

    results = start(
        ranks.collectives, size, per_rank(arrays), solution=solution, given=listed
    )

    for rank, done in enumerate(results):
        for number, (total, gathered) in enumerate(done):
            mine = [other[number] for other in arrays]
            what = f"the sum of array {number} on rank {rank}"
            compare(total, sum(mine[1:], mine[0]), what=what, given=listed)
            for place, want in enumerate(mine):
                what = f"all_gather of array {number}, place {place}, on rank {rank}"
                check.equal(gathered[place], want, moved=True, what=what, given=listed)


@rule("R30")
def test_ranks_that_all_send_do_not_wait_for_each_other(solution, rng):
    size, times = 3, 2
    arrays = [rng.standard_normal((100, 1000 + rank)) for rank in range(size)]
    how = f"{size} ranks, each sends 800 KB to the right and receives from the left, {times} times"

    args = per_rank(arrays), times
    results = start(ranks.round_the_ring, size, *args, solution=solution, given=how)

    for rank, saw in enumerate(results):
        want = arrays[(rank - times) % size]
        check.equal(saw, want, moved=True, what=f"what rank {rank} has", given=how)


@rule("R31")
def test_the_stages_before_work_over_processes(solution, reference, rng):
    how, counts = GIVEN
    size, xs = len(counts), [rng.standard_normal((2, 4)) for _ in counts]
    mlp = common.mlp_params(rng, 4, 6)
    parts = [common.mlp_part(mlp, rank, size) for rank in range(size)]
    batches = [rng.standard_normal((n, 3)) for n in counts]
    targets = [rng.standard_normal((n, 2)) for n in counts]

    args = xs[0], per_rank(parts), per_rank(batches), per_rank(targets)
    results = start(ranks.everything, size, *args, solution=solution, given=how)

    y = common.mlp(xs[0], mlp)
    want_d_x, _ = common.mlp_backward(y, xs[0], mlp)
    loss, grads = ranks.mean_of_rows(
        {"w": np.ones(3), "b": np.zeros(2)}, np.concatenate(batches), np.concatenate(targets)
    )
    for rank, (total, out, d_x, params, saw_loss) in enumerate(results):
        on = f"on rank {rank}"
        check.close(total, size * xs[0], n=8, what=f"ring_all_reduce {on}", given=how)
        check.close(out, y, n=100, what=f"parallel_mlp {on}", given=how)
        check.close(d_x, want_d_x, n=1000, what=f"d_x of parallel_mlp {on}", given=how)
        check.close(params["w"], 1 - 0.5 * grads["w"], n=40, what=f"w of the step {on}", given=how)
        check.close(params["b"], -0.5 * grads["b"], n=40, what=f"b of the step {on}", given=how)
        check.close(saw_loss, loss, n=40, what=f"the loss of the step {on}", given=how)


@rule("R7")
def test_processes_leave_their_arguments_alone(solution, rng):
    arrays = [rng.standard_normal((2, 3)) for _ in range(2)]
    how = "2 ranks, float64 (2, 3), results are added to"

    results = start(ranks.leaves_alone, 2, per_rank(arrays), solution=solution, given=how)

    for rank, (saw, want) in enumerate(zip(results, arrays, strict=True)):
        what = f"the argument of the calls on rank {rank}, afterwards,"
        check.equal(saw, want, moved=True, what=what, given=how)


@rule("R32")
def test_a_process_can_join_again(solution, rng):
    arrays = [rng.standard_normal(4) for _ in range(2)]
    how = "2 ranks, a ProcessComm, its close, another ProcessComm"

    results = start(ranks.twice, 2, per_rank(arrays), solution=solution, given=how)

    for rank, sums in enumerate(results):
        for number, saw in enumerate(sums):
            want = arrays[0] + arrays[1] + 2 * number
            check.close(saw, want, n=4, what=f"sum {number} on rank {rank}", given=how)


@rule("R10")
def test_what_cannot_be_sent_is_refused(solution):
    how = "rank 5 of 1; then all_reduce and all_gather of complex128"

    [said] = start(ranks.refuses, 1, solution=solution, given=how)

    names = [next((n for n in ("rank", "array") if n in text), "neither") for text in said]
    saw = f"{len(said)} of 3 were refused with a ValueError, naming {', '.join(names) or 'nothing'}"
    check.that(names == ["rank", "array", "array"], saw=saw, given=how, value=names)


@pytest.mark.multi_gpu
@rule("R29")
def test_sums_and_messages_over_nccl(solution, rng):
    arrays = [rng.standard_normal((100, 10)) for _ in range(2)]
    how = "2 ranks with backend nccl, float64 (100, 10)"

    keywords = {"solution": solution, "backend": "nccl", "given": how}
    moved = start(ranks.round_the_ring, 2, per_rank(arrays), 1, **keywords)
    done = start(ranks.collectives, 2, per_rank([[a] for a in arrays]), **keywords)

    for rank in range(2):
        [(total, gathered)] = done[rank]
        check.close(total, arrays[0] + arrays[1], n=4, what=f"sum on rank {rank}", given=how)
        check.equal(gathered[0], arrays[0], moved=True, what=f"list on rank {rank}", given=how)
        what = f"what rank {rank} received"
        check.equal(moved[rank], arrays[1 - rank], moved=True, what=what, given=how)
