"""Budgets are met by the reference with room and missed by the baseline; stages are quick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_llmgrind.gate.finding import Finding, line_of
from pytest_llmgrind.gate.worker import Result, Run
from pytest_llmgrind.manifest import TIMED, Budget, Manifest

ROOM = {"scaling": (0.75, 1.25)}
HALF = (0.5, 1.5)
"""The share of the limit that a reference may take, and what a baseline has to take."""
STAGE_S = 5.0
QUIETER = "run the gate where less else runs"


def check(manifest: Manifest, run: Run) -> Iterator[Finding]:
    """Every finding about what the reference's run measured."""
    for budget in manifest.budgets:
        result = next((r for r in run.results if r.test.name == budget.test), None)
        if result is not None and result.outcome in ("passed", "over budget"):
            yield from _room(manifest, budget, result)
    yield from _quick(manifest, run)


def _room(manifest: Manifest, budget: Budget, result: Result) -> Iterator[Finding]:
    line = line_of(manifest.file, f'name = "{budget.name}"')
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
    figure, baseline = _best(data), data.get("baseline")
    if figure > most:
        what = f"budget {budget.name}: the reference has {figure:.3g}, at most {most:.3g} is room"
        yield Finding(manifest.file, line, what, "raise the limit, or count something else")
    if baseline is None:
        what = f"budget {budget.name}: no baseline was measured"
        cure = "give hidden/baseline.py the function that the test calls"
        yield Finding(manifest.file, line, what, cure)
    elif baseline < least:
        what = f"budget {budget.name}: the baseline has {baseline:.3g}, at least {least:.3g} misses"
        yield Finding(manifest.file, line, what, "lower the limit, or count something else")


def _best(data: dict[str, Any]) -> float:
    """The lower end of the reference's interval: beyond doubt too much, or not said."""
    low = data.get("low")
    return float(data["figure"] if low is None else low)


def _is_timed(result: Result) -> bool:
    return (result.budget or {}).get("kind") in TIMED


def _quick(manifest: Manifest, run: Run) -> Iterator[Finding]:
    """Seconds of one core, so that a busy machine changes nothing: what is timed stays out, since
    a race goes on for as long as it has to."""
    for stage in manifest.stages:
        results = [r for r in run.results if r.test.stage == stage.name and not _is_timed(r)]
        took = sum(r.cpu_s for r in results if not {"slow", "gpu", "multi_gpu"} & {*r.test.tiers})
        if took > STAGE_S:
            slowest = max(results, key=lambda result: result.cpu_s)
            what = (
                f"stage {stage.name} takes {took:.1f} s of one core, at most {STAGE_S:g} are fine"
            )
            cure = f"shorten {slowest.test.name} ({slowest.cpu_s:.1f} s), or mark it slow"
            yield Finding(manifest.root / stage.file, 0, what, cure)
