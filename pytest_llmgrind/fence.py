"""Keeps solution code from opening the grader's files, by an audit hook.

A fence for the honest, not a wall: see docs/judging.md. Knows nothing about pytest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_llmgrind.guard import Forbidden

EVENTS = {"open", "os.listdir", "os.scandir"}

_solutions: set[str] = set()
_fenced: set[str] = set()
_installed = False


def fence(solution: Path, *directories: Path) -> None:
    """From now on code of ``solution`` (a file or a package) cannot open what is in these."""
    global _installed
    _solutions.add(str(solution))
    for directory in directories:
        _fenced.update((str(directory), str(directory.resolve())))
    if not _installed:
        sys.addaudithook(_audit)  # cannot be removed; costs nothing but on these events
        _installed = True


def unfence() -> None:
    """Forget solutions and directories: a new session begins."""
    _solutions.clear()
    _fenced.clear()


def is_below(filename: str, directory: str) -> bool:
    """Whether a path is this file or directory, or lies in it."""
    return filename == directory or filename.startswith(f"{directory}{os.sep}")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event not in EVENTS or not _solutions or not isinstance(args[0], str | bytes | os.PathLike):
        return
    if not _asked_by_solution(sys._getframe(1)):
        return
    path = Path(os.fsdecode(args[0]))
    if any(is_below(str(path.resolve()), directory) for directory in _fenced):
        raise Forbidden(f"opening {path.name} is not allowed: it belongs to the grader")


def _asked_by_solution(frame: FrameType | None) -> bool:
    """Whether solution code is on the stack, and no code of the grader that it called."""
    while frame is not None:
        name = frame.f_code.co_filename
        if any(is_below(name, solution) for solution in _solutions):
            return True
        if any(is_below(name, directory) for directory in _fenced):
            return False
        frame = frame.f_back
    return False
