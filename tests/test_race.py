"""Timing: estimates, the stopwatch, rounds, and the verdict of a race. No clock but a fake one."""

from __future__ import annotations

import gc
import math
import random
import time
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from pytest_llmgrind import race as races
from pytest_llmgrind.estimate import Interval, interval, slope
from pytest_llmgrind.race import race, scaling
from pytest_llmgrind.rounds import PENDING, Cell, Plan
from pytest_llmgrind.stopwatch import Stopwatch, Switches

QUIET = Plan(settle_s=1e9, time_s=2e9, patience_s=3e9)
"""Never out of time."""


class World:
    """A clock that calls move on, and what they were given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.given: list[tuple[str, Any]] = []
        self.waited = 0.0
        self.interruptions = 0
        self.watch = Stopwatch(
            wall=lambda: self.now,
            cpu=lambda: self.now - self.waited,
            switches=lambda: Switches(0, self.interruptions),
        )

    def cell(
        self,
        contender: str,
        seconds: float | Callable[[], float],
        *,
        size: int = 0,
        making_s: float = 0.0,
        answer: Callable[[Any], Any] = lambda box: box.number,
    ) -> Cell:
        """A contender whose calls take ``seconds``; its argument is a Box."""

        def make(number: int) -> tuple[Box]:
            self.now += making_s
            return (Box(number),)

        def call(box: Box) -> Any:
            taken = seconds() if callable(seconds) else seconds  # it may move the clock itself
            self.now += taken
            self.given.append((contender, box))
            return answer(box)

        return Cell(contender=contender, call=call, make=make, size=size)

    def interrupt(self, seconds: float) -> None:
        """Another process has the CPU."""
        self.now += seconds
        self.waited += seconds
        self.interruptions += 1

    def numbers(self, contender: str) -> list[int]:
        return [box.number for who, box in self.given if who == contender]


class Box:
    def __init__(self, number: int) -> None:
        self.number = number


def right(contender: str, result: Any, arguments: tuple[Box]) -> None:
    if result != arguments[0].number:
        raise Wrong(contender)


class Wrong(Exception):
    pass


@pytest.fixture
def world() -> World:
    return World()


def run(world: World, *cells: Cell, limit: float = 1.0, **options: Any) -> races.Result:
    defaults: dict[str, Any] = {"verify": right, "plan": QUIET, "chance": random.Random(7)}
    options = {**defaults, **options}
    return race(cells, limit=limit, watch=world.watch, **options)


# -- estimates ------------------------------------------------------------------------------


def _chance_to_miss(count: int, rank: int) -> float:
    """That fewer than ``rank`` of ``count`` fair coins show heads, or fewer than so show tails."""
    return 2 * sum(math.comb(count, heads) for heads in range(rank)) / 2**count


@pytest.mark.parametrize("error", [0.1, 0.01, 0.0005])
@pytest.mark.parametrize("count", [12, 13, 50, 201, 1000])
def test_the_interval_is_the_narrowest_that_keeps_its_error(count: int, error: float) -> None:
    """One rank further in, the interval would miss the median more often than allowed."""
    found = interval(random.Random(1).sample(range(1, count + 1), count), error)

    rank = int(found.low)
    assert found.high == count + 1 - rank
    assert _chance_to_miss(count, rank) <= error < _chance_to_miss(count, rank + 1)


@pytest.mark.parametrize(("count", "sure"), [(1, False), (8, False), (9, True)])
def test_too_few_values_give_their_range_and_no_certainty(count: int, sure: bool) -> None:
    """At an error of 1 in 200, eight values cannot say where the median lies; nine can."""
    found = interval(range(count), 0.005)

    assert found == Interval(0, count - 1, sure=sure)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Interval(0.4, 0.49), "met"),
        (Interval(0.4, 0.5), "undecided"),
        (Interval(0.4, 0.6), "undecided"),
        (Interval(0.5, 0.6), "undecided"),
        (Interval(0.51, 0.6), "over"),
        (Interval(0.1, 0.2, sure=False), "undecided"),
        (Interval(0.8, 0.9, sure=False), "undecided"),
    ],
)
def test_only_a_whole_interval_decides(found: Interval, verdict: str) -> None:
    """The verdict is met or over where the interval is sure and on one side of the limit."""
    assert found.verdict(0.5) == verdict


def test_the_width_of_an_interval_is_relative() -> None:
    """0.97 to 1 is as wide as -100 to -97, and a point has no width."""
    assert Interval(0.97, 1.0).width == pytest.approx(0.03)
    assert Interval(-100, -97).width == pytest.approx(0.03)
    assert Interval(0, 0).width == 0


def test_the_slope_of_a_power_is_its_exponent() -> None:
    """Costs of 5·n^1.5 have the slope 1.5."""
    sizes = (3, 10, 17, 64)

    assert slope(sizes, [5 * n**1.5 for n in sizes]) == pytest.approx(1.5)


# -- the stopwatch --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "seconds"),
    [
        pytest.param([Switches(3, 1), Switches(3, 5)], 2.0, id="held up by others: CPU time"),
        pytest.param([Switches(3, 1), Switches(4, 1)], 10.0, id="slept: wall time"),
        pytest.param(None, 10.0, id="nobody counts: wall time"),
    ],
)
def test_waiting_for_a_cpu_is_not_counted(switches: Any, seconds: float) -> None:
    """A block of 10 s in which the thread ran for 2 s took 2 s, unless it paused by itself."""
    read = iter(switches).__next__ if switches else None
    watch = Stopwatch(iter((0.0, 10.0)).__next__, iter((1.0, 3.0)).__next__, read)

    start = watch.start()

    assert watch.since(start) == seconds


@pytest.mark.parametrize(
    ("switches", "interrupted"),
    [
        ([Switches(3, 1), Switches(3, 2)], True),
        ([Switches(3, 1), Switches(4, 1)], False),
        (None, False),
    ],
)
def test_an_interruption_is_seen(switches: Any, interrupted: bool) -> None:
    """Another process had the CPU; a pause of one's own is no interruption."""
    watch = Stopwatch(switches=iter(switches).__next__ if switches else None)

    start = watch.start()

    assert watch.interrupted_since(start) is interrupted


def test_the_stopwatch_of_this_machine_counts_a_sleep() -> None:
    """Sleeping is time that a contender takes."""
    watch = Stopwatch()

    start = watch.start()
    time.sleep(0.02)

    assert watch.since(start) >= 0.02


def test_the_stopwatch_of_this_machine_counts_work() -> None:
    """Work takes some time, and no more than the wall clock saw."""
    watch, before = Stopwatch(), time.perf_counter()

    start = watch.start()
    sum(range(200_000))
    seconds = watch.since(start)

    assert 0 < seconds <= time.perf_counter() - before


def test_the_clocks_own_time_is_taken_off(world: World) -> None:
    """Where reading the clock takes 14 µs, calls of 1 and 4 µs are at 0.25, in long blocks."""

    def slow() -> float:
        world.now += 7e-6
        seen = world.now
        world.now += 7e-6
        return seen

    watch = replace(world.watch, cpu=slow)
    cells = (world.cell("candidate", 1e-6), world.cell("baseline", 4e-6))

    result = race(cells, limit=0.5, verify=right, watch=watch, plan=QUIET, chance=random.Random(7))

    assert result.figure == pytest.approx(0.25)
    assert all(lap.loops * 1e-6 > 10 * 14e-6 for lap in result.laps)


# -- figures and verdicts -------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, "met"), (0.2, "over"), (0.25, "undecided")])
def test_a_race_is_the_ratio_of_two_times(world: World, limit: float, verdict: str) -> None:
    """A candidate of 1 ms beside a baseline of 4 ms is at 0.25, whatever the limit."""
    cells = (world.cell("candidate", 2**-10), world.cell("baseline", 2**-8))

    result = run(world, *cells, limit=limit, plan=Plan())

    assert (result.figure, result.verdict) == (0.25, verdict)
    assert result.interval == Interval(0.25, 0.25)
    assert result.figures == {"candidate": 0.25, "baseline": 1.0}


def test_outliers_do_not_move_the_figure(world: World) -> None:
    """With one call in five taking fifty times as long, equal functions stay equal."""
    noise = random.Random(3)

    def seconds() -> float:
        return 1e-3 * (50 if noise.random() < 0.2 else 1 + 0.01 * noise.random())

    cells = (world.cell("candidate", seconds), world.cell("baseline", seconds))

    result = run(world, *cells, limit=2.0)

    assert result.figure == pytest.approx(1, abs=0.01)
    assert result.verdict == "met"


def test_a_candidate_at_its_limit_is_rarely_called_over_or_met(world: World) -> None:
    """Of 400 races at the limit at most 1 in 100 is decided; 12 or more has a chance below 1e-3."""
    decided = 0
    for seed in range(400):
        noise = random.Random(seed)
        seconds = lambda noise=noise: 1e-3 * noise.lognormvariate(0, 0.3)  # noqa: E731
        cells = (world.cell("candidate", seconds), world.cell("baseline", seconds))
        plan = Plan(rounds=20, settle_s=0.2, time_s=0.2, check=0)
        result = run(world, *cells, limit=1.0, plan=plan, chance=random.Random(seed))
        decided += result.verdict != "undecided"

    assert decided < 12


def test_looks_double_and_share_the_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look k comes after 200, 400, 800, … rounds and spends error / (k (k + 1))."""
    looks: list[tuple[int, float]] = []

    def spy(values: list[float], error: float) -> Interval:
        looks.append((len(values), error))
        return interval(values, error)

    monkeypatch.setattr(races, "interval", spy)
    cells = (world.cell("candidate", 2**-10), world.cell("baseline", 2**-10))

    run(world, *cells, limit=1.0, plan=Plan(settle_s=4.0, time_s=4.0, check=0))

    assert [count for count, _ in looks[:-1]] == [200, 400, 800, 1600]
    shares = [error / 0.01 for _, error in looks]
    assert shares == pytest.approx([1 / 2, 1 / 6, 1 / 12, 1 / 20, 1 / 30])


def test_a_race_of_equal_functions_against_its_limit_ends_undecided(world: World) -> None:
    """It measures on until its time is up, then says that it does not know."""
    cells = (world.cell("candidate", 2**-10), world.cell("baseline", 2**-10))

    result = run(world, *cells, limit=1.0, plan=Plan(time_s=3.0))

    assert result.verdict == "undecided"
    assert world.now == pytest.approx(3.0, abs=0.05)


def test_a_decided_race_goes_on_until_its_interval_is_narrow(world: World) -> None:
    """The verdict is plain after 200 rounds; the figure is not, and gets until settle_s."""
    noise = random.Random(5)
    seconds = lambda: 1e-3 * noise.lognormvariate(0, 0.5)  # noqa: E731
    cells = (world.cell("candidate", seconds), world.cell("baseline", seconds))

    result = run(world, *cells, limit=9.0, plan=Plan(settle_s=1.0))

    assert result.verdict == "met"
    assert len(result.laps[0].seconds) > 400
    assert world.now < 1.1


def test_a_plain_race_ends_after_two_hundred_rounds(world: World) -> None:
    """Without noise the first look is the last."""
    cells = (world.cell("candidate", 1e-4), world.cell("baseline", 1e-4))

    result = run(world, *cells, limit=2.0, plan=Plan())

    assert [len(lap.seconds) for lap in result.laps] == [200, 200]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, 9), (0.05, 12), (4.0, 2)])
def test_long_calls_get_fewer_rounds(world: World, seconds: float, rounds: int) -> None:
    """As many as fit into settle_s; the nine that can decide, if patience allows."""
    cells = (world.cell("candidate", seconds), world.cell("baseline", seconds))

    result = run(world, *cells, limit=2.0, plan=Plan())

    assert len(result.laps[0].seconds) == rounds
    assert result.verdict == ("met" if rounds >= 9 else "undecided")


def test_scaling_is_the_exponent_of_the_time(world: World) -> None:
    """A candidate of n^1.2 and a baseline of n^2 have these exponents."""
    sizes = (8, 16, 64)
    cells = [
        world.cell(who, 1e-5 * size**power, size=size)
        for who, power in (("candidate", 1.2), ("baseline", 2.0))
        for size in sizes
    ]

    result = scaling(cells, limit=1.5, verify=right, watch=world.watch)

    assert result.figures == pytest.approx({"candidate": 1.2, "baseline": 2.0})
    assert (result.figure, result.verdict) == (result.figures["candidate"], "met")
    assert [lap.name for lap in result.laps][:3] == ["candidate[8]", "baseline[8]", "candidate[16]"]


# -- rounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate_s", "baseline_s", "making_s", "loops"),
    [
        pytest.param(1e-6, 1e-6, 0.0, 25, id="fill 25 us"),
        pytest.param(1e-6, 3e-6, 0.0, 25, id="the fastest counts"),
        pytest.param(1e-6, 1e-3, 0.0, 5, id="a slow one gets 5 ms at most"),
        pytest.param(1e-3, 1e-3, 0.0, 1, id="a long call is a block"),
        pytest.param(1e-6, 1e-6, 1e-4, 3, id="inputs get 0.3 ms"),
    ],
)
def test_calls_fill_a_block(
    world: World, candidate_s: float, baseline_s: float, making_s: float, loops: int
) -> None:
    """All contenders make the same number of calls a block."""
    cells = (
        world.cell("candidate", candidate_s, making_s=making_s),
        world.cell("baseline", baseline_s, making_s=making_s),
    )

    result = run(world, *cells, limit=2.0)

    assert [lap.loops for lap in result.laps] == [loops, loops]


def test_making_inputs_and_the_first_call_of_a_block_are_off_the_clock(world: World) -> None:
    """A cold first call and slow inputs do not show in the seconds of a call."""
    cold = {"candidate": True}

    def seconds() -> float:
        was_cold, cold["candidate"] = cold["candidate"], False
        return 1e-3 if was_cold else 1e-5

    @contextmanager
    def during(contender: str) -> Any:
        cold["candidate"] = True
        yield

    cells = (
        world.cell("candidate", seconds, making_s=1e-4),
        world.cell("baseline", 1e-5),
    )

    result = run(world, *cells, limit=2.0, during=during)

    assert result.laps[0].seconds[-1] == pytest.approx(1e-5)


def test_contenders_get_the_same_inputs_in_objects_of_their_own(world: World) -> None:
    """Equal numbers for both contenders in each round; no object is given twice."""
    cells = (world.cell("candidate", 1e-5), world.cell("baseline", 2e-5))

    run(world, *cells, limit=2.0)

    timed = [world.numbers(who)[-100:] for who in ("candidate", "baseline")]
    assert timed[0] == timed[1]
    assert len({id(box) for _, box in world.given}) == len(world.given)


def test_no_input_comes_twice_for_one_contender(world: World) -> None:
    """So an answer that was kept from an earlier call is of no use."""
    cells = (world.cell("candidate", 1e-5), world.cell("baseline", 2e-5))

    run(world, *cells, limit=2.0)

    numbers = world.numbers("candidate")
    assert len(set(numbers)) == len(numbers)


def test_the_order_is_drawn_anew_each_round(world: World) -> None:
    """Each contender comes first in about half of the rounds."""
    cells = (world.cell("candidate", 1e-3), world.cell("baseline", 1e-3))

    run(world, *cells, limit=2.0)

    order = [who for who, _ in world.given][-400:]
    first = order[::2].count("candidate")
    assert all(
        {a, b} == {"candidate", "baseline"} for a, b in zip(order[::2], order[1::2], strict=True)
    )
    assert 60 < first < 140


def test_a_contender_that_the_verdict_does_not_need_sits_out(world: World) -> None:
    """The reference runs 50 rounds and keeps its figure."""
    cells = (
        world.cell("candidate", 1e-4),
        world.cell("baseline", 2e-4),
        world.cell("reference", 3e-4),
    )

    result = run(world, *cells, limit=2.0)

    assert [len(lap.seconds) for lap in result.laps] == [200, 200, 50]
    assert result.figures["reference"] == pytest.approx(1.5)


def test_a_slow_guest_is_measured_three_times(world: World) -> None:
    """A baseline of 1 s a round does not hold up the exponent of the candidate for long."""
    cells = [world.cell("candidate", 1e-3 * n, size=n) for n in (1, 2, 4)]
    cells += [world.cell("baseline", 0.05 * n * n, size=n) for n in (1, 2, 4)]

    result = scaling(cells, limit=1.5, verify=right, watch=world.watch)

    laps = {lap.name: len(lap.seconds) for lap in result.laps}
    assert laps["baseline[4]"] == 3
    assert laps["candidate[4]"] == 9
    assert result.figures["baseline"] == pytest.approx(2.0)


def test_a_block_that_was_interrupted_does_not_count(world: World) -> None:
    """Half of the candidate's blocks find cold caches after another process had the CPU."""
    noise = random.Random(1)

    def seconds() -> float:
        if noise.random() < 0.5:
            return 1e-3
        world.interrupt(0.01)
        return 3e-3

    cells = (world.cell("candidate", seconds), world.cell("baseline", 1e-3))

    result = run(world, *cells, limit=2.0)

    assert result.figure == pytest.approx(1.0)
    assert result.interval.high == pytest.approx(1.0)
    assert max(result.laps[0].seconds) == pytest.approx(1e-3)
    assert 70 < len(result.laps[0].seconds) < 130


def test_blocks_count_where_nearly_all_are_interrupted(world: World) -> None:
    """A call of 50 ms is always interrupted; that is no reason to measure nothing."""

    def seconds() -> float:
        world.interrupt(0.01)
        return 0.05

    cells = (world.cell("candidate", seconds), world.cell("baseline", 0.1))

    result = run(world, *cells, limit=2.0, plan=Plan())

    assert (result.figure, result.verdict) == (pytest.approx(0.5), "met")


def test_waiting_for_a_cpu_does_not_use_up_the_time(world: World) -> None:
    """An undecided race gets 3 s of work, on a machine where that takes 12 s."""

    def seconds() -> float:
        world.interrupt(3 * 2**-7)
        return 2**-7

    cells = [world.cell(who, seconds) for who in ("candidate", "baseline")]

    result = run(world, *cells, limit=1.0, plan=Plan())

    assert result.verdict == "undecided"
    assert world.now - world.waited == pytest.approx(3.0, abs=0.1)


def test_patience_ends(world: World) -> None:
    """Whatever the machine does, a race ends after 15 s."""

    def seconds() -> float:
        world.interrupt(31 * 2**-7)
        return 2**-7

    cells = [world.cell(who, seconds) for who in ("candidate", "baseline")]

    result = run(world, *cells, limit=1.0, plan=Plan())

    assert result.verdict == "undecided"
    assert 15 < world.now < 18


def test_the_collector_is_off_while_measuring_and_on_again_after(world: World) -> None:
    """The garbage collector does not run inside of a block."""
    seen = set()

    def answer(box: Box) -> int:
        seen.add(gc.isenabled())
        return box.number

    cells = (world.cell("candidate", 1e-4, answer=answer), world.cell("baseline", 1e-4))

    run(world, *cells, limit=2.0)

    assert seen == {False}
    assert gc.isenabled()


def threads() -> set[int]:
    """How many each BLAS and OpenMP library of this process, numpy's too, would use."""
    return {each["num_threads"] for each in threadpool_info()}


def test_one_thread_multiplies_while_measuring(world: World) -> None:
    """A product just beyond BLAS's threshold does not wait for a second core."""
    before, seen = threads(), set[int]()

    def seconds() -> float:
        seen.update(threads())
        return float(np.ones(2) @ np.ones(2)) * 1e-3

    run(world, world.cell("candidate", seconds), world.cell("baseline", 1e-3), limit=2.0)

    assert (seen, threads()) == ({1}, before)


def test_the_collector_is_on_again_after_an_error(world: World) -> None:
    """Whatever a contender raises."""
    cells = (
        world.cell("candidate", 1e-4, answer=lambda box: 1 / 0),
        world.cell("baseline", 1e-4),
    )

    with pytest.raises(ZeroDivisionError):
        run(world, *cells)

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off(world: World) -> None:
    """Nothing is turned on that was off."""
    cells = (world.cell("candidate", 1e-4), world.cell("baseline", 1e-4))

    gc.disable()
    try:
        run(world, *cells, limit=2.0)
        was_on = gc.isenabled()
    finally:
        gc.enable()

    assert not was_on


def test_each_contender_runs_and_is_verified_in_its_own_context(world: World) -> None:
    """So an error can be laid at the right door."""
    current: list[str] = []
    seen: set[tuple[str, str]] = set()

    @contextmanager
    def during(contender: str) -> Any:
        current.append(contender)
        yield
        current.pop()

    def verify(contender: str, result: Any, arguments: Any) -> None:
        seen.add((contender, current[-1]))

    def answer(box: Box) -> None:
        seen.add(("call", current[-1]))

    cells = [world.cell(who, 1e-4, answer=answer) for who in ("candidate", "baseline")]

    run(world, *cells, limit=2.0, during=during, verify=verify)

    doors = {"candidate", "baseline"}
    assert seen == {(who, who) for who in doors} | {("call", who) for who in doors}


# -- spot checks ----------------------------------------------------------------------------


def test_results_are_verified_against_untouched_arguments(world: World) -> None:
    """A candidate that changes its argument and answers accordingly is wrong."""

    def cheat(box: Box) -> int:
        box.number = 0
        return 0

    cells = (world.cell("candidate", 1e-4, answer=cheat), world.cell("baseline", 1e-4))

    # number 0 is the warm-up call's own
    with pytest.raises(Wrong, match="candidate"):
        run(world, *cells, limit=2.0)


def test_every_contender_is_verified_once_before_the_race(world: World) -> None:
    """A wrong baseline is found as well."""
    cells = (
        world.cell("candidate", 1e-4),
        world.cell("baseline", 1e-4, answer=lambda box: -1),
    )

    with pytest.raises(Wrong, match="baseline"):
        run(world, *cells, limit=2.0)


def test_a_remembered_answer_is_caught_in_the_first_round(world: World) -> None:
    """The first call's answer, given ever after, fails as soon as a timed call is verified."""
    kept: list[int] = []

    def remember(box: Box) -> int:
        kept.append(box.number)
        return kept[0]

    cells = (world.cell("candidate", 0.01, answer=remember), world.cell("baseline", 0.01))

    with pytest.raises(Wrong, match="candidate"):
        run(world, *cells, limit=2.0)
    assert len(kept) == 2


def test_a_candidate_that_is_wrong_now_and_then_is_caught(world: World) -> None:
    """One wrong call in ten: of the about 50 calls that are verified, one is among them."""
    cells = (
        world.cell("candidate", 1e-4, answer=lambda box: box.number if box.number % 10 else -1),
        world.cell("baseline", 1e-4),
    )

    with pytest.raises(Wrong, match="candidate"):
        run(world, *cells, limit=2.0)


def test_a_buffer_that_is_used_again_is_caught(world: World) -> None:
    """Some results wait for rounds before they are verified."""
    buffer = Box(0)

    def reuse(box: Box) -> Box:
        buffer.number = box.number
        return buffer

    def verify(contender: str, result: Any, arguments: tuple[Box]) -> None:
        if contender == "candidate":
            right(contender, result.number, arguments)

    cells = (world.cell("candidate", 1e-3, answer=reuse), world.cell("baseline", 1e-3))

    with pytest.raises(Wrong, match="candidate"):
        run(world, *cells, limit=2.0, verify=verify)


def test_about_a_quarter_of_the_blocks_is_verified(world: World) -> None:
    """Of 200 rounds 50 by chance, one in the first round, and the warm-up."""
    cells = (world.cell("candidate", 1e-4), world.cell("baseline", 1e-4))

    result = run(world, *cells, limit=2.0)

    assert 30 < result.checked < 75


def test_slow_checks_are_made_less_often(world: World) -> None:
    """Verifying takes a quarter of the candidate's time, and one check more, at most."""
    checks = []

    def verify(contender: str, result: Any, arguments: Any) -> None:
        checks.append(contender)
        world.now += 0.05

    cells = (world.cell("candidate", 1e-3), world.cell("baseline", 1e-3))

    result = run(world, *cells, limit=2.0, verify=verify)

    # warm-up of both, the first round, and then 0.25 * 0.2 s of 0.05 s each
    assert result.checked == checks.count("candidate") <= 4


def test_all_but_a_few_results_are_dropped_at_once(world: World) -> None:
    """Memory holds what waits to be verified, and one block."""
    alive: weakref.WeakSet[Box] = weakref.WeakSet()
    most = 0

    def answer(box: Box) -> Box:
        nonlocal most
        result = Box(box.number)
        alive.add(result)
        most = max(most, len(alive))
        return result

    def verify(contender: str, result: Any, arguments: tuple[Box]) -> None:
        right(contender, result.number, arguments)

    cells = [world.cell(who, 1e-3, answer=answer) for who in ("candidate", "baseline")]

    run(world, *cells, limit=2.0, verify=verify)

    assert most <= PENDING + 1 + 2


def test_what_is_verified_cannot_be_foretold(world: World) -> None:
    """Two races with the default source of chance verify different calls."""
    seen: list[list[int]] = []
    for _ in range(2):
        verified: list[int] = []

        def verify(contender: str, result: Any, arguments: tuple[Box], to=verified) -> None:
            to.append(arguments[0].number)

        cells = (world.cell("candidate", 1e-3), world.cell("baseline", 1e-3))
        run(world, *cells, limit=2.0, verify=verify, chance=None)
        seen.append(verified)

    assert seen[0] != seen[1]
