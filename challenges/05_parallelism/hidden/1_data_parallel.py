"""Stage 1: a batch spread over the ranks, and gradients averaged in one bucket."""

import numpy as np

from pytest_llmgrind import check, given, rule, st
from pytest_llmgrind.cluster import Cluster, per_rank

from . import common

SHAPES = {"w": (3, 2), "b": (2,), "gain": ()}
FEW = st.sampled_from([3, 1, 2, 5])


def make_grads(seed, size, dtype=np.float64):
    """Gradients of each rank: w, b and gain, in this order, rank after rank."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        return np.asarray(common.normal(rng, *shape, dtype=dtype))

    return [{name: draw(shape) for name, shape in SHAPES.items()} for _ in range(size)]


def weighted_mean(grads, rows):
    total = sum(rows)
    return {
        name: np.asarray(sum(n * g[name] for n, g in zip(rows, grads, strict=True)) / total)
        for name in SHAPES
    }


def make_model(seed, rows, dtype=np.float64):
    """Parameters, then all rows of x and y; then what each rank has of them."""
    rng = np.random.default_rng(seed)
    params = {"w": common.normal(rng, 3, 2, dtype=dtype), "b": common.normal(rng, 2, dtype=dtype)}
    x = common.normal(rng, sum(rows), 3, dtype=dtype)
    y = common.normal(rng, sum(rows), 2, dtype=dtype)
    cuts = np.cumsum(rows)[:-1]
    return params, x, y, np.split(x, cuts), np.split(y, cuts)


def least_squares(params, x, y):
    """Half the squared error of x·w + b, mean over the rows."""
    check.that(len(x) > 0, saw="loss_and_grads was called without rows")
    error = x @ params["w"] + params["b"] - y
    grads = {"w": x.T @ error / len(x), "b": error.mean(axis=0)}
    return float((error**2).sum() / (2 * len(x))), grads


def named(seed, rows, dtype=np.float64):
    return f"seed {seed}, ranks with {rows} rows, {np.dtype(dtype)}"


@rule("R1")
@given(rows=st.lists(FEW, min_size=1, max_size=4), seed=common.SEEDS)
def test_every_row_weighs_the_same(solution, rows, seed):
    grads, words = make_grads(seed, len(rows)), named(seed, rows)
    want = weighted_mean(grads, rows)

    args = per_rank(grads), per_rank(rows)
    ran = common.run(solution.average_gradients, *args, size=len(rows), given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, want, n=8, what=f"the mean on rank {rank}", given=words)


@rule("R1")
@given(size=common.SIZES, rows=FEW, seed=common.SEEDS)
def test_equal_gradients_stay_as_they_are(solution, size, rows, seed):
    [grads] = make_grads(seed, 1)
    words = f"seed {seed}, {size} ranks with the same gradients of {rows} rows"

    ran = common.run(solution.average_gradients, grads, rows, size=size, given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, grads, n=8, what=f"the mean on rank {rank}", given=words)


@rule("R1")
@given(size=st.sampled_from([2, 3]), seed=common.SEEDS)
def test_gradients_may_lie_in_memory_in_any_order(solution, size, seed):
    grads, rows = make_grads(seed, size), list(range(1, size + 1))
    words = f"{named(seed, rows)}, on rank 0 w lies in memory column after column"
    want = weighted_mean(grads, rows)
    laid_out = [common.by_columns_first(grads[0]), *grads[1:]]

    args = per_rank(laid_out), per_rank(rows)
    ran = common.run(solution.average_gradients, *args, size=size, given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, want, n=8, what=f"the mean on rank {rank}", given=words)


@rule("R1")
@given(rank=st.sampled_from([0, 1]), bad=st.sampled_from([np.nan, np.inf]), seed=common.SEEDS)
def test_what_a_row_made_infinite_is_not_hidden(solution, rank, bad, seed):
    grads, rows = make_grads(seed, 2), [2, 1]
    grads[rank]["w"][1, 1] = bad
    words = f"{named(seed, rows)}, w[1, 1] of rank {rank} is {bad}"

    args = per_rank(grads), per_rank(rows)
    ran = common.run(solution.average_gradients, *args, size=2, given=words)

    for each, saw in enumerate(ran.results):
        common.check_dicts(
            saw, weighted_mean(grads, rows),
            n=8, what=f"the mean on rank {each}", given=words, finite=False,
        )  # fmt: skip


@rule("R2")
@given(size=st.sampled_from([2, 3]), seed=common.SEEDS)
def test_gradients_are_matched_by_name(solution, size, seed):
    rng = np.random.default_rng(seed)
    grads = [{name: common.normal(rng, 4) for name in "abc"} for _ in range(size)]
    turned = [dict(list(g.items())[rank:] + list(g.items())[:rank]) for rank, g in enumerate(grads)]
    orders = ["".join(g) for g in turned]
    words = f"seed {seed}, dicts in the orders {', '.join(orders)}, shape (4,) each, one row a rank"
    want = {name: sum(g[name] for g in grads) / size for name in "abc"}

    ran = common.run(solution.average_gradients, per_rank(turned), 1, size=size, given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, want, n=8, what=f"the mean on rank {rank}", given=words)


@rule("R2")
@given(seed=common.SEEDS)
def test_parameters_are_matched_by_name(solution, seed):
    params, x, y, xs, ys = make_model(seed, [2, 2])
    turned = [params, dict(reversed(params.items()))]
    words = f"{named(seed, [2, 2])}, params in the orders w, b and b, w, lr 0.5"
    _, grads = least_squares(params, x, y)
    want = {name: params[name] - 0.5 * grads[name] for name in params}

    args = per_rank(turned), per_rank(xs), per_rank(ys)
    keywords = {"loss_and_grads": least_squares, "lr": 0.5}
    ran = common.run(solution.data_parallel_step, *args, size=2, given=words, **keywords)

    for rank, result in enumerate(ran.results):
        saw, _ = pair(result, rank, words)
        common.check_dicts(saw, want, n=40, what=f"the parameters on rank {rank}", given=words)


@rule("R3")
@given(rows=st.permutations([3, 0, 2]), filler=st.sampled_from([np.nan, 7.0]), seed=common.SEEDS)
def test_gradients_of_no_rows_have_no_influence(solution, rows, filler, seed):
    grads, words = make_grads(seed, 3), f"{named(seed, rows)}, {filler} where there is no row"
    want = weighted_mean(grads, rows)
    for rank in [rank for rank, n in enumerate(rows) if n == 0]:
        grads[rank] = {name: np.full(shape, filler) for name, shape in SHAPES.items()}

    args = per_rank(grads), per_rank(rows)
    ran = common.run(solution.average_gradients, *args, size=3, given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, want, n=8, what=f"the mean on rank {rank}", given=words)


@rule("R3")
@given(rows=st.sampled_from([[2, 0, 1], [0, 3], [0, 0, 2, 0]]), seed=common.SEEDS)
def test_a_rank_without_rows_takes_part_in_the_step(solution, rows, seed):
    check_step(solution, seed, rows, lr=0.5)


@rule("R4")
@given(
    rows=st.lists(FEW, min_size=1, max_size=4),
    lr=st.sampled_from([0.5, 0.01]),
    seed=common.SEEDS,
)
def test_a_step_is_the_step_of_one_process(solution, rows, lr, seed):
    check_step(solution, seed, rows, lr=lr)


def check_step(solution, seed, rows, *, lr, dtype=np.float64):
    params, x, y, xs, ys = make_model(seed, rows, dtype)
    words = f"{named(seed, rows, dtype)}, lr {lr}"
    loss, grads = least_squares(params, x, y)
    want = {name: params[name] - lr * grads[name] for name in params}

    args = params, per_rank(xs), per_rank(ys)
    keywords = {"loss_and_grads": least_squares, "lr": lr}
    step = solution.data_parallel_step
    ran = common.run(step, *args, size=len(rows), given=words, **keywords)

    for rank, result in enumerate(ran.results):
        saw, saw_loss = pair(result, rank, words)
        common.check_dicts(saw, want, n=40, what=f"the parameters on rank {rank}", given=words)
        what = f"the loss on rank {rank}"
        check.close(saw_loss, np.dtype(dtype).type(loss), n=40, what=what, given=words)


def pair(result, rank, words):
    fine = isinstance(result, tuple) and len(result) == 2
    check.that(fine, saw=f"rank {rank} did not return (params, loss)", given=words)
    return result


@rule("R5")
@given(rows=st.sampled_from([[2, 3, 1], [1, 1, 1, 1], [4, 1]]), seed=common.SEEDS)
def test_ranks_do_not_drift_apart(solution, rows, seed):
    params, _, _, xs, ys = make_model(seed, rows)
    words = f"{named(seed, rows)}, five steps, lr 0.3"

    def five_steps(comm, params, x, y):
        for _ in range(5):
            keywords = {"loss_and_grads": least_squares, "lr": 0.3}
            params, _ = pair(
                solution.data_parallel_step(comm, params, x, y, **keywords), comm.rank, words
            )
        return params

    args = params, per_rank(xs), per_rank(ys)
    first, *others = common.run(five_steps, *args, size=len(rows), given=words).results

    for rank, params in enumerate(others, start=1):
        for name in first:
            what = f"{name} on rank {rank}, compared with rank 0,"
            check.equal(params[name], first[name], moved=True, what=what, given=words)


@rule("R7")
@given(rows=st.sampled_from([[2, 1], [2, 0], [3]]), seed=common.SEEDS)
def test_a_step_leaves_its_arguments_alone(solution, rows, seed):
    params, _, _, xs, ys = make_model(seed, rows)
    grads, words = make_grads(seed, len(rows)), f"{named(seed, rows)}, results are added to"

    def both(comm):
        rank = comm.rank
        common.add_one(solution.average_gradients(comm, grads[rank], rows[rank]))
        for lr in (0.5, 0.0):
            keywords = {"loss_and_grads": least_squares, "lr": lr}
            step = solution.data_parallel_step(comm, params, xs[rank], ys[rank], **keywords)
            common.add_one(step)

    with check.unchanged(given=words, grads=grads, params=params, x=xs, y=ys):
        common.run(both, size=len(rows), given=words)


@rule("R8")
@given(rows=st.sampled_from([[2, 1], [1, 0, 3]]), seed=common.SEEDS)
def test_float32_stays_float32(solution, rows, seed):
    grads, words = make_grads(seed, len(rows), np.float32), named(seed, rows, np.float32)
    want = {name: g.astype(np.float32) for name, g in weighted_mean(grads, rows).items()}

    args = per_rank(grads), per_rank(rows)
    ran = common.run(solution.average_gradients, *args, size=len(rows), given=words)

    for rank, saw in enumerate(ran.results):
        common.check_dicts(saw, want, n=8, what=f"the mean on rank {rank}", given=words)
    check_step(solution, seed, rows, lr=0.5, dtype=np.float32)


@rule("R10")
@given(rows=st.sampled_from([[2, -1], [0, 0], [0]]))
def test_impossible_numbers_of_rows_are_refused(solution, rows):
    grads, words = make_grads(0, len(rows)), f"ranks with {rows} rows"

    def average():
        args = per_rank(grads), per_rank(rows)
        common.run(solution.average_gradients, *args, size=len(rows), given=words)

    check.raises(ValueError, average, names="rows", what="average_gradients", given=words)


@rule("R6")
def test_a_step_sends_one_bucket(count):
    layers, size = 12, 4

    def loss_and_grads(params, x, y):
        return float(x.mean()), {name: np.full_like(p, x.mean()) for name, p in params.items()}

    def inputs(rng):
        params = {f"w{layer}": common.normal(rng, 8) for layer in range(layers)}
        return params, [common.normal(rng, 2, 3) for _ in range(size)]

    def run(impl, params, xs):
        keywords = {"loss_and_grads": loss_and_grads, "lr": 1.0}
        args = params, per_rank(xs), per_rank(xs)
        ran = Cluster(size).run(impl.data_parallel_step, *args, **keywords)
        mean = np.mean(xs)
        for saw, _ in ran.results:
            for name, array in saw.items():
                want = params[name] - mean
                check.close(array, want, n=40, what=name, given="12 parameters on 4 ranks")
        return max(rank.sent_messages for rank in ran.ranks)

    count(run, inputs=inputs)
