"""Stage 2: linear layers cut by columns and by rows, forward and backward."""

import numpy as np

from pytest_llmgrind import check, given, rule, st
from pytest_llmgrind.cluster import per_rank

from . import common

NOTHING = 0, 0  # messages and bytes
LEADING = st.sampled_from([(3,), (), (2, 3), (1, 1), (0,)])
PER_RANK = st.sampled_from([2, 1, 3])  # columns or rows of each rank
N = 80


class Layer:
    """x, w, b and d_y of a layer, drawn in this order, and what each rank has of them."""

    def __init__(self, seed, size, leading, inner, outer, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.x = common.normal(rng, *leading, inner, dtype=dtype)
        self.w = common.normal(rng, inner, outer, dtype=dtype)
        self.b = common.normal(rng, outer, dtype=dtype)
        self.d_y = common.normal(rng, *leading, outer, dtype=dtype)
        self.y = self.x @ self.w + self.b
        self.size = size
        shapes = f"x {self.x.shape}, w {self.w.shape}"
        self.words = f"seed {seed}, {size} ranks, {shapes}, {np.dtype(dtype)}"

    def cut(self, array, axis):
        return np.split(array, self.size, axis)

    def by_columns_first(self):
        """The same layer, with x and w column after column in memory, and d_y row after row."""
        self.x, self.w = map(common.by_columns_first, (self.x, self.w))
        self.words += ", x and w lie in memory column after column"
        return self

    @property
    def backward(self):
        """d_x, d_w and d_b of the whole layer."""
        return common.linear_backward(self.d_y, self.x, self.w)


def by_columns(seed, size, leading, width, columns, dtype=np.float64):
    return Layer(seed, size, leading, width, columns * size, dtype)


def by_rows(seed, size, leading, width, rows, dtype=np.float64):
    return Layer(seed, size, leading, rows * size, width, dtype)


def run_column(solution, layer):
    args = layer.x, per_rank(layer.cut(layer.w, 1)), per_rank(layer.cut(layer.b, 0))
    return common.run(solution.column_linear, *args, size=layer.size, given=layer.words)


def run_column_backward(solution, layer):
    args = per_rank(layer.cut(layer.d_y, -1)), layer.x, per_rank(layer.cut(layer.w, 1))
    return common.run(solution.column_linear_backward, *args, size=layer.size, given=layer.words)


def run_row(solution, layer):
    args = per_rank(layer.cut(layer.x, -1)), per_rank(layer.cut(layer.w, 0)), layer.b
    return common.run(solution.row_linear, *args, size=layer.size, given=layer.words)


def run_row_backward(solution, layer):
    args = layer.d_y, per_rank(layer.cut(layer.x, -1)), per_rank(layer.cut(layer.w, 0))
    return common.run(solution.row_linear_backward, *args, size=layer.size, given=layer.words)


def run_gather(solution, layer):
    args = (per_rank(layer.cut(layer.y, -1)),)
    return common.run(solution.gather_columns, *args, size=layer.size, given=layer.words)


@rule("R9")
@given(
    size=common.SIZES,
    length=PER_RANK,
    axis=st.sampled_from([0, 1, 2, -1]),
    dtype=st.sampled_from([np.float64, np.float32, np.int64]),
)
def test_parts_are_equal_consecutive_and_in_order(solution, size, length, axis, dtype):
    shape = [2, 3, 4]
    shape[axis] = length * size
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    for rank in range(size):
        words = f"shape {tuple(shape)}, axis={axis}, rank={rank}, size={size}"
        saw = solution.shard(array, axis=axis, rank=rank, size=size)

        want = np.split(array, size, axis)[rank]
        check.equal(saw, want, moved=True, what="the part", given=words)


@rule("R10")
@given(case=st.sampled_from([(6, 4), (3, 2), (2, 3), (1, 2)]), axis=st.sampled_from([0, 1]))
def test_a_length_that_the_ranks_do_not_divide_is_refused(solution, case, axis):
    length, size = case
    array = np.arange(12.0 * length).reshape((length, 12) if axis == 0 else (12, length))
    words = f"shape {array.shape}, axis={axis}, size={size}"

    keywords = {"axis": axis, "rank": 0, "size": size}
    kind = {"names": "size", "what": "shard", "given": words}
    check.raises(ValueError, solution.shard, array, **keywords, **kind)


@rule("R10")
@given(rank=st.sampled_from([3, -1, 7]))
def test_a_rank_out_of_range_is_refused(solution, rank):
    kind = {"names": "rank", "what": "shard", "given": f"rank={rank}, size=3"}
    check.raises(ValueError, solution.shard, np.zeros(6), axis=0, rank=rank, size=3, **kind)


@rule("R11")
@given(size=common.SIZES, leading=LEADING, width=PER_RANK, columns=PER_RANK, seed=common.SEEDS)
def test_a_rank_computes_its_columns(solution, size, leading, width, columns, seed):
    layer = by_columns(seed, size, leading, width, columns)

    ran = run_column(solution, layer)

    for rank, want in enumerate(layer.cut(layer.y, -1)):
        what = f"y on rank {rank}"
        check.close(ran.results[rank], want, n=N, what=what, given=layer.words)


@rule("R11")
@given(size=common.SIZES, leading=LEADING, columns=PER_RANK, seed=common.SEEDS)
def test_gathered_columns_stand_in_the_order_of_the_ranks(solution, size, leading, columns, seed):
    layer = by_columns(seed, size, leading, 2, columns)

    ran = run_gather(solution, layer)

    for rank, saw in enumerate(ran.results):
        what = f"what rank {rank} gathered"
        check.equal(saw, layer.y, moved=True, what=what, given=layer.words)


@rule("R12")
@given(size=common.SIZES, leading=LEADING, width=PER_RANK, rows=PER_RANK, seed=common.SEEDS)
def test_rows_add_up_to_the_whole_layer(solution, size, leading, width, rows, seed):
    layer = by_rows(seed, size, leading, width, rows)

    ran = run_row(solution, layer)

    for rank, saw in enumerate(ran.results):
        check.close(saw, layer.y, n=N, what=f"y on rank {rank}", given=layer.words)


@rule("R13")
@given(size=common.SIZES, leading=LEADING, width=PER_RANK, columns=PER_RANK, seed=common.SEEDS)
def test_gradients_of_columns_are_those_of_the_whole_layer(
    solution, size, leading, width, columns, seed
):
    layer = by_columns(seed, size, leading, width, columns)
    d_x, d_w, d_b = layer.backward

    ran = run_column_backward(solution, layer)

    parts = zip(layer.cut(d_w, 1), layer.cut(d_b, 0), strict=True)
    for rank, (part_w, part_b) in enumerate(parts):
        check_gradients(ran.results[rank], (d_x, part_w, part_b), rank, layer)


@rule("R13")
@given(size=common.SIZES, leading=LEADING, width=PER_RANK, rows=PER_RANK, seed=common.SEEDS)
def test_gradients_of_rows_are_those_of_the_whole_layer(solution, size, leading, width, rows, seed):
    layer = by_rows(seed, size, leading, width, rows)
    d_x, d_w, d_b = layer.backward

    ran = run_row_backward(solution, layer)

    parts = zip(layer.cut(d_x, -1), layer.cut(d_w, 0), strict=True)
    for rank, (part_x, part_w) in enumerate(parts):
        check_gradients(ran.results[rank], (part_x, part_w, d_b), rank, layer)


@rule("R13")
@given(size=common.SIZES, leading=st.sampled_from([(3,), (2, 3)]), seed=common.SEEDS)
def test_layers_may_lie_in_memory_in_any_order(solution, size, leading, seed):
    columns = by_columns(seed, size, leading, 3, 2).by_columns_first()
    rows = by_rows(seed, size, leading, 3, 2).by_columns_first()

    by_column, by_row = run_column_backward(solution, columns), run_row_backward(solution, rows)

    d_x, d_w, d_b = columns.backward
    want = d_x, columns.cut(d_w, 1)[0], columns.cut(d_b, 0)[0]
    check_gradients(by_column.results[0], want, 0, columns)
    d_x, d_w, d_b = rows.backward
    want = rows.cut(d_x, -1)[0], rows.cut(d_w, 0)[0], d_b
    check_gradients(by_row.results[0], want, 0, rows)


def check_gradients(saw, want, rank, layer):
    fine = isinstance(saw, tuple) and len(saw) == 3
    check.that(fine, saw=f"rank {rank} did not return (d_x, d_w, d_b)", given=layer.words)
    for name, gradient, wanted in zip(("d_x", "d_w", "d_b"), saw, want, strict=True):
        check.close(gradient, wanted, n=N, what=f"{name} on rank {rank}", given=layer.words)


@rule("R14")
@given(size=st.sampled_from([2, 3, 4]), leading=st.sampled_from([(3,), (2, 3)]), seed=common.SEEDS)
def test_layers_send_what_they_have_to_and_no_more(solution, size, leading, seed):
    columns = by_columns(seed, size, leading, 3, 2)
    rows = by_rows(seed, size, leading, 3, 2)
    sums = {
        "row_linear": (run_row(solution, rows), rows.y, rows),
        "column_linear_backward": (run_column_backward(solution, columns), columns.x, columns),
    }
    silent = {
        "column_linear": (run_column(solution, columns), columns),
        "row_linear_backward": (run_row_backward(solution, rows), rows),
    }

    for name, (ran, array, layer) in sums.items():
        allowed = common.one_all_reduce(array, size)
        common.check_traffic(ran, allowed, what=name, given=layer.words)
    for name, (ran, layer) in silent.items():
        common.check_traffic(ran, NOTHING, what=name, given=layer.words)


@rule("R7")
@given(size=st.sampled_from([2, 1]), seed=common.SEEDS)
def test_layers_leave_their_arguments_alone(solution, size, seed):
    columns, rows = by_columns(seed, size, (3,), 2, 2), by_rows(seed, size, (3,), 2, 2)
    cut_w, cut_b = columns.cut(columns.w, 1), columns.cut(columns.b, 0)
    cut_d = columns.cut(columns.d_y, -1)
    cut_x, cut_v = rows.cut(rows.x, -1), rows.cut(rows.w, 0)

    def all_five(comm):
        r = comm.rank
        results = [
            solution.gather_columns(comm, cut_d[r]),
            solution.column_linear(comm, columns.x, cut_w[r], cut_b[r]),
            *solution.column_linear_backward(comm, cut_d[r], columns.x, cut_w[r]),
            solution.row_linear(comm, cut_x[r], cut_v[r], rows.b),
            *solution.row_linear_backward(comm, rows.d_y, cut_x[r], cut_v[r]),
            *(solution.shard(columns.w, axis=axis, rank=0, size=1) for axis in (0, 1)),
            solution.shard(columns.w, axis=1, rank=r, size=size),
        ]
        common.add_one(results)

    words = f"{columns.words}, results are added to"
    arrays = {"x": columns.x, "w": columns.w, "b": rows.b, "d_y": rows.d_y}
    parts = {"parts of x": cut_x, "parts of w": cut_w + cut_v, "parts of b": cut_b}
    with check.unchanged(given=words, **arrays, **parts, **{"parts of d_y": cut_d}):
        common.run(all_five, size=size, given=words)


@rule("R8")
@given(size=st.sampled_from([2, 3]), seed=common.SEEDS)
def test_layers_keep_float32(solution, size, seed):
    columns = by_columns(seed, size, (3,), 2, 2, np.float32)
    rows = by_rows(seed, size, (3,), 2, 2, np.float32)

    saw = run_column(solution, columns).results[0]
    check.close(saw, columns.cut(columns.y, -1)[0], n=N, what="y", given=columns.words)
    saw = run_row(solution, rows).results[0]
    check.close(saw, rows.y, n=N, what="y", given=rows.words)
    d_x, d_w, d_b = columns.backward
    want = d_x, columns.cut(d_w, 1)[0], columns.cut(d_b, 0)[0]
    check_gradients(run_column_backward(solution, columns).results[0], want, 0, columns)
    d_x, d_w, d_b = rows.backward
    want = rows.cut(d_x, -1)[0], rows.cut(d_w, 0)[0], d_b
    check_gradients(run_row_backward(solution, rows).results[0], want, 0, rows)
    saw = run_gather(solution, columns).results[0]
    check.equal(saw, columns.y, moved=True, what="what was gathered", given=columns.words)
