"""Stage 4: an all-reduce whose ranks only ever talk to their neighbours."""

import numpy as np

from pytest_llmgrind import check, given, rule, st
from pytest_llmgrind.cluster import Cluster, per_rank

from . import common

SIZES = st.sampled_from([3, 2, 4, 1, 5])
SHAPES = st.sampled_from([(7,), (3, 4), (2,), (1,), (12,), (0,), (), (2, 0, 3)])
DTYPES = st.sampled_from([np.float64, np.float32, np.int64, np.int32])


PIECES = [(3,), (2, 2), (0,), (1,), (3, 1, 2)]


def draw(rng, shape, dtype):
    """Normal numbers; for integers whole ones, up to an eighth of what the dtype holds."""
    if np.issubdtype(dtype, np.integer):
        top = np.iinfo(dtype).max // 8
        return np.asarray(rng.integers(-top, top, shape), dtype)
    return np.asarray(common.normal(rng, *shape, dtype=dtype))


def arrays(seed, size, shape, dtype):
    rng = np.random.default_rng(seed)
    return [draw(rng, shape, dtype) for _ in range(size)]


def words(seed, size, shape, dtype=np.float64):
    return f"seed {seed}, {size} ranks, shape {shape}, {np.dtype(dtype)}"


def add(parts):
    """The sum in the order of the list, in its dtype."""
    total = parts[0].copy()
    for part in parts[1:]:
        total = total + part
    return np.asarray(total)


def check_sum(saw, want, *, what, given, n):
    if np.issubdtype(want.dtype, np.integer):
        check.equal(saw, want, what=what, given=given)
    else:
        check.close(saw, want, n=n, what=what, given=given)


@rule("R20")
@given(size=SIZES, dtype=DTYPES, seed=common.SEEDS)
def test_each_rank_ends_with_the_sum_at_its_own_place(solution, size, dtype, seed):
    rng, shapes = np.random.default_rng(seed), PIECES[:size]
    pieces = [[draw(rng, shape, dtype) for shape in shapes] for _ in range(size)]
    how = f"seed {seed}, {size} ranks, pieces of shapes {shapes}, {np.dtype(dtype)}"

    ran = common.run(solution.ring_reduce_scatter, per_rank(pieces), size=size, given=how)

    for rank, saw in enumerate(ran.results):
        want = add([row[rank] for row in pieces])
        check_sum(saw, want, n=2 * size, what=f"the piece on rank {rank}", given=how)


@rule("R21")
@given(size=SIZES, dtype=DTYPES, seed=common.SEEDS)
def test_everyone_gets_every_piece_in_order(solution, size, dtype, seed):
    rng, shapes = np.random.default_rng(seed), [(), *PIECES][:size]
    pieces = [draw(rng, shape, dtype) for shape in shapes]
    how = f"seed {seed}, {size} ranks, pieces of shapes {shapes}, {np.dtype(dtype)}"

    ran = common.run(solution.ring_all_gather, per_rank(pieces), size=size, given=how)

    for rank, saw in enumerate(ran.results):
        fine = isinstance(saw, list) and len(saw) == size
        check.that(fine, saw=f"rank {rank} has no list of {size} pieces", given=how)
        for place, want in enumerate(pieces):
            what = f"piece {place} on rank {rank}"
            check.equal(saw[place], want, moved=True, what=what, given=how)


@rule("R22")
@given(size=SIZES, shape=SHAPES, dtype=DTYPES, seed=common.SEEDS, max_examples=80)
def test_any_shape_is_summed(solution, size, shape, dtype, seed):
    xs, how = arrays(seed, size, shape, dtype), words(seed, size, shape, dtype)

    ran = common.run(solution.ring_all_reduce, per_rank(xs), size=size, given=how)

    for rank, saw in enumerate(ran.results):
        check_sum(saw, add(xs), n=2 * size, what=f"the sum on rank {rank}", given=how)


@rule("R22")
@given(size=SIZES, dtype=DTYPES, seed=common.SEEDS)
def test_arrays_may_lie_in_memory_in_any_order(solution, size, dtype, seed):
    xs, how = arrays(seed, size, (3, 4), dtype), words(seed, size, (3, 4), dtype)
    how = f"{how}, on rank 0 the array lies in memory column after column"
    laid_out = [common.by_columns_first(xs[0]), *xs[1:]]

    ran = common.run(solution.ring_all_reduce, per_rank(laid_out), size=size, given=how)

    for rank, saw in enumerate(ran.results):
        check_sum(saw, add(xs), n=2 * size, what=f"the sum on rank {rank}", given=how)


@rule("R22")
@given(size=SIZES, seed=common.SEEDS)
def test_a_later_sum_leaves_an_earlier_one_alone(solution, size, seed):
    xs, how = arrays(seed, size, (7,), np.float64), words(seed, size, (7,))
    how = f"{how}, looked at after another sum, of twice the arrays"

    def two(comm, x):
        first = solution.ring_all_reduce(comm, x)
        solution.ring_all_reduce(comm, 2 * x)
        return first

    ran = common.run(two, per_rank(xs), size=size, given=how)

    for rank, saw in enumerate(ran.results):
        check_sum(saw, add(xs), n=2 * size, what=f"the sum on rank {rank}", given=how)


@rule("R23")
@given(size=SIZES, length=st.sampled_from([7, 12, 1, 60]), seed=common.SEEDS)
def test_a_piece_goes_round_twice_and_no_more(solution, size, length, seed):
    xs, how = arrays(seed, size, (length,), np.float64), words(seed, size, (length,))

    ran = common.run(solution.ring_all_reduce, per_rank(xs), size=size, given=how)

    most = -(-length // size) * xs[0].itemsize
    messages = common.traffic(ran)
    for rank in ran.ranks:
        saw = f"rank {rank.rank} sent {rank.sent_messages} messages"
        right = rank.sent_messages == 2 * (size - 1)
        check.that(right, saw=saw, given=how, value=messages)
    for src, dst, kind, nbytes in messages:
        where = f"from rank {src} to rank {dst}"
        right = dst == (src + 1) % size
        check.that(right, saw=f"a message went {where}", given=how, value=messages)
        saw = f"a message of {nbytes} bytes, of an array of {length * 8}, went {where}"
        check.that(nbytes <= most, saw=saw, given=how, value=messages)
        saw = f"a message went {where} by {kind}"
        check.that(kind == "send", saw=saw, given=how, value=messages)
    check.that(not ran.unreceived, saw="a message was never received", given=how, value=messages)


@rule("R23")
@given(size=SIZES, seed=common.SEEDS)
def test_each_half_takes_one_round(solution, size, seed):
    rng, shapes = np.random.default_rng(seed), [(place + 1,) for place in range(size)]
    pieces = [[common.normal(rng, *shape) for shape in shapes] for _ in range(size)]
    how = f"seed {seed}, {size} ranks, pieces of shapes {shapes}"

    first = [row[rank] for rank, row in enumerate(pieces)]
    scatter, gather = solution.ring_reduce_scatter, solution.ring_all_gather
    halves = {
        "ring_reduce_scatter": common.run(scatter, per_rank(pieces), size=size, given=how),
        "ring_all_gather": common.run(gather, per_rank(first), size=size, given=how),
    }

    for name, ran in halves.items():
        messages = common.traffic(ran)
        for rank in ran.ranks:
            saw = f"rank {rank.rank} sent {rank.sent_messages} messages in {name}"
            right = rank.sent_messages == size - 1
            check.that(right, saw=saw, given=how, value=[name, messages])
        for src, dst, _, _ in messages:
            saw = f"a message of {name} went from rank {src} to rank {dst}"
            check.that(dst == (src + 1) % size, saw=saw, given=how, value=[name, messages])
        kinds = sorted({message.kind for message in ran.messages} - {"send"})
        saw = f"{name} called {', '.join(kinds)}"
        check.that(not kinds, saw=saw, given=how, value=[name, messages])


@rule("R24")
@given(size=SIZES, shape=st.sampled_from([(7,), (12,), (2, 3)]), seed=common.SEEDS)
def test_no_buffer_is_needed(solution, size, shape, seed):
    xs, how = arrays(seed, size, shape, np.float64), words(seed, size, shape)
    how = f"{how}, each send waits for its receiver"

    def all_three(comm, x):
        pieces = [x + r for r in range(comm.size)]
        own = solution.ring_reduce_scatter(comm, pieces)
        return own, solution.ring_all_gather(comm, x), solution.ring_all_reduce(comm, x)

    ran = common.run(all_three, per_rank(xs), size=size, given=how, eager_bytes=0)

    for rank, (own, gathered, total) in enumerate(ran.results):
        want = add([x + rank for x in xs])
        check.close(own, want, n=2 * size, what=f"the piece on rank {rank}", given=how)
        check.equal(gathered[-1], xs[-1], moved=True, what=f"the last on rank {rank}", given=how)
        check.close(total, add(xs), n=2 * size, what=f"the sum on rank {rank}", given=how)


@rule("R25")
@given(size=st.sampled_from([3, 4, 5]), shape=st.sampled_from([(40,), (7, 5)]), seed=common.SEEDS)
def test_ranks_agree_to_the_last_bit(solution, size, shape, seed):
    xs, how = arrays(seed, size, shape, np.float64), words(seed, size, shape)

    first, *others = common.run(
        solution.ring_all_reduce, per_rank(xs), size=size, given=how
    ).results

    for rank, saw in enumerate(others, start=1):
        what = f"the sum on rank {rank}, compared with rank 0,"
        check.equal(saw, first, moved=True, what=what, given=how)


@rule("R7")
@given(size=st.sampled_from([2, 1, 3]), seed=common.SEEDS)
def test_the_ring_leaves_its_arguments_alone(solution, size, seed):
    xs, how = arrays(seed, size, (6,), np.float64), words(seed, size, (6,))
    pieces = [[x + r for r in range(size)] for x in xs]

    def all_three(comm):
        r = comm.rank
        results = [
            solution.ring_reduce_scatter(comm, pieces[r]),
            *solution.ring_all_gather(comm, xs[r]),
            solution.ring_all_reduce(comm, xs[r]),
        ]
        common.add_one(results)

    with check.unchanged(given=f"{how}, results are added to", x=xs, pieces=pieces):
        common.run(all_three, size=size, given=how)


def megabyte(rng):
    """The arrays of 8 ranks, 1,000,000 bytes each."""
    return ([common.normal(rng, 125_000) for _ in range(8)],)


def measured(impl, xs):
    ran = Cluster(8).run(impl.ring_all_reduce, per_rank(xs))
    want = add(xs)
    for rank, saw in enumerate(ran.results):
        what, how = f"the sum on rank {rank}", "8 ranks with 125,000 numbers each"
        check.close(saw, want, n=16, what=what, given=how)
    return ran


@rule("R26")
@given(size=st.sampled_from([2, 3, 4, 5]), dtype=DTYPES, seed=common.SEEDS)
def test_numbers_travel_in_their_own_dtype(solution, size, dtype, seed):
    xs, how = arrays(seed, size, (60,), dtype), words(seed, size, (60,), dtype)

    ran = common.run(solution.ring_all_reduce, per_rank(xs), size=size, given=how)

    for rank in ran.ranks:
        saw = f"rank {rank.rank} sent {rank.sent_bytes} bytes, of an array of {xs[0].nbytes}"
        right = rank.sent_bytes <= 2 * xs[0].nbytes
        check.that(right, saw=saw, given=how, value=common.traffic(ran))


@rule("R26")
def test_no_rank_sends_more_than_its_share(count):
    def run(impl, xs):
        return max(rank.sent_bytes for rank in measured(impl, xs).ranks)

    count(run, inputs=megabyte)


@rule("R27")
def test_all_links_work_at_once(count):
    def run(impl, xs):
        return round(measured(impl, xs).time_s * 1e9)

    count(run, inputs=megabyte)
