"""Solutions that made way for another: kept in ``.llmgrind/archive``, never overwritten.

A solution is moved to ``.llmgrind/archive/<id>/<stamp>.py``, a package to ``<stamp>/``, and from
there back to where it stood. Knows nothing about pytest.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pytest_llmgrind import clock
from pytest_llmgrind.history import DIRECTORY

ARCHIVE = "archive"


class ArchiveError(Exception):
    """Nothing was moved; one line: which path, and why."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A solution that was archived: ``place`` is where it stood, ``kept`` where it lies."""

    place: Path
    kept: Path


def places(id: str, solutions: Path) -> list[Path]:
    """What stands where the solution of a challenge is looked for: a file, a directory, both."""
    return [path for path in (solutions / f"{id}.py", solutions / id) if os.path.lexists(path)]


def store(root: Path, id: str, solutions: Path, *, at: datetime) -> list[Move]:
    """Move the solution of a challenge into the archive of the workspace ``root``.

    Raises
    ------
    ArchiveError
        It cannot be moved, and stands where it stood.
    """
    moves: list[Move] = []
    for place in places(id, solutions):
        suffix = ".py" if place.suffix == ".py" else ""
        move = Move(place=place, kept=_free(root / DIRECTORY / ARCHIVE / id, at, suffix))
        try:
            _move(place, move.kept)
        except ArchiveError:
            put_back(moves)
            raise
        moves.append(move)
    return moves


def put_back(moves: Iterable[Move]) -> None:
    """Move what was archived to where it stood.

    Raises
    ------
    ArchiveError
        It is no longer in the archive, or something else stands in its place.
    """
    for move in moves:
        if os.path.lexists(move.place):
            raise ArchiveError(f"{move.place}: is there already")
        _move(move.kept, move.place)


def _free(directory: Path, at: datetime, suffix: str) -> Path:
    """A name that nothing in the archive has."""
    return next(
        directory / f"{name}{suffix}"
        for name in _names(clock.stamp(at))
        if not os.path.lexists(directory / f"{name}{suffix}")
    )


def _names(stamp: str) -> Iterator[str]:
    yield stamp
    yield from (f"{stamp}-{number}" for number in itertools.count(2))


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            _move_link(source, target)
        else:
            shutil.move(source, target)
    except OSError as error:
        path = error.filename or source
        raise ArchiveError(f"{path}: cannot be moved: {error.strerror or error}") from error


def _move_link(source: Path, target: Path) -> None:
    """A relative link leads to the same file from its new place."""
    leads_to = os.readlink(source)
    if not os.path.isabs(leads_to):
        # Not resolved further: the parents' own links may change meanwhile.
        leads_to = os.path.relpath(source.parent.resolve() / leads_to, target.parent.resolve())
    target.symlink_to(leads_to)
    source.unlink()
