"""What the gate says: one line for each thing that is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and what to do. A ``note`` is said and does not fail the gate.

    ``line`` counts from 1; 0 means the file as a whole.
    """

    path: Path
    line: int
    what: str
    cure: str
    note: bool = False

    def shown(self, start: Path) -> str:
        """The finding as one line; its path is relative to ``start`` where that is near."""
        near = os.path.relpath(self.path, start)
        where = near if near.count("..") <= 2 else str(self.path)
        at = f"{where}:{self.line}" if self.line else where
        return f"{at}: {'note: ' if self.note else ''}{self.what}; {self.cure}"

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "line": self.line or None,
            "what": self.what,
            "cure": self.cure,
            "note": self.note,
        }


Report = Callable[[Finding], None]
"""Takes findings as they are made."""


def line_of(path: Path, text: str) -> int:
    """The first line of a file that holds ``text``; 0 if none does."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    return next((number for number, line in enumerate(lines, start=1) if text in line), 0)


def first_line(text: str) -> str:
    """One line of a text that may have many."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def count(number: int, noun: str) -> str:
    """``1 finding``, ``2 findings``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
