"""One leaderboard over all entrants and challenges, as values.

Ranked by rules kept over all challenges, then budgets met, then how much of the limits is used:
the same order as on the board of one challenge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_llmgrind import spec, standing
from pytest_llmgrind.cohort.ledger import Record, Test
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.report.result import PASSED
from pytest_llmgrind.standing import Entry, Outside

SCHEMA = "llmgrind-cohort-board/1"
BESIDE = {PASSED, "skipped", "no hardware"}
"""Verdicts that take nothing from a rule or a stage of which another test has passed."""

MEASURED = {PASSED, "over budget"}


@dataclass(frozen=True, kw_only=True)
class Course:
    """A challenge, and how much there is to reach in it."""

    id: str
    title: str
    version: int
    rules: int
    stages: int
    budgets: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an entrant reached in one challenge; None where there is no result."""

    kept: int | None = None
    stages: int | None = None
    budgets: int | None = None
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entrant: its entry over all challenges, and its parts by challenge."""

    entry: Entry
    parts: Mapping[str, Part]


@dataclass(frozen=True, kw_only=True)
class CohortBoard:
    """Everyone, best first. ``sandboxes`` are the walls that stood around solutions."""

    courses: tuple[Course, ...]
    rows: tuple[Row, ...]
    sandboxes: tuple[str, ...] = ()

    @property
    def rules(self) -> int:
        return sum(course.rules for course in self.courses)

    @property
    def stages(self) -> int:
        return sum(course.stages for course in self.courses)

    @property
    def budgets(self) -> int:
        return sum(course.budgets for course in self.courses)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "sandboxes": list(self.sandboxes),
            "challenges": [asdict(course) for course in self.courses],
            "entrants": [
                {
                    "rank": row.entry.rank,
                    "name": row.entry.name,
                    "rules": row.entry.kept,
                    "stages": row.entry.stages,
                    "budgets": row.entry.met,
                    "share": row.entry.share,
                    "figures": dict(row.entry.figures),
                    "challenges": {id: asdict(part) for id, part in row.parts.items()},
                }
                for row in self.rows
            ],
        }


def build(manifests: Sequence[Manifest], records: Iterable[Record]) -> CohortBoard:
    """The board of all records; a challenge without one counts as nothing reached."""
    known = {manifest.id: manifest for manifest in manifests}
    by_name: dict[str, dict[str, Record]] = {}
    every = list(records)
    for record in every:
        by_name.setdefault(record.entrant, {})[record.challenge] = record
    limits = {f"{m.id}/{b.name}": b.limit for m in manifests for b in m.budgets}
    parts = {
        name: {id: part(record, known[id]) for id, record in its.items()}
        for name, its in by_name.items()
    }
    entries = standing.among(
        [_outside(name, its, parts[name]) for name, its in by_name.items()], limits
    )
    walls = {record.result.sandbox for record in every if record.result is not None}
    return CohortBoard(
        courses=tuple(map(_course, manifests)),
        rows=tuple(Row(entry=entry, parts=parts[entry.name]) for entry in entries),
        sandboxes=tuple(sorted(walls)),
    )


def part(record: Record, manifest: Manifest) -> Part:
    if record.result is None:
        return Part(reason=record.reason, seconds=record.seconds)
    tests = record.result.challenges[0].tests
    limits = {budget.test: budget.limit for budget in manifest.budgets}
    return Part(
        kept=sum(_holds([t for t in tests if t.rule == rule.id]) for rule in _rules(manifest)),
        stages=sum(_holds([t for t in tests if t.stage == s.name]) for s in manifest.stages),
        budgets=sum(_meets(test, limits[test.name]) for test in tests if test.name in limits),
        reason=record.reason,
        seconds=record.seconds,
    )


def _course(manifest: Manifest) -> Course:
    return Course(
        id=manifest.id,
        title=manifest.title,
        version=manifest.version,
        rules=len(_rules(manifest)),
        stages=len(manifest.stages),
        budgets=len(manifest.budgets),
    )


def _rules(manifest: Manifest) -> Sequence[spec.Rule]:
    return spec.load(manifest.spec).rules


def _holds(tests: Sequence[Test]) -> bool:
    """One has passed, and none stands against it."""
    states = {test.verdict for test in tests}
    return PASSED in states and states <= BESIDE


def _meets(test: Test, limit: float) -> bool:
    figure = test.budget.figure if test.budget is not None else None
    return test.verdict == PASSED and figure is not None and figure <= limit


def _outside(name: str, records: Mapping[str, Record], parts: Mapping[str, Part]) -> Outside:
    """All challenges of an entrant as one; only figures of right answers count."""
    kept = [p.kept for p in parts.values() if p.kept is not None]
    stages = [p.stages for p in parts.values() if p.stages is not None]
    found = {
        f"{id}/{test.budget.name}": test.budget
        for id, record in records.items()
        if record.result is not None
        for test in record.result.challenges[0].tests
        if test.budget is not None and test.verdict in MEASURED
    }
    reasons = [f"{id}: {p.reason}" for id, p in parts.items() if p.reason]
    return Outside(
        name=name,
        challenge="",
        kept=sum(kept) if kept else None,
        stages=sum(stages) if stages else None,
        figures={budget: each.figure for budget, each in found.items()},
        reference={budget: each.reference for budget, each in found.items()},
        reason="; ".join(reasons),
    )
