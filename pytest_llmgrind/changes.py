"""What start, debug and reset do to a workspace, and how undo takes it back.

A change archives solutions, ends attempts and may begin others: all of it, or nothing. Knows
nothing about pytest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_llmgrind import archive
from pytest_llmgrind.archive import ArchiveError, Move
from pytest_llmgrind.history import Attempt, Change, History
from pytest_llmgrind.workspace import Workspace


@dataclass(eq=False)
class Changing:
    """A change that is being made; what is cleared here comes back if it fails."""

    history: History
    workspace: Workspace
    at: datetime
    moves: list[Move] = field(default_factory=list)
    _cleared: list[dict[str, Any]] = field(default_factory=list)
    _written: list[Path] = field(default_factory=list)

    def clear(self, id: str) -> list[Move]:
        """Archive the solution of a challenge and end the attempt at it."""
        root, attempt = self.workspace.root, self.history.current(id)
        moves = archive.store(root, id, self.workspace.solutions, at=self.at)
        self.moves += moves
        if attempt is not None:
            self.history.mark(attempt, "closed", self.at)
        self._cleared.append(
            {
                "challenge": id,
                "attempt": attempt.id if attempt else None,
                "moves": [[_below(root, move.place), _below(root, move.kept)] for move in moves],
            }
        )
        return moves

    def write(self, file: Path, text: bytes) -> None:
        """A new file; FileExistsError where there is one."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as out:
            self._written.append(file)
            out.write(text)

    def keep(self, what: str) -> None:
        """Note how to take it back, if there is something to take back."""
        if self._cleared:
            self.history.add_change(what, {"cleared": self._cleared}, self.at)

    def roll_back(self) -> None:
        for file in self._written:
            file.unlink(missing_ok=True)
        with suppress(ArchiveError):  # it is in the archive all the same
            archive.put_back(self.moves)


@contextmanager
def changing(
    history: History, workspace: Workspace, what: str, *, at: datetime
) -> Iterator[Changing]:
    """A change named ``what``, while no other terminal makes one."""
    change = Changing(history, workspace, at)
    try:
        with history.writing():
            yield change
            change.keep(what)
    except BaseException:
        change.roll_back()
        raise


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """One challenge after undo: what is back in place, what was archived for it, what goes on."""

    challenge: str
    back: tuple[Path, ...]
    archived: tuple[Path, ...]
    attempt: Attempt | None


def take_back(
    history: History, workspace: Workspace, *, at: datetime
) -> tuple[Change, list[TakenBack]] | None:
    """Undo the last change: old solutions return, what stands there now is archived.

    Raises
    ------
    ArchiveError
        A solution cannot be put back, and nothing was changed. Where the archive has lost it, the
        change is forgotten: the next undo takes back what came before.
    """
    back: list[Move] = []
    meanwhile = Changing(history, workspace, at)
    try:
        with history.writing():
            change = history.last_change()
            if change is None:
                return None
            history.forget_change(change)
            lost = _lost(change, workspace.root)
            found = [] if lost else [_restore(c, meanwhile, back) for c in change.undo["cleared"]]
    except BaseException:
        with suppress(ArchiveError):
            archive.put_back(Move(place=move.kept, kept=move.place) for move in back)
        meanwhile.roll_back()
        raise
    if lost:
        raise ArchiveError(f"{lost[0]}: is gone, so {change.what} cannot be taken back")
    return change, found


def _lost(change: Change, root: Path) -> list[Path]:
    kept = [root / kept for cleared in change.undo["cleared"] for _, kept in cleared["moves"]]
    return [path for path in kept if not os.path.lexists(path)]


def _restore(cleared: dict[str, Any], meanwhile: Changing, back: list[Move]) -> TakenBack:
    id, root = cleared["challenge"], meanwhile.workspace.root
    archived = meanwhile.clear(id)
    moves = [Move(place=root / place, kept=root / kept) for place, kept in cleared["moves"]]
    for move in moves:
        archive.put_back([move])
        back.append(move)
    return TakenBack(
        challenge=id,
        back=tuple(move.place for move in moves),
        archived=tuple(move.kept for move in archived),
        attempt=meanwhile.history.resume(id, cleared["attempt"], meanwhile.at),
    )


def _below(root: Path, path: Path) -> str:
    """As it stands in the history: a workspace may be moved as a whole."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
