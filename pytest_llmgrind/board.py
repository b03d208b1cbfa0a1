"""What a session found out about each challenge, as values. Knows nothing about pytest.

``build`` turns the results of graded tests (``Grading.results``) and the manifests into a
``Board``; ``report`` renders it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import advice, standing
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import spec as specs
from pytest_llmgrind.advice import Step
from pytest_llmgrind.manifest import Budget, Manifest, ManifestError, Stage
from pytest_llmgrind.practice import Practice
from pytest_llmgrind.standing import Entry, Outside, Run
from pytest_llmgrind.verdicts import (
    NOT_RUN,
    WORDS,
    Result,
    Verdict,
    by_challenge,
    is_in_play,
    verdicts,
)

BREAKS = {"failed", "timed out", "over budget"}
SAYS_WHY = ("timed out", "no hardware", "skipped")


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage: ``passed`` of ``total`` tests, one word for all of it, reasons for skips."""

    number: int
    name: str
    title: str
    passed: int
    total: int
    skipped: int
    not_run: int
    word: str
    reasons: tuple[str, ...] = ()

    @property
    def is_green(self) -> bool:
        """All that could run here has passed, and something could."""
        return self.word == "ok"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Ids of rules: all tests passed; one failed; one is not written; not shown by this run."""

    kept: tuple[str, ...]
    broken: tuple[str, ...]
    todo: tuple[str, ...]
    untested: tuple[str, ...]
    total: int


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """A limit and the figures against it.

    ``verdict`` is the budget's own, or the word of its test where nothing was measured. ``was``
    is the figure of the run that ``--benchmark-compare`` named.
    """

    name: str
    stage: str
    kind: str
    what: str
    unit: str
    limit: float
    figure: float | None
    low: float | None
    high: float | None
    reference: float | None
    baseline: float | None
    verdict: str
    met: bool
    was: float | None


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something that solution code did around itself, and in how many tests."""

    text: str
    tests: int


@dataclass(frozen=True, kw_only=True)
class ChallengeBoard:
    """Everything about one challenge in play."""

    id: str
    title: str
    version: int
    solution: str
    is_stub: bool
    stages: tuple[StageRow, ...]
    rules: Rules
    budgets: tuple[BudgetRow, ...]
    notes: tuple[Note, ...]
    standing: tuple[Entry, ...]
    next: Step
    practice: Practice | None = None
    """None where the run is not practice: see ``record``."""

    @property
    def is_green(self) -> bool:
        return self.next.kind == "done"

    @property
    def is_begun(self) -> bool:
        return self.next.kind != "start"


@dataclass(frozen=True, kw_only=True)
class Board:
    """The challenges in play, the ids of those that nobody began, and remarks of one line each.

    ``due`` are the ids of challenges to solve again, the longest due first.
    """

    challenges: tuple[ChallengeBoard, ...] = ()
    not_begun: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.challenges or self.not_begun or self.remarks)


def build(
    results: Sequence[Result],
    *,
    start: Path,
    before: Mapping[str, float] | None = None,
    outside: Sequence[Outside] = (),
    remarks: Iterable[str] = (),
) -> Board:
    """The board of a session.

    ``start`` is the directory that paths are shown from, ``before`` maps node ids to the figures
    of an earlier run, ``outside`` holds what other entrants reached.
    """
    boards, idle, broken = [], [], []
    for root, its in by_challenge(results).items():
        if not is_in_play(its):
            idle.append(root.name)
            continue
        try:
            manifest = manifests.load(root)
        except ManifestError as error:
            broken.append(str(error))
            continue
        others = [other for other in outside if other.challenge == root.name]
        boards.append(_challenge(manifest, its, others, start=start, before=before or {}))
    return Board(challenges=tuple(boards), not_begun=tuple(idle), remarks=(*broken, *remarks))


def _challenge(
    manifest: Manifest,
    results: Sequence[Result],
    outside: Sequence[Outside],
    *,
    start: Path,
    before: Mapping[str, float],
) -> ChallengeBoard:
    by_stage = verdicts(manifest, results)
    tests = [test for stage in by_stage.values() for test in stage]
    stages = tuple(_stage(manifest, stage, by_stage[stage.name]) for stage in manifest.stages)
    rules = _rules(manifest, tests)
    budgets = tuple(_budgets(manifest, tests, before))
    # A test whose worker died knows nothing of the solution.
    first = next((result for result in results if result["solution"]), results[0])
    is_stub, path = first["is_stub"], manifest.spec
    spec = str(path.relative_to(start) if path.is_relative_to(start) else path)
    return ChallengeBoard(
        id=manifest.id,
        title=manifest.title,
        version=manifest.version,
        solution=first["solution"],
        is_stub=is_stub,
        stages=stages,
        rules=rules,
        budgets=budgets,
        notes=_notes(results),
        standing=standing.of(_you(stages, rules, budgets), outside),
        next=advice.step(manifest, by_stage, spec, is_stub=is_stub),
    )


def _stage(manifest: Manifest, stage: Stage, tests: Sequence[Verdict]) -> StageRow:
    states = [test.state for test in tests]
    worst = min(tests, key=lambda test: test.severity, default=None)
    reasons = [test.saw.split("\n")[0] for test in tests if test.state in SAYS_WHY]
    return StageRow(
        number=manifest.stage_number(stage),
        name=stage.name,
        title=stage.title,
        passed=states.count("passed"),
        total=len(states),
        skipped=states.count("skipped"),
        not_run=states.count(NOT_RUN),
        word=worst.word if worst else WORDS[NOT_RUN],
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _rules(manifest: Manifest, tests: Sequence[Verdict]) -> Rules:
    states: dict[str, set[str]] = {rule.id: set() for rule in specs.load(manifest.spec).rules}
    for test in tests:
        if test.rule:
            states.setdefault(test.rule, set()).add(test.state)
    lists: dict[str, list[str]] = {"kept": [], "broken": [], "todo": [], "untested": []}
    for rule, seen in states.items():
        lists[_kind(seen)].append(rule)
    return Rules(**{kind: tuple(ids) for kind, ids in lists.items()}, total=len(states))


def _kind(states: set[str]) -> str:
    if states & BREAKS:
        return "broken"
    if "todo" in states:
        return "todo"
    return "kept" if "passed" in states and states <= {"passed", "skipped"} else "untested"


def _budgets(
    manifest: Manifest, tests: Sequence[Verdict], before: Mapping[str, float]
) -> Iterator[BudgetRow]:
    by_name = {test.name: test for test in tests}
    for budget in manifest.budgets:
        test = by_name.get(budget.test) or Verdict(name=budget.test, rule="", state=NOT_RUN)
        yield _budget(budget, test, before.get(test.nodeid))


def _budget(budget: Budget, test: Verdict, was: float | None) -> BudgetRow:
    seen = test.budget or {}
    figure = seen.get("figure")
    return BudgetRow(
        name=budget.name,
        stage=budget.stage,
        kind=budget.kind,
        what=budget.what,
        unit=budget.unit,
        limit=budget.limit,
        figure=figure,
        low=seen.get("low"),
        high=seen.get("high"),
        reference=seen.get("reference"),
        baseline=seen.get("baseline"),
        verdict=str(seen.get("verdict") or test.word),
        met=test.state == "passed" and figure is not None and figure <= budget.limit,
        was=was,
    )


def _notes(results: Sequence[Result]) -> tuple[Note, ...]:
    tests: dict[str, set[str]] = {}
    for result in results:
        for text in result["notes"]:
            tests.setdefault(text, set()).add(result["nodeid"])
    return tuple(Note(text=text, tests=len(seen)) for text, seen in tests.items())


def _you(stages: Sequence[StageRow], rules: Rules, budgets: Sequence[BudgetRow]) -> Run:
    return Run(
        kept=len(rules.kept),
        rules=rules.total,
        green=sum(stage.is_green for stage in stages),
        stages=len(stages),
        limits={row.name: row.limit for row in budgets},
        figures={row.name: row.figure for row in budgets},
        reference={row.name: row.reference for row in budgets},
        baseline={row.name: row.baseline for row in budgets},
    )
