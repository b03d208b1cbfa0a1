"""Rounds of timed calls: every contender once a round, with fresh inputs, results spot-checked.

Knows nothing about pytest.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pytest_llmgrind.stopwatch import Stopwatch

CANDIDATE = "candidate"
BASELINE = "baseline"
TRANSPORT = "transport"
"""What it takes to reach a contender that runs in another process; taken off the others."""
PENDING = 4
"""Results that wait to be verified, at most."""
FEWEST_CLEAN, CLEAN_SHARE = 20, 0.1
"""Interrupted rounds are left out where so many others are there."""
MOST_LOOPS = 4**6
TICK_S = 1e-9
"""The least time that anything takes: a ratio and a logarithm need more than 0."""

Arguments = tuple[Any, ...]
Verify = Callable[[str, Any, Arguments], None]
During = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how surely to measure; ``benchmarks/race_under_load.py`` shows what it gives."""

    block_s: float = 2.5e-5
    """Calls that are shorter are looped to fill a block. Longer blocks meet the scheduler,"""
    own_share: float = 0.05
    """and in shorter ones than this the clock's own time, which varies, would weigh too much."""
    prime_s: float = 2e-4
    """Before shorter calls one is made off the clock: it finds the caches cold."""
    making_s: float = 3e-4
    """What making the inputs of one block may take; a block is cut to fit."""
    long_s: float = 5e-3
    """What the block of a slow contender may take before all make fewer calls."""
    rounds: int = 200
    """Rounds before the first look."""
    narrow: float = 0.03
    """Relative width of the interval at which a decided race ends."""
    settle_s: float = 1.2
    """When a decided race ends in any case."""
    time_s: float = 3.0
    """When to stop though nothing is decided; waiting for a CPU does not count."""
    patience_s: float = 15.0
    """When to stop in any case."""
    guest_rounds: int = 50
    """Rounds of a contender that the verdict does not need,"""
    guest_s: float = 0.5
    """or as many as fit into this time,"""
    guest_fewest: int = 3
    """but so many in any case: the middle of one or two would be an odd one now and then."""
    error: float = 0.01
    """Chance that the interval, over all looks, misses the true median."""
    check: float = 0.25
    """Chance that a block of the candidate is verified, and the share of time it may take."""


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
    """Seconds a call of one cell, an entry for each round that counts for its contender."""

    name: str
    loops: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Block:
    seconds: float
    making_s: float
    results: list[Any]
    clean: bool


@dataclass(frozen=True)
class _Pending:
    cell: Cell
    number: int
    result: Any


class Rounds:
    """Runs rounds of ``cells`` and keeps their times.

    A contender that is not ``needed`` sits out once it had its share. ``verify(contender, result,
    arguments)`` raises where a result is wrong; the arguments are made anew, so they are as they
    were before the call. ``chance`` draws the orders, and the results to verify.
    ``during(contender)`` is a context in which that contender runs, entered off the clock.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        needed: Sequence[str],
        verify: Verify,
        plan: Plan,
        watch: Stopwatch,
        chance: random.Random,
        during: During,
    ) -> None:
        self.cells, self.needed = cells, needed
        self.plan, self.watch, self.chance = plan, watch, chance
        self.played = self.checked = 0
        self.own_s = 0.0
        self._block_s = max(plan.block_s, watch.own_s / plan.own_share)
        self._verify, self._during = verify, during
        self._loops: dict[int, int] = {}
        self._primed: set[int] = set()
        self._seconds: dict[str, list[float]] = {cell.name: [] for cell in cells}
        self._clean: dict[str, list[bool]] = {cell.name: [] for cell in cells}
        self._spent = dict.fromkeys((cell.contender for cell in cells), 0.0)
        self._checking_s = 0.0
        self._pending: list[_Pending] = []
        self._number = 0

    @property
    def contenders(self) -> tuple[str, ...]:
        return tuple(self._spent)

    @property
    def laps(self) -> tuple[Lap, ...]:
        return tuple(
            Lap(
                cell.name,
                self._loops[cell.size],
                tuple(self._seconds[cell.name][i] for i in self._counted(cell.contender)),
            )
            for cell in self.cells
            if cell.contender != TRANSPORT
        )

    def times(self, who: str) -> list[dict[str, list[float]]]:
        """For each round that counts for ``who``, the times of each contender that is needed."""
        each: list[dict[str, list[float]]] = []
        for i in self._counted(who):
            times: dict[str, list[float]] = {}
            for cell in self._cells_for(who):
                times.setdefault(cell.contender, []).append(self._seconds[cell.name][i])
            each.append(times)
        return each

    def _counted(self, who: str) -> Sequence[int]:
        """The rounds that count for a contender.

        A block during which another process had the CPU says little: it ends on cold caches. So
        only rounds without one count, unless calls are so long that there are few of these.
        """
        names = [cell.name for cell in self._cells_for(who)]
        rounds = range(min(len(self._seconds[name]) for name in names))
        clean = [i for i in rounds if all(self._clean[name][i] for name in names)]
        return clean if len(clean) >= max(FEWEST_CLEAN, CLEAN_SHARE * len(rounds)) else rounds

    def _cells_for(self, who: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.contender in {*self.needed, who}]

    def warm_up(self) -> None:
        """Run and verify each cell, the candidate's first; then find the length of a block.

        Contenders of one size make the same number of calls, with the same inputs: the first call
        of a block is the slowest, and would otherwise weigh more for one than for another.
        """
        costs: dict[int, list[tuple[float, float]]] = {}
        for cell in sorted(self.cells, key=lambda cell: cell.contender != CANDIDATE):
            block = self._block(cell, 1)
            self._check(_Pending(cell, self._number, block.results[0]))
            self._number += 1
            short = block.seconds < self.plan.long_s
            cost = self._cost(cell) if short else (block.seconds, block.making_s)
            costs.setdefault(cell.size, []).append(cost)
        for size, each in costs.items():
            self._fit(size, each)

    def play(self) -> None:
        """One round."""
        start = self.watch.start()
        playing = [cell for cell in self.cells if self._plays(cell)]
        self.chance.shuffle(playing)
        blocks: list[tuple[Cell, _Block]] = []
        for cell in playing:
            loops = self._loops[cell.size]
            block = self._block(cell, loops, primed=cell.size in self._primed)
            self._seconds[cell.name].append(max(block.seconds, TICK_S) / loops)
            self._clean[cell.name].append(block.clean)
            blocks.append((cell, block))
        for cell, block in blocks:  # a check between two blocks would slow down the second
            if cell.contender == CANDIDATE:
                self._maybe_check(cell, block.results)
        self.played += 1
        self._number += max(self._loops.values()) + 1
        gc.collect(0)
        self.own_s += self.watch.since(start)

    def verify_pending(self) -> None:
        while self._pending:
            self._check(self._pending.pop())

    def _plays(self, cell: Cell) -> bool:
        if cell.contender in self.needed or self.played < self.plan.guest_fewest:
            return True
        in_time = self._spent[cell.contender] <= self.plan.guest_s
        return in_time and self.played < self.plan.guest_rounds

    def _block(self, cell: Cell, loops: int, *, primed: bool = False) -> _Block:
        """So many calls of a cell, after one off the clock where it is to be ``primed``."""
        watch, call = self.watch, cell.call
        before = watch.wall()
        inputs = [cell.make(self._number + i) for i in range(loops)]
        making_s = watch.wall() - before
        primer = [cell.make(self._number + loops)] if primed else []
        results: list[Any] = []
        keep = results.append
        with self._during(cell.contender):
            entered = watch.start()
            for arguments in primer:
                call(*arguments)
            start = watch.start()
            for arguments in inputs:
                keep(call(*arguments))
            seconds = watch.since(start)
            clean = not watch.interrupted_since(entered)
        self._spent[cell.contender] += watch.wall() - before
        return _Block(seconds, making_s, results, clean)

    def _cost(self, cell: Cell) -> tuple[float, float]:
        """Seconds of a call and of making its inputs: the least of three short blocks."""
        plan, loops = self.plan, 1
        while True:
            blocks = []
            for _ in range(3):
                blocks.append(self._block(cell, loops))
                self._number += loops
            seconds = min(block.seconds for block in blocks)
            making_s = min(block.making_s for block in blocks)
            filled = seconds > self._block_s / 4 or making_s > plan.making_s / 4
            if filled or loops >= MOST_LOOPS:
                return seconds / loops, making_s / loops
            loops *= 4

    def _fit(self, size: int, costs: Sequence[tuple[float, float]]) -> None:
        """Calls that fill a block of the fastest contender, if the others' are not too long."""
        plan = self.plan
        seconds, making_s = (
            [max(time, TICK_S) for time in times] for times in zip(*costs, strict=True)
        )
        most = min(plan.long_s / max(seconds), plan.making_s / max(making_s))
        self._loops[size] = max(1, int(min(round(self._block_s / min(seconds)), most)))
        if min(seconds) < plan.prime_s:
            self._primed.add(size)

    def _maybe_check(self, cell: Cell, results: list[Any]) -> None:
        """Verify a result of the first block, and of others by chance; at once or rounds later.

        A result that waits is spoilt by a buffer that is used again; one that does not wait, by
        work that goes on after the answer.
        """
        first = self.played == 0
        affordable = self._checking_s <= self.plan.check * self._spent[CANDIDATE]
        if not first and not (affordable and self.chance.random() < self.plan.check):
            return
        index = self.chance.randrange(len(results))
        self._pending.append(_Pending(cell, self._number + index, results[index]))
        if first or self.chance.random() < 0.5:
            self._check(self._pending.pop())
        elif len(self._pending) > PENDING:
            self.verify_pending()

    def _check(self, pending: _Pending) -> None:
        cell, before = pending.cell, self.watch.wall()
        arguments = cell.make(pending.number)
        with self._during(cell.contender):
            self._verify(cell.contender, pending.result, arguments)
        self.checked += cell.contender == CANDIDATE
        self._checking_s += self.watch.wall() - before
