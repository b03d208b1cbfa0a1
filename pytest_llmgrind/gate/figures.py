"""Budgets are met by the reference with room and missed by the baseline; stages are quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any

from pytest_llmgrind.gate.finding import Finding, line_of
from pytest_llmgrind.gate.worker import Result, Run
from pytest_llmgrind.manifest import TIMED, Budget, Manifest

ROOM = {"scaling": (0.75, 1.25)}
HALF = (0.5, 1.5)
"""The share of the limit that a reference may take, and what a baseline has to take."""
LOOKS = 5
STAGE_S = 5.0
SLOWEST = 3
QUIETER = "run the gate where less else runs"
MEASURED = ("passed", "over budget")
Again = Callable[[str], Iterable[Result]]


def check(manifest: Manifest, run: Run, again: Again = lambda rule: ()) -> Iterator[Finding]:
    """Every finding about what the reference's run measured.

    ``again(rule)`` runs the tests of a rule once more. Where a time leaves too little room it is
    measured four times more and the middle one counts: one look at a busy machine may mislead.
    """
    for budget in manifest.budgets:
        result = next((r for r in run.results if r.test.name == budget.test), None)
        if result is not None and result.outcome in MEASURED:
            found = list(_room(manifest, budget, [result]))
            if found and budget.kind in TIMED and not result.undecided:
                fresh = [r for _ in range(LOOKS - 1) for r in again(result.test.rules[0])]
                same = [r for r in fresh if r.test.id == result.test.id and r.outcome in MEASURED]
                found = list(_room(manifest, budget, [result, *same]))
            yield from found
    yield from _quick(manifest, run, again)


def _room(manifest: Manifest, budget: Budget, results: list[Result]) -> Iterator[Finding]:
    line = line_of(manifest.file, f'name = "{budget.name}"')
    result, each = results[0], [r.budget for r in results if r.budget]
    data = result.budget
    if not data or data.get("figure") is None:
        what = f"budget {budget.name} was not measured"
        cure = f"call {budget.kind} once"
        yield Finding(result.test.path, result.test.line, what, cure)
        return
    if result.undecided:
        what = f"budget {budget.name} is undecided: {data['low']:.3g} to {data['high']:.3g}"
        yield Finding(manifest.file, line, what, QUIETER)
        return
    most, least = (share * budget.limit for share in ROOM.get(budget.kind, HALF))
    figure = median(map(_best, each))
    if figure > most:
        what = f"budget {budget.name}: the reference has {figure:.3g}, at most {most:.3g} is room"
        yield Finding(manifest.file, line, what, "raise the limit, or count something else")
    if data.get("baseline") is None:
        what = f"budget {budget.name}: no baseline was measured"
        cure = "give hidden/baseline.py the function that the test calls"
        yield Finding(manifest.file, line, what, cure)
    elif (baseline := median(float(data["baseline"]) for data in each)) < least:
        what = f"budget {budget.name}: the baseline has {baseline:.3g}, at least {least:.3g} misses"
        yield Finding(manifest.file, line, what, "lower the limit, or count something else")


def _best(data: dict[str, Any]) -> float:
    """The lower end of the reference's interval: beyond doubt too much, or not said."""
    low = data.get("low")
    return float(data["figure"] if low is None else low)


def _is_timed(result: Result) -> bool:
    return (result.budget or {}).get("kind") in TIMED


def _quick(manifest: Manifest, run: Run, again: Again) -> Iterator[Finding]:
    """Seconds of one core, so that a busy machine changes nothing: what is timed stays out, since
    a race goes on for as long as it has to. A core may be slow for a while: the tests that take
    longest run once more, and the lesser time of each counts."""
    for stage in manifest.stages:
        results = [r for r in run.results if r.test.stage == stage.name and not _is_timed(r)]
        results = [r for r in results if not {"slow", "gpu", "multi_gpu"} & {*r.test.tiers}]
        took = {r.test.id: r.cpu_s for r in results}
        slowest = sorted(results, key=lambda result: -result.cpu_s)[:SLOWEST]
        if sum(took.values()) > STAGE_S:
            for fresh in (r for rule in {r.test.rules[0] for r in slowest} for r in again(rule)):
                if fresh.test.id in took:
                    took[fresh.test.id] = min(took[fresh.test.id], fresh.cpu_s)
        if (total := sum(took.values())) > STAGE_S:
            name, most = slowest[0].test.name, took[slowest[0].test.id]
            what = (
                f"stage {stage.name} takes {total:.1f} s of one core, at most {STAGE_S:g} are fine"
            )
            cure = f"shorten {name} ({most:.1f} s), or mark it slow"
            yield Finding(manifest.root / stage.file, 0, what, cure)
