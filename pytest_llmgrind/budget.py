"""What hidden tests measure: ``race``, ``scaling``, ``peak`` and ``count``, against the manifest.

Each fixture takes a function of an implementation, runs it with the solution, the reference and,
where there is one, the baseline, and puts one record of builtins on the test (``MEASURED``).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from _pytest.outcomes import Failed

from pytest_llmgrind import race as timing
from pytest_llmgrind.collect import Stage
from pytest_llmgrind.estimate import MET, OVER, slope
from pytest_llmgrind.manifest import Budget
from pytest_llmgrind.race import BASELINE, CANDIDATE, Cell
from pytest_llmgrind.seeds import generator

MEASURED = pytest.StashKey[dict[str, Any]]()
REFERENCE = "reference"
NOT_MEASURED = "not measured"
PEAKS = 3
"""Calls whose smallest peak counts: the first may fill caches of the interpreter."""

Run = Callable[..., Any]
Inputs = Callable[..., tuple[Any, ...]]
Verify = Callable[..., None]


class OverBudget(Failed):
    """Right, and too slow, too big or too chatty; ``saw`` says by how much."""

    def __init__(self, saw: str) -> None:
        super().__init__(saw, pytrace=False)
        self.saw = saw


class NotTheLearner(Failed):
    """The test itself, the reference or the baseline is at fault."""

    def __init__(self, text: str) -> None:
        super().__init__(text, pytrace=False)


@dataclass(frozen=True)
class Measurement:
    """A figure with its interval, and those of the reference and the baseline beside it."""

    figure: float
    low: float
    high: float
    verdict: str
    others: dict[str, float]
    laps: tuple[timing.Lap, ...] = ()


@dataclass(frozen=True)
class Task:
    """What is measured: a function of an implementation, and fresh arguments for every call."""

    run: Run
    inputs: Inputs
    verify: Verify
    seed: tuple[int, ...]

    def make(self, number: int, size: int = 0) -> tuple[Any, ...]:
        """The arguments of one call: equal for equal numbers, in objects that nobody else has."""
        rng = np.random.default_rng([number, size, *self.seed])
        return tuple(self.inputs(rng, size) if size else self.inputs(rng))


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Time over the baseline's, interleaved: ``race(run, inputs=, verify=)``."""

    def measure(run: Run, *, inputs: Inputs = _nothing, verify: Verify = _any) -> None:
        _Meter(request, "race").measure(_race, run, inputs, verify)

    return measure


@pytest.fixture
def scaling(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Exponent of time, or of a count, in the size: ``scaling(run, sizes=, inputs=, verify=)``."""

    def measure(
        run: Run,
        *,
        sizes: Sequence[int],
        inputs: Inputs = _nothing,
        verify: Verify = _any,
        of: str = "time",
    ) -> None:
        if len(set(sizes)) < 3 or min(sizes) < 1 or of not in ("time", "count"):
            raise NotTheLearner("scaling: wanted three sizes or more, of='time' or of='count'")
        how = _scaling_of_time if of == "time" else _scaling_of_count
        _Meter(request, "scaling", tuple(sizes)).measure(how, run, inputs, verify)

    return measure


@pytest.fixture
def peak(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Bytes at the worst moment of one call: ``peak(run, inputs=, verify=)``."""

    def measure(run: Run, *, inputs: Inputs = _nothing, verify: Verify = _any) -> None:
        _Meter(request, "peak").measure(_peak, run, inputs, verify)

    return measure


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A number that ``run`` returns: ``count(run, inputs=, verify=)``."""

    def measure(run: Run, *, inputs: Inputs = _nothing, verify: Verify = _any) -> None:
        _Meter(request, "count").measure(_count, run, inputs, verify)

    return measure


class _Meter:
    """One measurement of one test: who takes part, what the limit is, what became of it."""

    def __init__(
        self, request: pytest.FixtureRequest, kind: str, sizes: tuple[int, ...] = ()
    ) -> None:
        self.item, self.sizes = request.node, sizes
        self.budget = _budget_of(self.item, kind)
        stage = self.item.getparent(Stage)
        names = [(CANDIDATE, "solution"), (REFERENCE, "reference")]
        if stage is not None and stage.challenge.baseline.is_file():
            names.append((BASELINE, "baseline"))
        self.implementations = {who: request.getfixturevalue(name) for who, name in names}
        if kind == "race" and BASELINE not in self.implementations:
            raise NotTheLearner("race: there is no hidden/baseline.py to race against")

    def measure(
        self, how: Callable[[_Meter, Task], Measurement], run: Run, inputs: Inputs, verify: Verify
    ) -> None:
        seed = generator(self.item.nodeid).integers(0, 2**32, 4).tolist()
        task = Task(run, inputs, verify, tuple(seed))
        if not _measuring(self.item.config):
            how = _run_once
        found = how(self, task)
        self.item.stash[MEASURED] = self._record(found)
        if found.verdict == OVER:
            raise OverBudget(_sentence(self.budget, found))

    def call(self, who: str, task: Task, arguments: tuple[Any, ...]) -> Any:
        """One call; a mistake of the reference or the baseline is not the learner's."""
        with self.as_(who):
            return task.run(self.implementations[who], *arguments)

    @contextlib.contextmanager
    def as_(self, who: str) -> Iterator[None]:
        try:
            yield
        except (Exception, Failed) as error:
            if who == CANDIDATE or isinstance(error, NotTheLearner):
                raise
            text = f"{type(error).__name__}: {error}"
            raise NotTheLearner(f"not your code: the {who} failed in this test: {text}") from None

    def cells(self, task: Task) -> list[Cell]:
        """A cell for each contender and size."""
        return [
            Cell(
                contender=who,
                call=functools.partial(task.run, impl),
                make=functools.partial(task.make, size=size),
                size=size,
            )
            for who, impl in self.implementations.items()
            for size in self.sizes or (0,)
        ]

    def timed(self, function: Callable[..., timing.Result], task: Task) -> Measurement:
        found = function(
            self.cells(task),
            limit=self.budget.limit,
            verify=lambda who, result, arguments: task.verify(result, *arguments),
            during=self.as_,
        )
        interval = found.interval
        return Measurement(
            found.figure, interval.low, interval.high, found.verdict, found.figures, found.laps
        )

    def exact(self, figures: dict[str, float]) -> Measurement:
        figure = figures[CANDIDATE]
        verdict = MET if figure <= self.budget.limit else OVER
        return Measurement(figure, figure, figure, verdict, figures)

    def _record(self, found: Measurement) -> dict[str, Any]:
        measured = found.verdict != NOT_MEASURED
        budget = self.budget
        return {
            "name": budget.name,
            "kind": budget.kind,
            "limit": float(budget.limit),
            "unit": budget.unit,
            "what": budget.what,
            "figure": float(found.figure) if measured else None,
            "low": float(found.low) if measured else None,
            "high": float(found.high) if measured else None,
            "reference": _float(found.others.get(REFERENCE)),
            "baseline": _float(found.others.get(BASELINE)),
            "verdict": found.verdict,
            "laps": [[lap.name, int(lap.loops), list(lap.seconds)] for lap in found.laps],
        }


# -- the four ways, and none ----------------------------------------------------------------


def _race(meter: _Meter, task: Task) -> Measurement:
    return meter.timed(timing.race, task)


def _scaling_of_time(meter: _Meter, task: Task) -> Measurement:
    return meter.timed(timing.scaling, task)


def _scaling_of_count(meter: _Meter, task: Task) -> Measurement:
    return meter.exact(
        {
            who: slope(
                meter.sizes,
                [max(1, _counted(meter, who, task, size)) for size in meter.sizes],
            )
            for who in meter.implementations
        }
    )


def _count(meter: _Meter, task: Task) -> Measurement:
    return meter.exact({who: _counted(meter, who, task) for who in meter.implementations})


def _peak(meter: _Meter, task: Task) -> Measurement:
    return meter.exact({who: _smallest_peak(meter, who, task) for who in meter.implementations})


def _run_once(meter: _Meter, task: Task) -> Measurement:
    """``--benchmark-disable``: does it run, and is it right?"""
    size = meter.sizes[0] if meter.sizes else 0
    for who in meter.implementations:
        result = meter.call(who, task, task.make(0, size))
        with meter.as_(who):
            task.verify(result, *task.make(0, size))
    return Measurement(0, 0, 0, NOT_MEASURED, {})


def _counted(meter: _Meter, who: str, task: Task, size: int = 0) -> int:
    number = meter.call(who, task, task.make(0, size))
    if isinstance(number, (bool, np.bool_)) or not isinstance(number, (int, np.integer)):
        kind = type(number).__name__
        raise NotTheLearner(f"count: the test returned a {kind}, wanted a whole number")
    with meter.as_(who):
        task.verify(int(number), *task.make(0, size))
    return int(number)


def _smallest_peak(meter: _Meter, who: str, task: Task) -> int:
    arguments = task.make(0)
    result = meter.call(who, task, arguments)
    with meter.as_(who):
        task.verify(result, *task.make(0))
    del result, arguments
    return min(_traced(meter, who, task, number) for number in range(1, PEAKS + 1))


def _traced(meter: _Meter, who: str, task: Task, number: int) -> int:
    arguments = task.make(number)
    ours = not tracemalloc.is_tracing()
    gc.collect()
    if ours:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        meter.call(who, task, arguments)
        _, highest = tracemalloc.get_traced_memory()
    finally:
        if ours:
            tracemalloc.stop()
    return highest - before


# -- words ----------------------------------------------------------------------------------


def _budget_of(item: pytest.Function, kind: str) -> Budget:
    """The budget that a test is named after; what is wrong with it is its author's to mend."""
    stage = item.getparent(Stage)
    if stage is None:
        raise NotTheLearner(f"{kind} is for the hidden tests of a challenge")
    budget = stage.challenge.budget_of(item.originalname)
    file = stage.challenge.file.name
    if budget is None:
        name = item.originalname.removeprefix("test_")
        raise NotTheLearner(f'{item.originalname}: {file} has no [[budget]] with name = "{name}"')
    if budget.kind != kind:
        raise NotTheLearner(f"{item.originalname} measures a {kind}, {file} says {budget.kind}")
    if MEASURED in item.stash:
        raise NotTheLearner(f"{item.originalname} measures twice; a test has one budget")
    return budget


def _sentence(budget: Budget, found: Measurement) -> str:
    saw = f"{budget.what}: {_figure(found.figure, budget)}"
    if found.low != found.high:
        between = f"{_figure(found.low, budget)} to {_figure(found.high, budget)}"
        saw += f" (99 % interval {between})"
    return f"{saw}, the limit is {_figure(budget.limit, budget)}"


def _figure(value: float, budget: Budget) -> str:
    if budget.kind in ("race", "scaling"):
        return f"{value:.3g}" if value < 0.1 else f"{value:.2f}"
    return f"{value:,.0f} {budget.unit}".rstrip()


def _measuring(config: pytest.Config) -> bool:
    from pytest_llmgrind.bench_bridge import measuring  # it needs MEASURED from here

    return measuring(config)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _nothing(*_: Any) -> tuple[Any, ...]:
    return ()


def _any(*_: Any) -> None:
    pass
