"""llmgrind log: dated notes of experiments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from pytest_llmgrind import clock, notes, practice
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    WrongUsage,
    current,
    manifest_of,
    practised,
    shown,
)
from pytest_llmgrind.cli._screen import Column, table
from pytest_llmgrind.history import DEBUG, History
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.notes import Note
from pytest_llmgrind.report import words
from pytest_llmgrind.status import stage_after
from pytest_llmgrind.workspace import Workspace


@click.command()
@click.argument("root", metavar="[ID]", type=ChallengeDir(), required=False)
@click.option("--new", is_flag=True, help="Begin a note about ID, and open your editor on it.")
@click.option("--json", "as_json", is_flag=True, help="Print notes as JSON.")
def log(root: Path | None, new: bool, as_json: bool) -> None:
    """List the notes of your experiments, or begin one.

    Notes are Markdown files in notes/ of the workspace, yours to edit, rename and delete. Each is
    listed with the first line under its Learnings, or with the sections that are empty.

    \b
    Example:
      llmgrind log --new 04_kv_cache
      llmgrind log
    """
    workspace = current(writable=True)
    if new and root is None:
        raise WrongUsage("--new wants a challenge, as in `llmgrind log --new 04_kv_cache`")
    if new and root is not None:
        file = _begin(workspace, manifest_of(root))
        note = notes.read(file, workspace.ids)
        click.echo(json.dumps(_as_json(note), indent=2) if as_json else shown(file))
        _edit(file)
        return
    found = notes.found(workspace.root / notes.DIRECTORY, workspace.ids)
    if root is not None:
        found = [note for note in found if note.challenge == root.name]
    if as_json:
        click.echo(json.dumps({"notes": [_as_json(note) for note in found]}, indent=2))
    elif found:
        columns = [Column("date"), Column("challenge"), Column("learned", fit=True)]
        click.echo(table(columns, [_row(note) for note in found]))
    else:
        about, example = (f" about {root.name}", root.name) if root else ("", workspace.ids[0])
        click.echo(f"no notes{about} yet; begin one: llmgrind log --new {example}", err=True)


def _begin(workspace: Workspace, manifest: Manifest) -> Path:
    directory, now = workspace.root / notes.DIRECTORY, clock.now
    with practised(workspace, make=False) as history:
        day, front = clock.day(now()), _front(history, manifest)
    try:
        return notes.begin(directory, manifest.id, manifest.title, day=day, front=front)
    except OSError as error:
        path = Path(error.filename or directory)
        raise NotDone(f"{shown(path)}: {error.strerror}; nothing was written") from error


def _front(history: History, manifest: Manifest) -> dict[str, str]:
    """The attempt so far, as lines of the note's head."""
    attempt = history.current(manifest.id)
    if attempt is None:
        return {"tries": "0"}
    green, _ = stage_after(manifest, attempt)
    kind = {"attempt": "debugging"} if attempt.kind == DEBUG else {}
    return {
        **kind,
        "tries": f"{practice.tries(attempt)}",
        "minutes": f"{practice.minutes_spent(attempt, clock.now()):.0f}",
        "stages green": f"{green} of {len(manifest.stages)}",
    }


def _edit(file: Path) -> None:
    """Open the editor that the environment names, where someone sits at a terminal."""
    if not (os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        return
    if sys.stdin.isatty() and sys.stdout.isatty():
        click.edit(filename=str(file))


def _row(note: Note) -> list[str]:
    learned = note.learned or f"(empty: {', '.join(note.missing)})"
    return [note.date or words.NONE, note.challenge or words.NONE, learned]


def _as_json(note: Note) -> dict[str, Any]:
    return {
        "path": shown(note.path),
        "date": note.date or None,
        "challenge": note.challenge or None,
        "learned": note.learned or None,
        "missing": list(note.missing),
    }
