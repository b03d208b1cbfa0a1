"""What the history holds, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

SOLVE, DEBUG = "solve", "debug"


class HistoryError(Exception):
    """The history cannot be used; one line: which file, what is wrong, what to do."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One graded run. ``stages`` maps each stage's name to its word on the board."""

    at: datetime
    seconds: float
    version: int
    stages: dict[str, str]
    rules: int
    of_rules: int
    done: bool


@dataclass(frozen=True, kw_only=True)
class Hint:
    at: datetime
    stage: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """From a start to a pass, or to being given up.

    ``kind`` is ``solve``, or ``debug`` for a program with planted ``bugs`` (names). ``minutes`` is
    the limit of a timed interview. ``closed`` tells when another start or a reset ended it.
    """

    id: int
    challenge: str
    kind: str
    started: datetime
    minutes: float | None
    bugs: tuple[str, ...]
    passed: datetime | None
    gave_up: datetime | None
    closed: datetime | None
    runs: tuple[Run, ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.passed is None and self.closed is None


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that ``llmgrind undo`` takes back: ``undo`` is what it has to know."""

    id: int
    at: datetime
    what: str
    undo: dict[str, Any]
