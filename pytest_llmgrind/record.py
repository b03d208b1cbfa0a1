"""Writes graded runs into the history, and says where each attempt stands. No pytest.

Only a workspace's own solutions are practice: neither ``--solutions submissions/ada`` nor a stub
that nobody began is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from pytest_llmgrind import bugs, clock, practice
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.board import Board, ChallengeBoard
from pytest_llmgrind.clock import ClockError
from pytest_llmgrind.history import (
    DEBUG,
    Attempt,
    History,
    HistoryError,
    Run,
    file_of,
    open_history,
)
from pytest_llmgrind.manifest import MANIFEST, Manifest, ManifestError
from pytest_llmgrind.practice import Practice

UNMEASURED = ("not measured", "not run")


def record(board: Board, roots: Mapping[str, Path], seconds: float) -> Board:
    """The board with what the history knows; ``roots`` are the challenges that are practice."""
    mine = {
        root.parent.parent
        for id, root in roots.items()
        if _is_begun(board, id) or file_of(root.parent.parent).exists()
    }
    known: dict[str, Practice] = {}
    due: list[str] = []
    remarks: list[str] = []
    for workspace in sorted(mine):
        try:
            with open_history(workspace) as history:
                remarks += history.remarks
                ours = {id: root for id, root in roots.items() if root.parent.parent == workspace}
                known |= _record(history, board.challenges, ours, seconds)
                today = history.due(clock.day_end(clock.now()))
                due += (id for id in today if _is_there(workspace, id))
        except (HistoryError, ClockError) as error:
            remarks.append(str(error))
    challenges = (replace(each, practice=known.get(each.id)) for each in board.challenges)
    return replace(
        board,
        challenges=tuple(challenges),
        due=tuple(due),
        remarks=(*board.remarks, *remarks),
    )


def _is_there(workspace: Path, id: str) -> bool:
    """A challenge that was passed may have been removed or renamed since."""
    return (workspace / "challenges" / id / MANIFEST).is_file()


def _is_begun(board: Board, id: str) -> bool:
    return any(each.id == id and each.is_begun for each in board.challenges)


def _record(
    history: History,
    boards: Sequence[ChallengeBoard],
    roots: Mapping[str, Path],
    seconds: float,
) -> dict[str, Practice]:
    found = {}
    for board in boards:
        if board.id not in roots or not board.is_begun:
            continue
        try:
            manifest = manifests.load(roots[board.id])
        except ManifestError:  # said by the board already
            continue
        with history.writing():
            found[board.id] = _add(history, manifest, board, seconds)
    return found


def _add(history: History, manifest: Manifest, board: ChallengeBoard, seconds: float) -> Practice:
    now = clock.now()
    began = now - timedelta(seconds=seconds)
    attempt = history.current(board.id) or history.begin(board.id, began)
    run = _run(board, now, seconds)
    history.add_run(attempt, run)
    passes = run.done and attempt.passed is None
    if passes:
        history.mark(attempt, "passed", now)
    attempt = history.attempt(attempt.id)
    due = practice.review(history, attempt, manifest, now) if passes else None
    return standing(attempt, manifest, now, passes=passes, due=due)


def _run(board: ChallengeBoard, at: datetime, seconds: float) -> Run:
    """What was left unmeasured is no pass: ``--benchmark-disable`` measures nothing."""
    unmeasured = any(row.verdict in UNMEASURED for row in board.budgets)
    return Run(
        at=at,
        seconds=seconds,
        version=board.version,
        stages={row.name: row.word for row in board.stages},
        rules=len(board.rules.kept),
        of_rules=board.rules.total,
        done=board.is_green and not unmeasured,
    )


def standing(
    attempt: Attempt, manifest: Manifest, now: datetime, *, passes: bool, due: datetime | None
) -> Practice:
    """Where an attempt stands now; ``passes`` if a run passed it just now."""
    left = None
    if attempt.minutes is not None:
        left = attempt.minutes - (now - attempt.started).total_seconds() / 60
    meanings = {bug.name: bug.misconception for bug in bugs.known(manifest)}
    told = attempt.bugs if attempt.kind == DEBUG and attempt.passed else ()
    return Practice(
        kind=attempt.kind,
        tries=practice.tries(attempt),
        minutes=practice.minutes_spent(attempt, now),
        hints=len(attempt.hints),
        of_hints=sum(len(stage.hints) for stage in manifest.stages),
        limit=attempt.minutes,
        left=left,
        gave_up=attempt.gave_up is not None,
        of_bugs=len(attempt.bugs),
        bugs=tuple(meanings.get(name, name) for name in told),
        passed=passes,
        rating=practice.RATINGS[practice.rating(attempt, manifest)] if due else "",
        due=clock.day(due) if due else "",
    )
