"""Interleaved timing: a figure, its interval and a verdict that hold on a busy machine.

All contenders run in one process, one block of calls each a round, in an order that is drawn
anew each round. A round gives one value: a ratio of two contenders' times, or the slope of one
contender's times over sizes. The figure is the median of these values, and its interval lies
between two order statistics, so nothing is assumed about the noise. For two equal functions the
random order alone makes it a fair coin which of them is the slower one in a round, whatever else
the machine does.

Looking often at an interval makes a wrong one more likely. So the looks are few (each comes after
twice the rounds of the one before) and share the allowed error: look k spends error / (k (k + 1)),
and the sum over all looks is the error. A look may be set by the clock. That is fair as well: how
long a round takes does not tell who was slower in it.

Knows nothing about pytest.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from pytest_llmgrind.estimate import UNDECIDED, Interval, interval, slope
from pytest_llmgrind.stopwatch import Stopwatch

CANDIDATE = "candidate"
BASELINE = "baseline"

Arguments = tuple[Any, ...]
Verify = Callable[[str, Any, Arguments], None]
Value = Callable[[Mapping[str, Sequence[float]], str], float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how surely to measure."""

    block_s: float = 5e-5
    """Calls that are shorter are looped to fill a block. Longer blocks meet the scheduler."""
    making_s: float = 3e-4
    """What making the inputs of one block may take; a block is cut to fit."""
    long_s: float = 5e-3
    """What the block of a slow contender may take before all make fewer calls."""
    rounds: int = 200
    """Rounds before the first look."""
    narrow: float = 0.03
    """Width of the interval over the figure at which a decided race ends."""
    settle_s: float = 1.2
    """When a decided race ends in any case."""
    time_s: float = 3.0
    """When to stop though nothing is decided."""
    patience_s: float = 15.0
    """How long to wait for the fewest rounds that can decide."""
    guest_s: float = 0.5
    """Time for a contender that the verdict does not need."""
    error: float = 0.01
    """Chance that the interval, over all looks, misses the true median."""
    check: float = 0.25
    """Chance that a block of the candidate is verified, and the most time that may take."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing that is timed: a contender, at one size.

    ``make(number)`` returns the arguments of a call: the same values for the same number, in
    objects that nobody else has.
    """

    contender: str
    call: Callable[..., Any]
    make: Callable[[int], Arguments]
    size: int = 0

    @property
    def name(self) -> str:
        return f"{self.contender}[{self.size}]" if self.size else self.contender


@dataclass(frozen=True)
class Lap:
    """Seconds a call of one cell, an entry for each round that it took part in."""

    name: str
    loops: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured. ``figures`` holds the median of each contender, the candidate's too."""

    figure: float
    interval: Interval
    verdict: str
    figures: dict[str, float]
    laps: tuple[Lap, ...]
    checked: int


def race(cells: Sequence[Cell], *, limit: float, verify: Verify, **options: Any) -> Result:
    """Time of the candidate over that of the baseline, against ``limit``.

    ``cells`` holds one cell each of the candidate, the baseline and any others.
    ``verify(contender, result, arguments)`` raises where a result is wrong; the arguments are
    made anew, so they are as they were before the call. ``options`` are those of ``measure``.
    """
    needed = (CANDIDATE, BASELINE)
    return measure(cells, _ratio, limit=limit, needed=needed, verify=verify, **options)


def scaling(cells: Sequence[Cell], *, limit: float, verify: Verify, **options: Any) -> Result:
    """Exponent of the candidate's time in the size, against ``limit``; see ``race``.

    ``cells`` holds one cell for each contender and size.
    """
    sizes = sorted({cell.size for cell in cells})

    def exponent(times: Mapping[str, Sequence[float]], who: str) -> float:
        return slope(sizes, times[who])

    ordered = sorted(cells, key=lambda cell: cell.size)
    needed = (CANDIDATE,)
    return measure(ordered, exponent, limit=limit, needed=needed, verify=verify, **options)


def _ratio(times: Mapping[str, Sequence[float]], who: str) -> float:
    return times[who][0] / times[BASELINE][0]


# -- measuring ------------------------------------------------------------------------------


def measure(
    cells: Sequence[Cell],
    value: Value,
    *,
    limit: float,
    needed: Sequence[str],
    verify: Verify,
    plan: Plan | None = None,
    watch: Stopwatch | None = None,
    chance: random.Random | None = None,
    during: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Result:
    """Time ``cells`` round by round until the candidate's ``value`` is clearly on one side.

    ``value(times, who)`` is computed from one round's times of each contender. Contenders that are
    not ``needed`` for the candidate's value sit out once they had their time. ``chance`` draws
    orders and the results to verify; the default is one that solution code cannot predict.
    ``during(contender)`` is a context in which that contender runs, outside of the clock.
    """
    meeting = _Meeting(
        cells,
        needed,
        verify,
        plan or Plan(),
        watch or Stopwatch(),
        chance or random.SystemRandom(),
        during,
    )
    with _collector_off():
        meeting.warm_up()
        found = meeting.decide(value, limit)
        meeting.verify_pending()
    return meeting.result(value, found, limit)


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class _Pending:
    """A result that waits to be verified: a buffer that is used again spoils it meanwhile."""

    cell: Cell
    number: int
    result: Any


PENDING = 4
"""Results that wait at most."""


class _Meeting:
    """Rounds of timed blocks, and what they gave."""

    def __init__(
        self,
        cells: Sequence[Cell],
        needed: Sequence[str],
        verify: Verify,
        plan: Plan,
        watch: Stopwatch,
        chance: random.Random,
        during: Callable[[str], AbstractContextManager[Any]],
    ) -> None:
        self.cells, self.plan, self.watch, self.chance = cells, plan, watch, chance
        self.needed, self._verify, self._during = needed, verify, during
        self.loops: dict[int, int] = {}
        self.seconds: dict[str, list[float]] = {cell.name: [] for cell in cells}
        self.spent = dict.fromkeys((cell.contender for cell in cells), 0.0)
        self.checked, self._checking_s = 0, 0.0
        self._pending: list[_Pending] = []
        self._number = self._rounds = 0

    # -- calls --

    def warm_up(self) -> None:
        """Run and verify each cell, the candidate's first; then find the length of a block.

        Contenders of one size make the same number of calls, with the same inputs: the first call
        of a block is the slowest, and would otherwise weigh more for one than for another.
        """
        costs: dict[int, list[tuple[float, float]]] = {}
        for cell in sorted(self.cells, key=lambda cell: cell.contender != CANDIDATE):
            seconds, making_s, (result,) = self._block(cell, 1)
            self._check(cell, self._number, result)
            self._number += 1
            if seconds < self.plan.long_s:
                seconds, making_s = self._cost(cell)
            costs.setdefault(cell.size, []).append((seconds, making_s))
        self.loops = {size: self._fitting(*zip(*each, strict=True)) for size, each in costs.items()}

    def _cost(self, cell: Cell) -> tuple[float, float]:
        """Seconds of a call and of making its inputs: the least of three short blocks."""
        plan, loops = self.plan, 1
        while True:
            blocks = [self._block(cell, loops)[:2] for _ in range(3)]
            self._number += loops
            seconds, making_s = (min(times) for times in zip(*blocks, strict=True))
            if seconds > plan.block_s / 4 or making_s > plan.making_s / 4:
                return seconds / loops, making_s / loops
            loops *= 4

    def _fitting(self, seconds: Sequence[float], making_s: Sequence[float]) -> int:
        """Calls that fill a block of the fastest contender, if the others' do not take too long."""
        plan, tiny = self.plan, 1e-9
        wanted = plan.block_s / max(min(seconds), tiny)
        most = min(plan.long_s / max(seconds), plan.making_s / max(*making_s, tiny))
        return max(1, int(min(round(wanted), most)))

    def _block(self, cell: Cell, loops: int) -> tuple[float, float, list[Any]]:
        """Seconds of ``loops`` calls, seconds of making their inputs, and their results."""
        wall, watch, call = self.watch.wall, self.watch, cell.call
        before = wall()
        inputs = [cell.make(self._number + i) for i in range(loops)]
        making_s = wall() - before
        results: list[Any] = []
        keep = results.append
        with self._during(cell.contender):
            watch.start()
            for arguments in inputs:
                keep(call(*arguments))
            seconds = watch.stop()
        self.spent[cell.contender] += wall() - before
        return seconds, making_s, results

    def _round(self) -> None:
        playing = [cell for cell in self.cells if self._plays(cell)]
        self.chance.shuffle(playing)
        for cell in playing:
            loops = self.loops[cell.size]
            seconds, _, results = self._block(cell, loops)
            self.seconds[cell.name].append(seconds / loops)
            if cell.contender == CANDIDATE:
                self._maybe_check(cell, results)
        self._rounds += 1
        self._number += max(self.loops.values())
        gc.collect(0)

    # -- results --

    def _maybe_check(self, cell: Cell, results: list[Any]) -> None:
        """Verify a result of the first block, and of later ones by chance; at once or later."""
        first = self._rounds == 0
        affordable = self._checking_s <= self.plan.check * self.spent[CANDIDATE]
        if not first and not (affordable and self.chance.random() < self.plan.check):
            return
        index = self.chance.randrange(len(results))
        pending = _Pending(cell, self._number + index, results[index])
        if first or self.chance.random() < 0.5:
            self._check(pending.cell, pending.number, pending.result)
            return
        self._pending.append(pending)
        if len(self._pending) > PENDING:
            self.verify_pending()

    def verify_pending(self) -> None:
        while self._pending:
            pending = self._pending.pop()
            self._check(pending.cell, pending.number, pending.result)

    def _check(self, cell: Cell, number: int, result: Any) -> None:
        before = self.watch.wall()
        arguments = cell.make(number)
        with self._during(cell.contender):
            self._verify(cell.contender, result, arguments)
        self.checked += cell.contender == CANDIDATE
        self._checking_s += self.watch.wall() - before

    # -- deciding --

    def decide(self, value: Value, limit: float) -> Interval:
        """Run rounds, look at the interval now and then, and stop when it is clear or too late."""
        plan, wall, start = self.plan, self.watch.wall, self.watch.wall()
        due, stop_s = plan.rounds, plan.settle_s
        for look in itertools.count(1):
            error = plan.error / (look * (look + 1))
            self._play(due, fewest=math.ceil(math.log2(2 / error)), start=start, stop_s=stop_s)
            found = interval(self.values(value, CANDIDATE), error)
            undecided = found.verdict(limit) == UNDECIDED
            stop_s = plan.time_s if undecided else plan.settle_s
            if wall() - start >= stop_s or (found.width <= plan.narrow and not undecided):
                return found
            due = 2 * self._rounds
        raise AssertionError("itertools.count has no end")

    def _play(self, due: int, *, fewest: int, start: float, stop_s: float) -> None:
        """Rounds up to ``due``, or until the time is up; but ``fewest`` unless patience ends."""
        while self._rounds < due:
            passed = self.watch.wall() - start
            if passed >= (stop_s if self._rounds >= fewest else self.plan.patience_s):
                return
            self._round()

    def _plays(self, cell: Cell) -> bool:
        if cell.contender in self.needed or self._rounds == 0:
            return True
        return self.spent[cell.contender] <= self.plan.guest_s

    def values(self, value: Value, who: str) -> list[float]:
        """``value`` of each round in which ``who`` took part; contenders only ever drop out."""
        times: dict[str, list[list[float]]] = {}
        for cell in self.cells:
            times.setdefault(cell.contender, []).append(self.seconds[cell.name])
        return [
            value({name: [t[i] for t in lists if i < len(t)] for name, lists in times.items()}, who)
            for i in range(len(times[who][0]))
        ]

    def result(self, value: Value, found: Interval, limit: float) -> Result:
        figures = {who: statistics.median(self.values(value, who)) for who in self.spent}
        return Result(
            figure=figures[CANDIDATE],
            interval=found,
            verdict=found.verdict(limit),
            figures=figures,
            laps=tuple(
                Lap(c.name, self.loops[c.size], tuple(self.seconds[c.name])) for c in self.cells
            ),
            checked=self.checked,
        )
