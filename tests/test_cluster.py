"""The simulated cluster: results, counts, clocks, and what it says when ranks do not fit."""

from __future__ import annotations

import doctest
import math
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest

from pytest_llmgrind.cluster import Cluster, ClusterError, Deadlock, Link, Mismatch, Run, per_rank

SIZES = [1, 2, 3, 4, 5, 8]
DOCS = Path(__file__).parent.parent / "docs" / "cluster.md"


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """After every test of this file only the threads from before are alive."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def microseconds(run: Run) -> float:
    return round(run.time_s * 1e6, 6)


def arrays(size: int, *, shape: tuple[int, ...] = (7,), dtype: object = np.float64) -> list:
    rng = np.random.default_rng(size)
    return [rng.integers(-9, 9, shape).astype(dtype) for _ in range(size)]


# -- results of collectives ---------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(7,), (), (0,), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.complex128])
def test_all_reduce_gives_the_sum_on_every_rank(size, shape, dtype):
    """all_reduce keeps shape and dtype for any size, divisible by the ranks or not."""
    xs = arrays(size, shape=shape, dtype=dtype)

    run = Cluster(size).run(lambda comm, x: comm.all_reduce(x), per_rank(xs))

    for result in run.results:
        assert result.shape == shape
        assert result.dtype == dtype
        assert np.array_equal(result, np.sum(xs, axis=0, dtype=dtype))


@pytest.mark.parametrize("op", ["max", "min"])
def test_all_reduce_takes_the_operator(op):
    """op="max" and op="min" reduce by the elementwise maximum and minimum."""
    xs = arrays(3)

    run = Cluster(3).run(lambda comm, x: comm.all_reduce(x, op=op), per_rank(xs))

    assert np.array_equal(run.results[1], getattr(np, op)(xs, axis=0))


@pytest.mark.parametrize("size", SIZES)
def test_gather_scatter_and_exchange_keep_the_order_of_ranks(size):
    """all_gather, reduce_scatter and all_to_all put rank r's part at place r."""
    xs = arrays(size, shape=(2,))

    def program(comm, x):
        pieces = [x + 100 * r for r in range(comm.size)]
        return comm.all_gather(x), comm.reduce_scatter(pieces), comm.all_to_all(pieces)

    run = Cluster(size).run(program, per_rank(xs))

    for rank, (gathered, reduced, exchanged) in enumerate(run.results):
        assert np.array_equal(gathered, xs)
        assert np.array_equal(reduced, np.sum(xs, axis=0) + 100 * rank * size)
        assert np.array_equal(exchanged, [x + 100 * rank for x in xs])


@pytest.mark.parametrize("op", ["sum", "max"])
def test_arrays_without_axes_stay_arrays(op):
    """A 0-d array comes back as one from every collective that computes, not as a scalar."""

    def program(comm):
        one = np.array(1.0)
        return comm.all_reduce(one, op=op), comm.reduce_scatter([one] * comm.size, op=op)

    run = Cluster(3).run(program)

    for array in run.results[1]:
        assert isinstance(array, np.ndarray)
        assert array.shape == ()
        assert array == (3 if op == "sum" else 1)


def test_all_to_all_takes_pieces_of_any_length():
    """Pieces may differ in shape between pairs of ranks, as tokens of experts do."""

    def program(comm):
        return comm.all_to_all([np.full(comm.rank + dst, comm.rank) for dst in range(comm.size)])

    run = Cluster(3).run(program)

    assert [part.tolist() for part in run.results[2]] == [[0, 0], [1, 1, 1], [2, 2, 2, 2]]


@pytest.mark.parametrize("size", SIZES)
def test_broadcast_gives_the_root_s_array(size):
    """Any rank may be the root, and the others may give None."""
    for root in range(size):
        run = Cluster(size).run(
            lambda comm, root: comm.broadcast(
                np.array([comm.rank]) if comm.rank == root else None, root=root
            ),
            root,
        )

        assert [result.tolist() for result in run.results] == [[root]] * size


def test_a_group_has_its_own_ranks_and_collectives():
    """Ranks of a group are numbered in its order, and two groups do not disturb each other."""

    def program(comm):
        row = comm.group([comm.rank // 2 * 2, comm.rank // 2 * 2 + 1])
        column = comm.group([comm.rank % 2 + 2, comm.rank % 2])
        total = column.all_reduce(row.all_reduce(np.array([10**comm.rank])))
        return (
            row.rank,
            column.rank,
            total.item(),
            column.sendrecv(np.array([comm.rank]), 1 - column.rank, 1 - column.rank).item(),
        )

    run = Cluster(4).run(program)

    assert run.results == ((0, 1, 1111, 2), (1, 1, 1111, 3), (0, 0, 1111, 0), (1, 0, 1111, 1))


def test_a_group_of_a_group_numbers_its_own_ranks():
    """Ranks of the inner group are given by their numbers in the outer one."""

    def program(comm):
        if comm.rank == 0:
            return None
        outer = comm.group([3, 2, 1])
        if comm.rank == 1:
            return None
        return outer.group([1, 0]).all_gather(np.array([comm.rank]))

    run = Cluster(4).run(program)

    assert [part.item() for part in run.results[3]] == [2, 3]


def test_tensors_of_torch_travel_too():
    """A CPU tensor arrives as a tensor of the same dtype, without its graph."""
    torch = pytest.importorskip("torch")

    def program(comm):
        x = torch.full((3,), float(comm.rank + 1), requires_grad=True)
        return comm.all_reduce(x, op="max"), comm.all_gather(x), comm.broadcast(x, root=1)

    run = Cluster(3).run(program)

    reduced, gathered, rooted = run.results[0]
    assert reduced.tolist() == [3, 3, 3]
    assert [part.tolist() for part in gathered] == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert rooted.dtype == torch.float32
    assert not rooted.requires_grad


# -- nothing is shared --------------------------------------------------------------------------


def test_what_is_sent_is_copied():
    """Neither rank sees what the other does to an array after it was sent, begun sends included."""

    def program(comm):
        x = np.zeros(3)
        if comm.rank == 0:
            request = comm.isend(x, 1)
            x += 1
            request.wait()
            return x
        received = comm.recv(0)
        received += 5
        return received

    run = Cluster(2).run(program)

    assert run.results[0].tolist() == [1, 1, 1]
    assert run.results[1].tolist() == [5, 5, 5]


def test_collectives_copy_what_they_are_given_and_give():
    """A rank that changes its argument or its result changes nobody else's."""

    def program(comm, x):
        request = comm.start("all_gather", x)
        x += 100
        parts = request.wait()
        parts[0] += comm.rank
        return parts[0].item()

    run = Cluster(3).run(program, np.zeros(1))

    assert run.results == (0.0, 1.0, 2.0)


class Pair(NamedTuple):
    left: np.ndarray
    right: np.ndarray


class Stack(list):
    pass


@pytest.mark.parametrize("made", [Pair, lambda left, right: Stack([left, right])])
def test_arrays_in_tuples_with_names_are_copied_as_well(made):
    """Tuples with names and subclasses of list keep their type, and no rank sees another's."""
    arrays = made(np.zeros(2), np.zeros(2))

    def program(comm, arrays):
        arrays[1][:] += comm.rank + 1
        return type(arrays), arrays[1].tolist()

    run = Cluster(3).run(program, arrays)

    assert run.results == tuple((type(arrays), [rank + 1] * 2) for rank in range(3))
    assert arrays[1].tolist() == [0, 0]


def test_every_rank_gets_its_own_arguments():
    """Arrays in dicts and lists are copied for each rank; the caller's are not touched."""
    params = {"w": np.zeros(2), "layers": [np.zeros(2)]}

    def program(comm, params):
        params["w"] += 1
        params["layers"][0] += 1
        return params["w"].tolist(), params["layers"][0].tolist()

    run = Cluster(3).run(program, params=params)

    assert run.results == (([1, 1], [1, 1]),) * 3
    assert params["w"].tolist() == params["layers"][0].tolist() == [0, 0]


# -- the cost model -----------------------------------------------------------------------------


def test_the_page_about_the_cluster_holds():
    """Every example of docs/cluster.md gives the numbers that stand there."""
    failed, tried = doctest.testfile(str(DOCS), module_relative=False)

    assert tried >= 8
    assert failed == 0


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_ring_costs_what_the_formula_says(size):
    """2 (R - 1) messages of n / R bytes from every rank, one after the other."""
    n = 24 * size

    run = Cluster(size, link=Link(2e-6, 1e6)).run(lambda comm, x: comm.all_reduce(x), np.ones(n))

    steps, piece_bytes = 2 * (size - 1), 24 * 8
    assert microseconds(run) == pytest.approx(steps * (2 + piece_bytes))
    for rank in run.ranks:
        assert (rank.sent_messages, rank.sent_bytes) == (steps, steps * piece_bytes)
        assert (rank.received_messages, rank.received_bytes) == (steps, steps * piece_bytes)


@pytest.mark.parametrize("size", SIZES)
def test_trees_have_the_depth_of_a_logarithm(size):
    """broadcast and barrier take ceil(log2 R) rounds."""
    rounds = math.ceil(math.log2(size))

    tree = Cluster(size).run(lambda comm: comm.broadcast(np.zeros(1000, np.uint8)))
    barrier = Cluster(size).run(lambda comm: comm.barrier())

    assert microseconds(tree) == pytest.approx(2 * rounds)
    assert microseconds(barrier) == pytest.approx(rounds)


def test_a_rank_receives_one_message_at_a_time():
    """Two messages to one rank follow each other; to two ranks they travel at once."""

    def to_one(comm):
        if comm.rank < 2:
            comm.send(np.zeros(1000, np.uint8), 2)
        return comm.rank == 2 and [comm.recv(src).size for src in (0, 1)]

    def to_two(comm):
        if comm.rank < 2:
            comm.send(np.zeros(1000, np.uint8), 2 + comm.rank)
        else:
            comm.recv(comm.rank - 2)

    assert microseconds(Cluster(3).run(to_one)) == 4
    assert microseconds(Cluster(4).run(to_two)) == 2


def test_a_rank_sends_one_message_at_a_time():
    """Two sends that are begun at once leave one after the other."""

    def program(comm):
        if comm.rank == 0:
            for request in [comm.isend(np.zeros(1000, np.uint8), dst) for dst in (1, 2)]:
                request.wait()
        else:
            comm.recv(0)

    run = Cluster(3).run(program)

    assert [round(rank.finish_s * 1e6) for rank in run.ranks] == [4, 2, 4]


def test_ports_go_to_the_rank_whose_clock_is_earlier():
    """Rank 0 computes first, so rank 1's message gets the receiver's port before its own."""

    def program(comm):
        if comm.rank == 0:
            comm.compute(seconds=1e-6)
        if comm.rank < 2:
            comm.send(np.zeros(9000, np.uint8), 2)
        else:
            comm.recv(0)
            comm.recv(1)

    run = Cluster(3).run(program)

    assert [(m.src, round(m.start_s * 1e6), round(m.end_s * 1e6)) for m in run.messages] == [
        (1, 0, 10),
        (0, 10, 20),
    ]


def test_computing_takes_flops_over_speed():
    """compute moves the clock by flops / flops_per_s plus seconds, and waits are the rest."""

    def program(comm):
        comm.compute(3e6)
        comm.compute(seconds=comm.rank * 1e-6)
        comm.barrier()
        return comm.time_s

    run = Cluster(2, flops_per_s=1e12).run(program)

    assert [round(at * 1e6, 6) for at in run.results] == [5, 5]
    assert [round(rank.compute_s * 1e6, 6) for rank in run.ranks] == [3, 4]
    assert [round(rank.wait_s * 1e6, 6) for rank in run.ranks] == [2, 1]


def test_each_pair_may_have_a_link_of_its_own():
    """A function of source and destination sets the cost."""
    link = lambda src, dst: Link(1e-6 if src < dst else 7e-6, 1e9)  # noqa: E731

    run = Cluster(2, link=link).run(
        lambda comm: comm.sendrecv(np.zeros(0), 1 - comm.rank, 1 - comm.rank)
    )

    assert [round(rank.finish_s * 1e6) for rank in run.ranks] == [7, 7]
    assert {(m.src, round((m.end_s - m.start_s) * 1e6)) for m in run.messages} == {(0, 1), (1, 7)}


def test_begun_operations_go_on_while_a_rank_computes():
    """What was begun costs only what is left of it when it is waited for."""

    def program(comm):
        other = 1 - comm.rank
        received, sent = comm.irecv(other), comm.isend(np.zeros(4000, np.uint8), other)
        comm.compute(seconds=3e-6)
        sent.wait()
        return received.wait().size, comm.time_s

    run = Cluster(2).run(program)

    assert [(size, round(at * 1e6)) for size, at in run.results] == [(4000, 5), (4000, 5)]


def test_two_begun_collectives_share_the_ports():
    """Collectives under way together take as long as their messages need one after the other."""

    def program(comm):
        requests = [comm.start("all_reduce", np.zeros(1000)) for _ in range(2)]
        return [request.wait().size for request in requests]

    assert microseconds(Cluster(4).run(program)) == 36


def test_messages_are_counted_by_kind_and_calls_by_name():
    """The counters tell point-to-point from collectives, and who called what."""

    def program(comm):
        comm.all_reduce(np.zeros(4))
        comm.sendrecv(np.zeros(3), 1 - comm.rank, 1 - comm.rank)
        if comm.rank == 0:
            comm.isend(np.zeros(1, np.int8), 1).wait()
        else:
            comm.irecv(0).wait()

    first = Cluster(2).run(program).ranks[0]

    assert first.calls == {"all_reduce": 1, "sendrecv": 1, "isend": 1}
    assert {k: (t.messages, t.nbytes) for k, t in first.sent.items()} == {
        "all_reduce": (2, 32),
        "send": (2, 25),
    }
    assert (first.sent_messages, first.sent_bytes, first.received_bytes) == (4, 57, 56)


def test_messages_of_one_tag_stay_in_order():
    """A receive takes the oldest message of its tag, whatever was sent under others."""

    def program(comm):
        if comm.rank == 0:
            for value, tag in ((1, 0), (2, 7), (3, 0)):
                comm.send(np.array([value]), 1, tag=tag)
            return None
        return [comm.recv(0, tag=tag).item() for tag in (7, 0, 0)]

    assert Cluster(2).run(program).results[1] == [2, 1, 3]


def test_messages_that_nobody_receives_are_listed():
    """A message too many is no error of the cluster; it stands in unreceived."""

    def program(comm):
        if comm.rank == 0:
            comm.send(np.zeros(2), 1)
            comm.isend(np.zeros(3), 1)

    early = Cluster(2).run(program)
    late = Cluster(2, eager_bytes=16).run(program)

    assert [m.nbytes for m in early.unreceived] == [16, 24]
    assert [m.nbytes for m in late.unreceived] == [16, 24]
    assert late.ranks[0].sent_bytes == 16


# -- the same every time ------------------------------------------------------------------------


def test_threads_and_their_speed_change_nothing():
    """Ranks that run at random speeds on a nervous interpreter give the same run, to the bit."""

    def program(comm, x):
        for step in range(4):
            time.sleep(random.random() * 1e-3)
            comm.compute(seconds=(comm.rank * 7 + step) % 3 * 1e-6)
            request = comm.start("all_reduce", x)
            y = comm.sendrecv(x, (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size)
            x = request.wait() / 3 + y
        return x

    xs = [np.random.default_rng(r).standard_normal(11) for r in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        runs = [Cluster(4).run(program, per_rank(xs)) for _ in range(5)]
    finally:
        sys.setswitchinterval(interval)

    for run in runs[1:]:
        assert run.messages == runs[0].messages
        assert run.spans == runs[0].spans
        assert run.ranks == runs[0].ranks
        assert all(map(np.array_equal, run.results, runs[0].results))


# -- memory -------------------------------------------------------------------------------------


def test_declared_memory_has_an_exact_peak():
    """hold and free add up over time; what is freed before something is held does not count."""

    def program(comm):
        comm.hold(100)
        comm.compute(seconds=1e-6)
        comm.hold(50)
        comm.free(100)
        comm.hold(70)

    assert Cluster(1).run(program).ranks[0].peak_bytes == 150


def test_messages_wait_in_the_memory_of_the_receiver():
    """A message counts from when it leaves until it is received."""

    def program(comm):
        if comm.rank == 0:
            for _ in range(3):
                comm.send(np.zeros(10), 1)
        else:
            comm.compute(seconds=1e-3)
            comm.hold(7)
            for _ in range(3):
                comm.recv(0)

    run = Cluster(2).run(program)

    assert [rank.peak_bytes for rank in run.ranks] == [0, 247]


def test_a_message_counts_while_it_is_on_its_way():
    """What the receiver holds and frees before the message has arrived adds to it."""

    def program(comm):
        if comm.rank == 0:
            comm.send(np.zeros(1000, np.uint8), 1)
        else:
            comm.compute(seconds=1e-6)
            comm.hold(50)
            comm.free(50)
            comm.recv(0)

    assert Cluster(2).run(program).ranks[1].peak_bytes == 1050


def test_traced_memory_is_that_of_the_rank_that_allocates():
    """With trace_memory each rank's own arrays count, and what it received, within 16 KiB."""

    def program(comm, x):
        big = np.ones(100_000 * (comm.rank + 1))
        total = big.sum()
        del big
        parts = comm.all_gather(x)
        return total + sum(part.sum() for part in parts)

    run = Cluster(3, trace_memory=True).run(program, np.ones(10_000))

    for rank in run.ranks:
        assert 0 <= rank.traced_bytes - 800_000 * (rank.rank + 1) < 16_384
    plain = Cluster(3).run(program, np.ones(10_000))
    assert plain.ranks[0].traced_bytes is None


def test_traced_memory_counts_what_is_received_and_what_is_dropped():
    """Eight arrays kept cost eight; eight arrays used one at a time cost one."""

    def keep(comm):
        return len([comm.broadcast(np.zeros(50_000)) for _ in range(8)])

    def drop(comm):
        return sum(comm.broadcast(np.zeros(50_000)).size for _ in range(8))

    kept = Cluster(2, trace_memory=True).run(keep).ranks[1].traced_bytes
    dropped = Cluster(2, trace_memory=True).run(drop).ranks[1].traced_bytes

    assert 0 <= kept - 9 * 400_000 < 16_384 + 400_000
    assert 0 <= dropped - 2 * 400_000 < 16_384 + 400_000


# -- what goes wrong ----------------------------------------------------------------------------


def test_a_deadlock_says_what_each_rank_waits_for():
    """One line a rank: messages, receivers, collectives with those that are missing, returns."""

    def program(comm):
        if comm.rank == 0:
            comm.recv(1, tag=3)
        if comm.rank == 1:
            comm.all_reduce(np.zeros(3))
        if comm.rank == 2:
            comm.compute(seconds=2e-6)
            comm.send(np.zeros(3), 0)

    with pytest.raises(Deadlock) as caught:
        Cluster(4, eager_bytes=0).run(program)

    assert str(caught.value) == (
        "deadlock after 2 µs: no rank can go on\n"
        "  rank 0 waits for a message from rank 1 (recv, tag 3)\n"
        "  rank 1 waits for ranks 0, 2, 3 in all_reduce(float64 (3,), op=sum), its collective 1\n"
        "  rank 2 waits for rank 0 to receive 24 bytes (send)\n"
        "  rank 3 has returned"
    )
    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "comm.recv(1, tag=3)" in lines


def test_sends_without_buffers_need_a_receiver():
    """All send first: fine with buffers, a deadlock without; sendrecv and isend are fine always."""

    def send_first(comm):
        comm.send(np.zeros(4), (comm.rank + 1) % comm.size)
        return comm.recv((comm.rank - 1) % comm.size).size

    def at_once(comm):
        right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        request = comm.isend(np.zeros(4), right)
        size = comm.recv(left).size
        request.wait()
        return size + comm.sendrecv(np.zeros(5), right, left).size

    assert Cluster(3).run(send_first).results == (4, 4, 4)
    assert Cluster(3, eager_bytes=32).run(send_first).results == (4, 4, 4)
    with pytest.raises(Deadlock, match="rank 2 waits for rank 0 to receive 32 bytes"):
        Cluster(3, eager_bytes=31).run(send_first)
    assert Cluster(3, eager_bytes=0).run(at_once).results == (9, 9, 9)


@pytest.mark.parametrize("size", SIZES)
def test_collectives_need_no_buffers(size):
    """Every collective works where each send waits for its receiver."""

    def program(comm, x):
        pieces = [x + r for r in range(comm.size)]
        comm.barrier()
        return [
            comm.all_reduce(x), comm.reduce_scatter(pieces), *comm.all_gather(x),
            *comm.all_to_all(pieces), comm.broadcast(x, root=comm.size - 1),
        ]  # fmt: skip

    xs = arrays(size)

    eager = Cluster(size).run(program, per_rank(xs))
    waiting = Cluster(size, eager_bytes=0).run(program, per_rank(xs))

    assert all(map(np.array_equal, eager.results, waiting.results))


MISMATCHES = {
    "shape": (
        lambda comm: comm.all_reduce(np.zeros(3 + (comm.rank == 2))),
        "rank 0 called all_reduce(float64 (3,), op=sum), "
        "rank 2 called all_reduce(float64 (4,), op=sum)",
    ),
    "dtype": (
        lambda comm: comm.all_gather(np.zeros(3, "f4" if comm.rank else "f8")),
        "rank 0 called all_gather(float64 (3,)), rank 1 called all_gather(float32 (3,))",
    ),
    "order": (
        lambda comm: comm.barrier() if comm.rank == 1 else comm.broadcast(np.zeros(3)),
        "rank 0 called broadcast(float64 (3,), root=0), rank 1 called barrier()",
    ),
    "root": (
        lambda comm: comm.broadcast(np.zeros(3), root=comm.rank),
        "rank 0 called broadcast(float64 (3,), root=0), "
        "rank 1 called broadcast(float64 (3,), root=1)",
    ),
    "operator": (
        lambda comm: comm.all_reduce(np.zeros(3), op="max" if comm.rank else "sum"),
        "rank 0 called all_reduce(float64 (3,), op=sum), "
        "rank 1 called all_reduce(float64 (3,), op=max)",
    ),
    "pieces": (
        lambda comm: comm.reduce_scatter([np.zeros(2), np.zeros(1 + comm.rank), np.zeros(1)]),
        "rank 0 called reduce_scatter([float64 (2,), float64 (1,), float64 (1,)], op=sum), "
        "rank 1 called reduce_scatter([float64 (2,), float64 (2,), float64 (1,)], op=sum)",
    ),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_a_mismatch_names_both_ranks_and_both_calls(kind):
    """The first call that differs is reported, with what each of the two ranks called."""
    program, calls = MISMATCHES[kind]

    with pytest.raises(Mismatch) as caught:
        Cluster(3).run(program)

    assert str(caught.value) == f"collective 1 differs between two ranks: {calls}"


def test_a_broadcast_without_arrays_still_compares_shapes():
    """A rank that gives None leaves the comparison to the others."""

    def program(comm):
        return comm.broadcast(None if comm.rank == 0 else np.zeros(comm.rank), root=1)

    with pytest.raises(Mismatch, match=r"rank 1 called broadcast\(float64 \(1,\), root=1\)"):
        Cluster(3).run(program)


def test_the_error_of_a_rank_is_raised_as_it_was():
    """The exception keeps its type, text and traceback; a note says which rank it was."""
    seen = []

    def program(comm):
        try:
            if comm.rank == 2:
                raise KeyError("lost")
            comm.barrier()
        finally:
            seen.append(comm.rank)

    with pytest.raises(KeyError) as caught:
        Cluster(3).run(program)

    assert caught.value.args == ("lost",)
    assert caught.value.__notes__ == ["on rank 2 of 3"]
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == 'raise KeyError("lost")'
    assert sorted(seen) == [0, 1, 2]


def test_a_rank_cannot_hide_a_deadlock():
    """A bare except around a receive changes nothing about the verdict."""

    def program(comm):
        try:
            comm.recv(1 - comm.rank)
        except BaseException:
            comm.recv(1 - comm.rank)

    with pytest.raises(Deadlock):
        Cluster(2).run(program)


def test_a_rank_that_catches_everything_for_ever_cannot_hide_a_deadlock():
    """It is reported within seconds, without a time-out, whatever the rank goes on to do."""
    over = threading.Event()

    def program(comm):
        while not over.is_set():
            with suppress(BaseException):
                comm.recv(1 - comm.rank)

    start = time.monotonic()
    try:
        with pytest.raises(Deadlock, match="rank 0 waits for a message from rank 1"):
            Cluster(2).run(program)
    finally:
        over.set()
    took_s = time.monotonic() - start
    for thread in threading.enumerate():
        if thread.name.startswith("rank "):
            thread.join(10)

    assert took_s < 30


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs signals")
def test_a_rank_that_loops_for_ever_is_ended_with_its_traceback():
    """A time-out that is raised in the main thread leads to where the rank was."""

    class Late(BaseException):
        pass

    def program(comm):
        while comm.rank == 0:
            pass
        comm.recv(0)

    def late(*_):
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Late) as caught:
            Cluster(2).run(program)
    finally:
        signal.signal(signal.SIGALRM, before)

    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert lines[-1] in ("while comm.rank == 0:", "pass")


def test_a_comm_works_on_its_own_rank_alone():
    """A comm that got to another rank, or survived its run, says so."""
    kept = []

    def program(comm):
        kept.append(comm)
        comm.barrier()
        if comm.rank == 1:
            kept[0].time_s  # noqa: B018

    with pytest.raises(ClusterError, match="the comm of rank 0 was used outside its rank"):
        Cluster(2).run(program)
    with pytest.raises(ClusterError, match="the comm of rank 1 was used outside its rank"):
        kept[1].barrier()


BAD_CALLS = {
    "dst: wanted a rank from 0 to 1, got 2": lambda c: c.send(np.zeros(1), 2),
    "src: wanted a rank from 0 to 1, got -1": lambda c: c.recv(-1),
    "dst: rank 0 cannot send to itself or receive from itself": lambda c: c.send(np.zeros(1), 0),
    "src: wanted a rank, got float": lambda c: c.recv(1.0),
    "array: wanted a NumPy array or a tensor, got list": lambda c: c.send([1.0], 1),
    "array: wanted a NumPy array or a tensor, got float": lambda c: c.all_reduce(1.0),
    "array: wanted numbers, got an array of dtype object": lambda c: c.send(np.array([None]), 1),
    "array: wanted numbers, got an array of dtype <U2": lambda c: c.send(np.array(["no"]), 1),
    "array: wanted numbers, got an array of dtype datetime64[D]": (
        lambda c: c.all_reduce(np.zeros(1, "datetime64[D]"))
    ),
    "arrays: all_to_all wants 2 arrays, one for each rank, got 1": (
        lambda c: c.all_to_all([np.zeros(1)])
    ),
    "arrays: reduce_scatter wants a list of 2 arrays, got ndarray": (
        lambda c: c.reduce_scatter(np.zeros(2))
    ),
    "array: rank 0 is the root and gives None": lambda c: c.broadcast(None),
    "op: wanted one of sum, max, min, got 'mean'": lambda c: c.all_reduce(np.zeros(1), op="mean"),
    "root: wanted a rank from 0 to 1, got 2": lambda c: c.broadcast(np.zeros(1), root=2),
    "ranks: wanted different ranks, 0 among them, got [1]": lambda c: c.group([1]),
    "ranks: wanted different ranks, 0 among them, got [0, 0]": lambda c: c.group([0, 0]),
    "flops: wanted 0 or more, got -1": lambda c: c.compute(-1),
    "seconds: wanted 0 or more, got nan": lambda c: c.compute(seconds=math.nan),
    "nbytes: wanted a whole number of 0 or more, got -3": lambda c: c.hold(-3),
    "nbytes: free(5) where 3 are held": lambda c: (c.hold(3), c.free(5)),
    "start: there is no collective gossip with 0 arguments": lambda c: c.start("gossip"),
    "wait: this request was waited for already": (
        lambda c: [r.wait() for r in [c.isend(np.zeros(1), 1)] * 2]
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_CALLS)
def test_a_bad_call_names_its_argument(text):
    """What came and what was wanted, under the name of the argument."""

    def program(comm):
        if comm.rank == 0:
            BAD_CALLS[text](comm)

    with pytest.raises((ValueError, TypeError, ClusterError)) as caught:
        Cluster(2).run(program)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("size: wanted a whole number of ranks, 1 or more, got 0", lambda: Cluster(0)),
        ("flops_per_s: wanted more than 0, got 0", lambda: Cluster(1, flops_per_s=0)),
        ("eager_bytes: wanted 0 or more, got -1", lambda: Cluster(1, eager_bytes=-1)),
        ("latency_s: wanted 0 or more, got -1", lambda: Link(-1)),
        ("latency_s: wanted 0 or more, got nan", lambda: Link(math.nan)),
        ("bytes_per_s: wanted more than 0, got nan", lambda: Link(0, math.nan)),
        ("bytes_per_s: wanted more than 0, got 0", lambda: Link(0, 0)),
        (
            "argument 1: per_rank wants 3 values, got 2",
            lambda: Cluster(3).run(lambda comm, x: x, per_rank([1, 2])),
        ),
    ],
)
def test_a_bad_cluster_names_its_argument(text, make):
    """Sizes, speeds and arguments that cannot be are refused before anything runs."""
    with pytest.raises(ValueError, match=r".") as caught:
        make()

    assert str(caught.value) == text


# -- pictures -----------------------------------------------------------------------------------


def picture_run() -> Run:
    def program(comm):
        if comm.rank == 0:
            comm.compute(seconds=4e-6, label="<forward>")
            comm.send(np.zeros(3000, np.uint8), 1)
        else:
            comm.recv(0)
            comm.compute(seconds=8e-6)

    return Cluster(2).run(program)


def test_the_timeline_as_text():
    """A chart of who computed, waited, sent and received, then a line for each message."""
    text = picture_run().timeline(width=32)

    assert text == "\n".join([
        "2 ranks, 16 µs   = compute   . wait   > sends   < receives   x both",
        "rank 0   program |========........                |",
        "         network |        >>>>>>>>                |",
        "rank 1   program |................================|",
        "         network |        <<<<<<<<                |",
        "",
        "from    to   ranks    bytes  kind",
        "4 µs  8 µs  0 -> 1  3,000 B  send",
    ])  # fmt: skip


def test_the_timeline_as_a_picture():
    """Well-formed SVG: a bar for each span, an arrow for each message, names escaped."""
    run = picture_run()

    root = ElementTree.fromstring(run.svg())

    names = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert names == [
        "2 ranks, 16 µs",
        "<forward>, 0 s to 4 µs",
        "send to 1, 4 µs to 8 µs",
        "recv from 0, 0 s to 8 µs",
        "compute, 8 µs to 16 µs",
        "send 0 to 1, 3,000 B, 4 µs to 8 µs",
    ]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polygon"))) == 1


def test_a_run_without_time_can_be_drawn():
    """Nothing happened, and that is what both pictures show."""
    run = Cluster(1).run(lambda comm: None)

    assert run.timeline(width=20).splitlines()[0].startswith("1 rank, 0 s")
    assert ElementTree.fromstring(run.svg()).tag == "{http://www.w3.org/2000/svg}svg"
