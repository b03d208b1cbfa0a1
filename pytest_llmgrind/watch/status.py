"""The status line: where you are, what is next, how long it took, the keys. Text alone."""

from __future__ import annotations

from datetime import datetime

from pytest_llmgrind.clock import span
from pytest_llmgrind.history import Attempt
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.practice import minutes_spent
from pytest_llmgrind.watch.course import Course, Task
from pytest_llmgrind.watch.runs import Outcome

KEYS = ("h hint", "n next stage", "r run all", "q quit")
BETWEEN = " · "


def heading(manifest: Manifest, task: Task) -> str:
    """What is being run."""
    count = len(manifest.stages)
    if task.stage is not None:
        stage = manifest.stages[task.stage]
        return (
            f"{manifest.id}{BETWEEN}stage {task.stage + 1} of {count}, {stage.name}: {stage.title}"
        )
    timing = "with budgets" if task.budgets else "without budgets"
    stages = "its stage" if count == 1 else f"all {count} stages"
    return (
        f"{manifest.id}{BETWEEN}{stages}, {timing}"
        if manifest.budgets
        else (f"{manifest.id}{BETWEEN}{stages}")
    )


def lines(
    manifest: Manifest, course: Course, outcome: Outcome, effort: str, *, keys: bool, width: int
) -> list[str]:
    """The status, and the keys behind it or, where the terminal is too narrow, below it."""
    parts = [part for part in (manifest.id, _next(manifest, course, outcome), effort) if part]
    left, right = BETWEEN.join(parts), "  ".join(KEYS)
    if not keys:
        return [left]
    if len(left) + len(BETWEEN) + len(right) < width:
        return [left + BETWEEN + right]
    return [left if len(left) < width else f"{left[: max(width - 2, 1)]}…", right]


def effort(attempt: Attempt | None, now: datetime) -> str:
    """``12 min``, ``12 min, 33 min left``: minutes of work, and what is left of an interview."""
    if attempt is None:
        return ""
    spent = span(minutes_spent(attempt, now))
    if attempt.passed:
        return f"passed after {spent}"
    if attempt.minutes is None:
        return spent
    left = attempt.minutes - (now - attempt.started).total_seconds() / 60
    return f"{spent}, {span(left)} left" if left > 0 else f"{spent}, time is up"


def _next(manifest: Manifest, course: Course, outcome: Outcome) -> str:
    count = len(manifest.stages)
    if outcome.words and course.unfinished(0) is None:
        green = "all stages green" if count > 1 else "green"
        if outcome.next_kind == "run" and not any(w == "ok" for w in course.words.values()):
            return outcome.next_text  # all was skipped
        return f"done: {green}" if course.measured else f"{green}; r measures the budgets"
    stage = manifest.stages[course.at]
    where = f"stage {course.at + 1} of {count}, {stage.name}"
    if not outcome.words:
        return f"{where}: nothing was graded, pytest's exit code is {outcome.exit_code}"
    named = f"stage {course.at + 1}, {stage.name}: "
    if outcome.next_text.startswith(named):
        return f"{where}: {outcome.next_text.removeprefix(named)}"
    if outcome.next_kind == "start":
        return f"{where}: {outcome.next_text}"
    return f"{where}: {course.words.get(stage.name, 'not run')}"
