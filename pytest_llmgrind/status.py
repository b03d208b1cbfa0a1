"""Where each challenge of a workspace stands: in play, done, due. Knows nothing about pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_llmgrind import clock, practice
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.history import DEBUG, SOLVE, Attempt, History
from pytest_llmgrind.manifest import Manifest, ManifestError, Stage
from pytest_llmgrind.verdicts import WORDS
from pytest_llmgrind.workspace import Workspace

NOT_BEGUN, IN_PLAY, DEBUGGING, DONE, GIVEN_UP = (
    "not begun",
    "in play",
    "debugging",
    "done",
    "given up",
)
EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Status:
    """A challenge and its practice.

    ``state`` is one of five words; ``is_due`` stands beside it, since what is in play again may
    be due. ``green``, ``next``, ``tries`` and ``spent`` (minutes of work) are those of the last
    attempt. ``passes`` counts solutions, ``last`` is when anything was done, ``rating`` that of
    the last pass, ``due`` when to solve it again: that day, or after it, it ``is_due``.
    """

    manifest: Manifest
    state: str
    green: int
    next: Stage | None
    tries: int
    spent: float
    passes: int
    last: datetime | None
    rating: str
    due: datetime | None
    is_due: bool

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def is_open(self) -> bool:
        """Begun and not finished."""
        return self.state in (IN_PLAY, DEBUGGING)

    @property
    def word(self) -> str:
        """``in play 2/4``, ``due``, ``done``: its state in a word."""
        if self.state == IN_PLAY:
            return f"{self.state} {self.green}/{len(self.manifest.stages)}"
        return "due" if self.is_due and not self.is_open else self.state

    def as_json(self) -> dict[str, Any]:
        number = self.manifest.stage_number(self.next) if self.next else None
        return {
            "id": self.id,
            "title": self.manifest.title,
            "track": self.manifest.track,
            "minutes": self.manifest.minutes,
            "needs": list(self.manifest.needs),
            "state": self.state,
            "stages": len(self.manifest.stages),
            "green": self.green,
            "next_stage": number,
            "tries": self.tries,
            "spent": round(self.spent, 1),
            "passes": self.passes,
            "last_practised": self.last and clock.text(self.last),
            "rating": self.rating,
            "due": self.due and clock.text(self.due),
            "is_due": self.is_due,
        }


def survey(workspace: Workspace, history: History, now: datetime) -> tuple[list[Status], list[str]]:
    """The challenges of a workspace in order, and a line for each that cannot be read."""
    found, broken = [], []
    dues, ratings = history.due(EVER), history.ratings()
    attempts: dict[str, list[Attempt]] = {}
    for attempt in history.attempts():
        attempts.setdefault(attempt.challenge, []).append(attempt)
    for id in workspace.ids:
        try:
            manifest = manifests.load(workspace.challenges / id)
        except ManifestError as error:
            broken.append(str(error))
            continue
        due, rating = dues.get(id), practice.RATINGS.get(ratings.get(id, 0), "")
        is_written = _is_written(workspace, manifest)
        found.append(
            _status(manifest, attempts.get(id, []), now, due=due, rating=rating, file=is_written)
        )
    return found, broken


def due(statuses: Sequence[Status]) -> list[Status]:
    """What to solve again, the longest due first."""
    return sorted((s for s in statuses if s.is_due), key=lambda s: (s.due, s.id))


def next_due(statuses: Sequence[Status]) -> Status | None:
    """What will be due next, of all that is not due yet."""
    waiting = [s for s in statuses if s.due and not s.is_due]
    return min(waiting, key=lambda s: (s.due, s.id), default=None)


def begin(statuses: Sequence[Status]) -> Status | None:
    """The first that nobody began and whose needs were passed; else the first that was given up."""
    known = {status.id: status for status in statuses}
    ready = [
        status
        for status in statuses
        if all(need not in known or known[need].passes for need in status.manifest.needs)
    ]
    for state in (NOT_BEGUN, GIVEN_UP):
        if found := next((status for status in ready if status.state == state), None):
            return found
    return None


def stage_after(manifest: Manifest, attempt: Attempt) -> tuple[int, Stage | None]:
    """How many stages are green, and the first that is not."""
    words = practice.stage_words(attempt.runs)
    green = sum(words.get(stage.name) == WORDS["passed"] for stage in manifest.stages)
    left = (s for s in manifest.stages if words.get(s.name) not in practice.FINISHED)
    return green, next(left, None)


def _status(
    manifest: Manifest,
    attempts: Sequence[Attempt],
    now: datetime,
    *,
    due: datetime | None,
    rating: str,
    file: bool,
) -> Status:
    latest = attempts[-1] if attempts else None
    passes = sum(a.kind == SOLVE and a.passed is not None for a in attempts)
    green, stage = stage_after(manifest, latest) if latest else (0, manifest.stages[0])
    moments = [moment for attempt in attempts for moment in _moments(attempt)]
    return Status(
        manifest=manifest,
        state=_state(attempts, passes, file=file),
        green=green,
        next=stage,
        tries=practice.tries(latest) if latest else 0,
        spent=practice.minutes_spent(latest) if latest else 0.0,
        passes=passes,
        last=max(moments, default=None),
        rating=rating,
        due=due,
        is_due=due is not None and due <= clock.day_end(now),
    )


def _state(attempts: Sequence[Attempt], passes: int, *, file: bool) -> str:
    current = attempts[-1] if attempts and attempts[-1].is_open else None
    if current and not current.gave_up:
        return DEBUGGING if current.kind == DEBUG else IN_PLAY
    if current and current.kind == SOLVE:
        return GIVEN_UP
    if passes:
        return DONE
    if file and all(attempt.closed for attempt in attempts):
        return IN_PLAY  # written before there was a history, or without a run of pytest
    return GIVEN_UP if any(a.gave_up and a.kind == SOLVE for a in attempts) else NOT_BEGUN


def _is_written(workspace: Workspace, manifest: Manifest) -> bool:
    """There is a solution that says more than the stub."""
    package, file = workspace.solutions / manifest.id, workspace.solutions / f"{manifest.id}.py"
    try:
        return package.is_dir() or file.read_bytes() != manifest.stub.read_bytes()
    except FileNotFoundError:
        return file.is_file()
    except OSError:
        return True


def _moments(attempt: Attempt) -> list[datetime]:
    heard = (attempt.started, *(run.at for run in attempt.runs), *(h.at for h in attempt.hints))
    return [*heard, *filter(None, (attempt.passed, attempt.gave_up))]
