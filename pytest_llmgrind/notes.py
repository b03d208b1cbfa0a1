"""Dated notes of experiments, as Markdown files that belong to their author.

``notes/`` of a workspace holds them. They may be edited, renamed, sorted into folders and deleted
by hand: nothing about them is kept elsewhere. Knows nothing about pytest or click.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import spec
from pytest_llmgrind.plain import line

DIRECTORY = "notes"
ASKS = {
    "Hypothesis": "What do you expect, and why? One sentence that can turn out wrong.",
    "Setup": "What was run: the command, the seed, the sizes, the machine.",
    "Results": "What was seen: figures, messages, counts.",
    "Learnings": "The first line is the one that `llmgrind log` lists.",
}
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^(\w+)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, kw_only=True)
class Note:
    """A note as it stands. ``challenge``, ``date`` and ``learned`` are empty if it has none.

    ``learned`` is the first line under Learnings, ``missing`` the sections without a text.
    """

    path: Path
    challenge: str
    date: str
    learned: str
    missing: tuple[str, ...]


def begin(directory: Path, challenge: str, title: str, *, day: str, front: dict[str, str]) -> Path:
    """Write a note to fill in, beside those of the same day; ``front`` are lines of its head.

    Raises
    ------
    OSError
        It cannot be written.
    """
    head = {"challenge": challenge, "date": day, **front}
    parts = ["---", *(f"{key}: {value}" for key, value in head.items()), "---"]
    parts += ["", f"# {title}, {day}"]
    for name, asked in ASKS.items():
        parts += ["", f"## {name}", "", f"<!-- {asked} -->"]
    directory.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        suffix = f"-{number}" if number > 1 else ""
        file = directory / f"{day}_{challenge}{suffix}.md"
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write("\n".join(parts) + "\n")
        except FileExistsError:
            number += 1
        else:
            return file


def found(directory: Path, challenges: Sequence[str]) -> list[Note]:
    """The notes below a directory, the oldest first; ``challenges`` are the ids there are."""
    files = (path for path in directory.rglob("*.md") if path.is_file())
    visible = (path for path in files if not _is_hidden(path.relative_to(directory)))
    return sorted((read(path, challenges) for path in visible), key=_order)


def read(path: Path, challenges: Sequence[str]) -> Note:
    """A note, however its author has changed it: what its head lacks, its name may tell."""
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError:
        text = ""
    front = _FRONT.match(text)
    head = dict(_KEY.findall(front[1])) if front else {}
    day = _DAY.search(head.get("date", "")) or _DAY.search(path.name)
    named = next((id for id in challenges if id in path.stem), "")
    bodies = {name: _body(text, name) for name in ASKS}
    return Note(
        path=path,
        challenge=line(head.get("challenge", "").strip("\"'")) or named,
        date=day[0] if day else "",
        learned=bodies["Learnings"],
        missing=tuple(name for name, body in bodies.items() if not body),
    )


def _body(text: str, name: str) -> str:
    """The first line that is written under a heading."""
    section = _COMMENT.sub("", spec.section(text, name))
    lines = (line(each.strip().lstrip("-*+> "), 400) for each in section.splitlines()[1:])
    return next((each for each in lines if each), "")


def _order(note: Note) -> tuple[str, str, int, str]:
    """By day; of one challenge and day -10 comes after -9."""
    return note.date, note.challenge, len(note.path.stem), str(note.path)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
