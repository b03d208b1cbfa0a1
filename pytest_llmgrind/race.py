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

Everything runs on one thread of BLAS and OpenMP: a second one waits for a core that others keep
busy, and shapes just beyond the library's threshold would be judged by that wait.

Knows nothing about pytest.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from pytest_llmgrind.estimate import UNDECIDED, Interval, interval, slope
from pytest_llmgrind.rounds import (
    BASELINE,
    CANDIDATE,
    TRANSPORT,
    Cell,
    During,
    Lap,
    Plan,
    Rounds,
    Verify,
)
from pytest_llmgrind.stopwatch import Stopwatch

LEAST_SHARE = 0.02
"""What is left of a time at least: of a call that does almost nothing, noise would be more."""
Value = Callable[[Mapping[str, Sequence[float]], str], float]


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

    ``cells`` holds one cell each of the candidate, the baseline and any others; ``options`` are
    those of ``measure``.
    """

    def ratio(times: Mapping[str, Sequence[float]], who: str) -> float:
        return net(times, who)[0] / net(times, BASELINE)[0]

    needed = (CANDIDATE, BASELINE, *_transport(cells))
    return measure(cells, ratio, limit=limit, needed=needed, verify=verify, **options)


def scaling(cells: Sequence[Cell], *, limit: float, verify: Verify, **options: Any) -> Result:
    """Exponent of the candidate's time in the size, against ``limit``; see ``race``.

    ``cells`` holds one cell for each contender and size.
    """
    sizes = sorted({cell.size for cell in cells})

    def exponent(times: Mapping[str, Sequence[float]], who: str) -> float:
        return slope(sizes, net(times, who))

    ordered = sorted(cells, key=lambda cell: cell.size)
    needed = (CANDIDATE, *_transport(cells))
    return measure(ordered, exponent, limit=limit, needed=needed, verify=verify, **options)


def net(times: Mapping[str, Sequence[float]], who: str) -> list[float]:
    """Times without the way to another process, where there is one."""
    ways = times.get(TRANSPORT, [0.0] * len(times[who]))
    pairs = zip(times[who], ways, strict=True)
    return [max(time - way, LEAST_SHARE * time) for time, way in pairs]


def _transport(cells: Sequence[Cell]) -> set[str]:
    return {cell.contender for cell in cells} & {TRANSPORT}


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
    during: During = nullcontext,
) -> Result:
    """Play rounds until the candidate's ``value`` is clearly on one side of ``limit``.

    ``value(times, who)`` is computed from one round's times of each contender. The other arguments
    are those of ``Rounds``; by default, solution code cannot predict ``chance``.
    """
    rounds = Rounds(
        cells,
        needed=needed,
        verify=verify,
        plan=plan or Plan(),
        watch=(watch or Stopwatch()).calibrated(),
        chance=chance or random.SystemRandom(),
        during=during,
    )
    with _collector_off(), threadpool_limits(limits=1):
        rounds.warm_up()
        found = _decide(rounds, value, limit)
        rounds.verify_pending()
    figures = {
        who: statistics.median(_values(rounds, value, who))
        for who in rounds.contenders
        if who != TRANSPORT
    }
    return Result(
        figure=figures[CANDIDATE],
        interval=found,
        verdict=found.verdict(limit),
        figures=figures,
        laps=rounds.laps,
        checked=rounds.checked,
    )


def _decide(rounds: Rounds, value: Value, limit: float) -> Interval:
    """Play, look at the interval now and then, and stop when it is clear or too late."""
    plan, start = rounds.plan, rounds.watch.wall()

    def late(decided: bool, fewest: int) -> bool:
        passed = rounds.watch.wall() - start
        if passed >= plan.patience_s or rounds.played < fewest:
            return passed >= plan.patience_s
        return passed >= plan.settle_s if decided else rounds.own_s >= plan.time_s

    due, decided = plan.rounds, True
    for look in itertools.count(1):
        error = plan.error / (look * (look + 1))
        fewest = math.ceil(math.log2(2 / error))
        while rounds.played < due and not late(decided, fewest):
            rounds.play()
        found = interval(_values(rounds, value, CANDIDATE), error)
        decided = found.verdict(limit) != UNDECIDED
        if late(decided, fewest) or (decided and found.width <= plan.narrow):
            return found
        due = 2 * rounds.played
    raise AssertionError("itertools.count has no end")


def _values(rounds: Rounds, value: Value, who: str) -> list[float]:
    return [value(times, who) for times in rounds.times(who)]


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
