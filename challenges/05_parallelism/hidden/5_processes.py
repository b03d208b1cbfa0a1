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
    shapes = [(3,), (), (2, 3), (0,), (2, 0, 3), (1, 1, 1, 1), (5, 7), (2, 1) * 4, (2,), (2,)]
    dtypes = ["float64", "float32", "int64", "int32", "float32", "int32", "float64"]
    dtypes += ["int32", "int64", "int64"]
    arrays = [draw(rng, shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    listed = zip(shapes, dtypes, strict=True)
    return arrays, ", ".join(f"{dtype} {shape}" for shape, dtype in listed)


def draw(rng, shape, dtype):
    """Normal numbers; for integers whole ones, up to an eighth of what the dtype holds."""
    if dtype.startswith("int"):
        top = np.iinfo(dtype).max // 8
        return np.asarray(rng.integers(-top, top, shape), dtype)
    return np.asarray(rng.standard_normal(shape), dtype)


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


@rule("R28")
def test_changes_after_a_send_do_not_travel(solution, rng):
    array, times = rng.standard_normal(200_000), 3
    how = f"{times} times: rank 0 sends float64 (200000,), then adds 1 to it"

    _, got = start(ranks.changes_afterwards, 2, array, times, solution=solution, given=how)

    want = array
    for number, saw in enumerate(got):
        check.equal(saw, want, moved=True, what=f"array {number} on rank 1", given=how)
        want = want + 1


@rule("R28")
def test_an_array_comes_from_the_rank_that_was_asked_for(solution, rng):
    arrays, times = [rng.standard_normal(3) for _ in range(3)], 2
    how = "3 ranks, 1 and after it 2 send to rank 0, which receives from 2, 1, 2, 1"

    args = per_rank(arrays), times
    got, *_ = start(ranks.from_two, 3, *args, solution=solution, given=how)

    want = [arrays[src] + number for number in range(times) for src in (2, 1)]
    for number, (saw, array) in enumerate(zip(got, want, strict=True)):
        check.equal(saw, array, moved=True, what=f"array {number} on rank 0", given=how)


@rule("R28")
def test_ranks_may_swap_arrays_of_different_forms(solution, rng):
    arrays = [draw(rng, (2, 3), "int32"), draw(rng, (4,), "float64")]
    how = "sendrecv on 2 ranks, int32 (2, 3) and float64 (4,)"

    results = start(ranks.swaps, 2, per_rank(arrays), solution=solution, given=how)

    for rank, saw in enumerate(results):
        what = f"what rank {rank} received"
        check.equal(saw, arrays[1 - rank], moved=True, what=what, given=how)


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


@rule("R30")
def test_any_two_ranks_may_send_to_each_other_at_once(solution, rng):
    arrays, pairs = [rng.standard_normal(100_000) for _ in range(3)], [[0, 1], [0, 2], [1, 2]]
    how = "of 3 ranks 0 and 1 exchange 800 KB by sendrecv, then 0 and 2, then 1 and 2"

    args = per_rank(arrays), pairs
    results = start(ranks.in_pairs, 3, *args, solution=solution, given=how)

    for rank, got in enumerate(results):
        others = [sum(pair) - rank for pair in pairs if rank in pair]
        for other, saw in zip(others, got, strict=True):
            what = f"what rank {rank} received from rank {other}"
            check.equal(saw, arrays[other], moved=True, what=what, given=how)


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
    results = start(ranks.refuses, 2, solution=solution, given="calls that have to be refused")

    calls = [f"ProcessComm with rank {rank} of 2" for rank in (5, 2, -1)]
    for dtype in ("complex128", "float16"):
        calls += [f"{name} of {dtype}" for name in ("all_reduce", "all_gather", "sendrecv", "send")]
    said = results[1][0]
    for call, text in zip(calls, said, strict=True):
        name = "rank" if "with rank" in call else "array"
        saw = f"no ValueError, or one that does not name {name}: {text!r}"
        check.that(name in text, saw=saw, given=call, value=said)
    how, what = "rank 1 sends float64 (3,) after calls that were refused", "what rank 0 received"
    check.equal(results[0][1], np.arange(3.0), moved=True, what=what, given=how)


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
