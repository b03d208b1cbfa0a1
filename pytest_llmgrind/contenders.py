"""Who takes part in a budget: one function of an implementation, run with each of them.

Whose fault an error is, is settled here: what the reference, the baseline or the test itself do
wrong is never laid at the learner's door.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _pytest.outcomes import Failed

from pytest_llmgrind import check, plain
from pytest_llmgrind.arrays import describe
from pytest_llmgrind.estimate import slope
from pytest_llmgrind.rounds import CANDIDATE, TRANSPORT, Cell, Plan
from pytest_llmgrind.solution import ChallengeBroken
from pytest_llmgrind.stopwatch import Stopwatch

CARRIER = "_llmgrind_carrier"
PEAKS = 2
"""Calls of which the smallest peak counts: now and then a call fills a cache of Python's."""

Arguments = tuple[Any, ...]
Run = Callable[..., Any]
Inputs = Callable[..., Arguments]
Verify = Callable[..., object]


@dataclass(frozen=True)
class Contenders:
    """What is measured, with whom, and with which arguments.

    ``run(implementation, *arguments)`` is called with each of ``implementations``,
    ``inputs(rng)`` or ``inputs(rng, size)`` makes the arguments of a call, and
    ``verify(result, *arguments)`` raises where a result is wrong.
    """

    implementations: Mapping[str, Any]
    run: Run
    inputs: Inputs
    verify: Verify
    seed: Sequence[int]

    def make(self, number: int, size: int = 0) -> Arguments:
        """The arguments of one call: equal for equal numbers, in objects that nobody else has."""
        rng = np.random.default_rng([number, size, *self.seed])
        try:
            arguments = self.inputs(rng, size) if size else self.inputs(rng)
        except Exception as error:
            raise ChallengeBroken(f"inputs raised {_told(error)}") from None
        if not isinstance(arguments, tuple):
            kind = plain.an(type(arguments).__name__)
            raise ChallengeBroken(f"inputs returned {kind}, wanted a tuple of arguments")
        return arguments

    def call(self, who: str, arguments: Arguments) -> Any:
        with self.blamed(who):
            return self.run(self.implementations[who], *arguments)

    def check(self, who: str, result: Any, arguments: Arguments) -> None:
        """Verify a result; ``arguments`` are as they were before the call."""
        if who == TRANSPORT:  # which computes nothing
            return
        with self.blamed(who):
            self.verify(result, *arguments)

    @contextlib.contextmanager
    def blamed(self, who: str) -> Iterator[None]:
        """An error of the candidate passes; one of the others is its author's."""
        try:
            yield
        except (Exception, Failed) as error:
            if who == CANDIDATE or isinstance(error, ChallengeBroken):
                raise
            raise ChallengeBroken(f"the {who} fails its budget's test: {_told(error)}") from None

    def run_once(self, size: int = 0) -> None:
        """Each of them once: does it run, and is it right?"""
        for who in self.implementations:
            result = self.call(who, self.make(0, size))
            self.check(who, result, self.make(0, size))

    def cells(self, sizes: Sequence[int] = (0,)) -> list[Cell]:
        """A cell to time for each of them, at each size."""
        return [
            Cell(
                contender=who,
                call=functools.partial(self.run, implementation),
                make=functools.partial(self.make, size=size),
                size=size,
            )
            for who, implementation in self.implementations.items()
            for size in sizes
        ] + [self._transport(size) for size in sizes if self.carriers]

    @functools.cached_property
    def carriers(self) -> dict[str, Any]:
        """Of contenders that run in processes of their own (``--graded``)."""
        each = self.implementations.items()
        return {who: getattr(module, CARRIER) for who, module in each if hasattr(module, CARRIER)}

    def watch(self) -> Stopwatch:
        """The clock for calls of the contenders."""
        if not self.carriers:
            return Stopwatch()
        from pytest_llmgrind.graded import timing

        return timing.stopwatch(self.carriers)

    def plan(self) -> Plan:
        """How long to measure."""
        if not self.carriers:
            return Plan()
        from pytest_llmgrind.graded import timing

        return timing.PLAN

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        """Around a race: what keeps the clocks comparable."""
        if not self.carriers:
            return contextlib.nullcontext()
        from pytest_llmgrind.graded import timing

        return timing.on_one_core(self.carriers)

    def _transport(self, size: int) -> Cell:
        from pytest_llmgrind.graded import timing

        make = functools.partial(self.make, size=size)
        return timing.transport(self.carriers, self.implementations, self.run, make, size)

    def counts(self, size: int = 0) -> dict[str, int]:
        """The whole number that ``run`` returns, of each of them."""
        numbers = {who: self.call(who, self.make(0, size)) for who in self.implementations}
        return {who: self._whole(who, numbers[who], size) for who in reversed(numbers)}

    def exponents(self, sizes: Sequence[int]) -> dict[str, float]:
        """Of the counts in the size; none counts as one, since a logarithm needs more than 0."""
        each = [self.counts(size) for size in sizes]
        return {who: slope(sizes, [max(1, counts[who]) for counts in each]) for who in each[0]}

    def _whole(self, who: str, number: Any, size: int) -> int:
        with self.blamed(who):
            whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
            check.that(whole, saw=f"the count is {describe(number)}, wanted an int")
        self.check(who, int(number), self.make(0, size))
        return int(number)

    def peaks(self) -> dict[str, int]:
        """Bytes of traced memory at the worst moment of one call, beside its arguments."""
        self.run_once()
        return {
            who: min(self._peak(who, number) for number in range(1, PEAKS + 1))
            for who in self.implementations
        }

    def _peak(self, who: str, number: int) -> int:
        arguments = self.make(number)
        metered = self.carriers[who].metered if who in self.carriers else _metered
        with metered() as most:
            result = self.call(who, arguments)
        self.check(who, result, self.make(number))
        return int(most[0])


@contextlib.contextmanager
def _metered() -> Iterator[list[int]]:
    """The peak of what is allocated inside, put into the list at the end."""
    found: list[int] = []
    gc.collect()
    with _traced():
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        yield found
        _, most = tracemalloc.get_traced_memory()
    found.append(most - before)


@contextlib.contextmanager
def _traced() -> Iterator[None]:
    """Trace memory for a while, or go on with a trace that is there already."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _told(error: BaseException) -> str:
    """An exception in words; of an AssertionError no text, pytest writes both sides into it."""
    return "AssertionError" if isinstance(error, AssertionError) else plain.text_of(error)
