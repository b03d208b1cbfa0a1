"""What hidden tests measure: ``race``, ``scaling``, ``peak`` and ``count``, against the manifest.

Each fixture takes a function of an implementation, runs it with the solution, the reference and,
where there is one, the baseline, and puts one record of builtins on the test (``MEASURED``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
from _pytest.outcomes import Failed

from pytest_llmgrind import plain
from pytest_llmgrind import race as timing
from pytest_llmgrind.collect import Stage
from pytest_llmgrind.contenders import Contenders, Inputs, Run, Verify
from pytest_llmgrind.estimate import MET, OVER
from pytest_llmgrind.manifest import TIMED, Budget
from pytest_llmgrind.rounds import BASELINE, CANDIDATE, Lap, Plan
from pytest_llmgrind.seeds import generator
from pytest_llmgrind.solution import ChallengeBroken

MEASURED = pytest.StashKey[dict[str, Any]]()
ASKED = pytest.StashKey[str]()
REFERENCE = "reference"
NOT_MEASURED = "not measured"


class OverBudget(Failed):
    """Right, and too slow, too big or too chatty; ``saw`` says by how much.

    ``figure`` stays in this process: None for what was timed, which is never twice the same.
    """

    def __init__(self, saw: str, *, figure: float | None = None) -> None:
        super().__init__(saw, pytrace=False)
        self.saw = saw
        self.figure = figure


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The figures of all contenders; the candidate's lies between ``low`` and ``high``."""

    figures: dict[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    verdict: str = NOT_MEASURED
    laps: tuple[Lap, ...] = ()


# -- the fixtures ---------------------------------------------------------------------------


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Time over the baseline's, interleaved: ``race(run, inputs=, verify=)``."""
    test = _Test(request, "race")

    def measure(run: Run, *, inputs: Inputs | None = None, verify: Verify | None = None) -> None:
        contenders = test.contenders(run, test.given(inputs=inputs), test.given(verify=verify))
        if BASELINE not in contenders.implementations:
            raise ChallengeBroken("race: there is no hidden/baseline.py to race against")
        test.judge(contenders, lambda: _timed(test.budget, contenders, timing.race))

    return measure


@pytest.fixture
def scaling(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Exponent of time, or of a count, in the size: ``scaling(run, sizes=, inputs=, verify=)``."""
    test = _Test(request, "scaling")

    def measure(
        run: Run,
        *,
        sizes: Sequence[int],
        inputs: Inputs | None = None,
        verify: Verify | None = None,
        of: str = "time",
    ) -> None:
        if len(set(sizes)) < 3 or min(sizes) < 1:
            raise ChallengeBroken(f"scaling: wanted three sizes above 0 or more, got {sizes}")
        if of not in ("time", "count"):
            raise ChallengeBroken(f"scaling: wanted of='time' or of='count', got {of!r}")
        sizes = sorted(set(sizes))
        checked = test.given(verify=verify) if of == "time" else verify
        contenders = test.contenders(run, test.given(inputs=inputs), checked)

        def measured() -> Measurement:
            if of == "count":
                return _exact(test.budget, contenders.exponents(sizes))
            return _timed(test.budget, contenders, timing.scaling, sizes)

        test.judge(contenders, measured, sizes[0])

    return measure


@pytest.fixture
def peak(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Bytes at the worst moment of one call: ``peak(run, inputs=, verify=)``."""
    test = _Test(request, "peak")

    def measure(run: Run, *, inputs: Inputs = _nothing, verify: Verify | None = None) -> None:
        contenders = test.contenders(run, inputs, test.given(verify=verify))
        test.judge(contenders, lambda: _exact(test.budget, contenders.peaks()))

    return measure


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A number that ``run`` returns: ``count(run, inputs=, verify=)``."""
    test = _Test(request, "count")

    def measure(run: Run, *, inputs: Inputs = _nothing, verify: Verify | None = None) -> None:
        contenders = test.contenders(run, inputs, verify)
        test.judge(contenders, lambda: _exact(test.budget, contenders.counts()))

    return measure


@dataclass(frozen=True)
class _Test:
    """A test that asks for one of the four, and its budget."""

    request: pytest.FixtureRequest
    kind: str

    def __post_init__(self) -> None:
        """The test has to measure once from now on."""
        plugins, stash = self.request.config.pluginmanager, self.request.node.stash
        if not plugins.hasplugin("llmgrind-measures"):
            plugins.register(_Measures(), "llmgrind-measures")
        stash[ASKED] = self.kind
        if MEASURED in stash:  # the test runs again
            del stash[MEASURED]

    @cached_property
    def budget(self) -> Budget:
        return _budget_of(self.request.node, self.kind)

    def contenders(self, run: Run, inputs: Inputs, verify: Verify | None) -> Contenders:
        test = self.budget.test
        if MEASURED in self.request.node.stash:
            raise ChallengeBroken(f"{test} measures twice; a budget is measured once")
        implementations = {
            CANDIDATE: self.request.getfixturevalue("solution"),
            REFERENCE: self.request.getfixturevalue("reference"),
        }
        stage = self.request.node.getparent(Stage)
        if stage is not None and stage.challenge.baseline.is_file():
            implementations[BASELINE] = self._baseline()
        seed = generator(self.request.node.nodeid).integers(0, 2**32, 4).tolist()
        return Contenders(implementations, run, inputs, verify or _nothing, seed)

    def _baseline(self) -> Any:
        try:
            return self.request.getfixturevalue("baseline")
        except Exception as error:
            text = plain.text_of(error)
            raise ChallengeBroken(f"hidden/baseline.py does not load: {text}") from None

    def given(self, **argument: Any) -> Any:
        """An argument without which calls would be timed that nobody checks."""
        ((name, value),) = argument.items()
        if value is None:
            raise ChallengeBroken(f"{self.budget.test}: {self.kind} needs {name}=")
        return value

    def judge(
        self, contenders: Contenders, measured: Callable[[], Measurement], size: int = 0
    ) -> None:
        """Put the record of ``measured()`` on the test; raise where it is over the limit."""
        from pytest_llmgrind.bench_bridge import measuring  # it needs MEASURED from here

        if measuring(self.request.config):
            found = measured()
        else:
            contenders.run_once(size)
            found = Measurement()
        self.request.node.stash[MEASURED] = _record(self.budget, found)
        if found.verdict == OVER:
            figure = None if found.laps else found.figures[CANDIDATE]
            raise OverBudget(_sentence(self.budget, found), figure=figure)


class _Measures:
    """A test that asks for a measure uses it, or its budget would be met by doing nothing."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[None]:
        result = yield
        kind = pyfuncitem.stash.get(ASKED, None)
        if kind is not None and MEASURED not in pyfuncitem.stash:
            budget = _budget_of(pyfuncitem, kind)
            raise ChallengeBroken(f"{budget.test} takes {kind} and does not call it")
        return result


def _budget_of(item: pytest.Function, kind: str) -> Budget:
    """The budget that a test is named after; what is wrong with it is its author's to mend."""
    stage = item.getparent(Stage)
    if stage is None:
        raise ChallengeBroken(f"{kind} is for the hidden tests of a challenge")
    budget = stage.challenge.budget_of(item.originalname)
    if budget is None:
        name = item.originalname.removeprefix("test_")
        wanted = f'challenge.toml has no [[budget]] with name = "{name}"'
        raise ChallengeBroken(f"{item.originalname} takes {kind}, and {wanted}")
    if budget.kind != kind:
        raise ChallengeBroken(f"{budget.test} takes {kind}, challenge.toml says {budget.kind}")
    return budget


# -- measuring ------------------------------------------------------------------------------


def _timed(
    budget: Budget,
    contenders: Contenders,
    function: Callable[..., timing.Result],
    sizes: Sequence[int] = (0,),
) -> Measurement:
    with contenders.quiet():
        found = function(
            contenders.cells(sizes),
            limit=budget.limit,
            verify=contenders.check,
            during=contenders.blamed,
            watch=contenders.watch(),
            plan=contenders.plan(),
        )
    between = found.interval
    return Measurement(
        figures=found.figures,
        low=between.low,
        high=between.high,
        verdict=found.verdict,
        laps=found.laps,
    )


def _exact(budget: Budget, figures: dict[str, Any]) -> Measurement:
    figure = figures[CANDIDATE]
    verdict = MET if figure <= budget.limit else OVER
    return Measurement(figures=figures, low=figure, high=figure, verdict=verdict)


# -- words ----------------------------------------------------------------------------------


def _record(budget: Budget, found: Measurement) -> dict[str, Any]:
    """Builtins only: anything else on a report ends an xdist run."""
    figures = {who: float(figure) for who, figure in found.figures.items()}
    measured = CANDIDATE in figures
    return {
        "name": budget.name,
        "kind": budget.kind,
        "limit": float(budget.limit),
        "unit": budget.unit,
        "what": budget.what,
        "figure": figures.get(CANDIDATE),
        "low": float(found.low) if measured else None,
        "high": float(found.high) if measured else None,
        "reference": figures.get(REFERENCE),
        "baseline": figures.get(BASELINE),
        "verdict": found.verdict,
        "laps": [[lap.name, lap.loops, list(lap.seconds)] for lap in found.laps],
    }


def _sentence(budget: Budget, found: Measurement) -> str:
    places = _places(found.low, budget.limit) if budget.kind in TIMED else 0

    def text(value: float) -> str:
        unit = budget.unit if budget.unit in ("", "x") else f" {budget.unit}"
        return f"{value:,.{places}f}{unit}"

    saw = f"{budget.what}: {text(found.figures[CANDIDATE])}"
    if found.low != found.high:
        sure = f"{100 * (1 - Plan.error):g} %"
        saw += f" ({sure} interval {text(found.low)} to {text(found.high)})"
    return f"{saw}, the limit is {text(budget.limit)}"


def _places(low: float, limit: float) -> int:
    """Decimals: two, or as many as tell a figure from its limit."""
    places = 2
    while places < 6 and round(low, places) <= round(limit, places):
        places += 1
    return places


def _nothing(*_: Any) -> tuple[Any, ...]:
    return ()
