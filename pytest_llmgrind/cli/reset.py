"""llmgrind reset and undo: put a solution away, and take that back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pytest_llmgrind import archive, changes, clock
from pytest_llmgrind.archive import ArchiveError, Move
from pytest_llmgrind.changes import TakenBack
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    WrongUsage,
    current,
    practised,
    shown,
)
from pytest_llmgrind.history import History
from pytest_llmgrind.workspace import Workspace


@click.command()
@click.argument("root", metavar="[ID]", required=False, type=ChallengeDir())
@click.option("--all", "everything", is_flag=True, help="Every challenge that was begun.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(root: Path | None, everything: bool, yes: bool) -> None:
    """Archive the solution of challenge ID and end the attempt at it.

    The next `llmgrind start` begins from the stub. What was practised stays in the history, and
    `llmgrind undo` brings the solution back.

    \b
    Example:
      llmgrind reset 04_kv_cache
      llmgrind reset --all
    """
    if (root is not None) == everything:
        raise WrongUsage("reset: name one challenge, or give --all")
    workspace = current(writable=True)
    with practised(workspace) as history:
        ids = [root.name] if root else list(workspace.ids)
        ids = [id for id in ids if _is_begun(history, workspace, id)]
        if not ids:
            what = f"{root.name} was not begun" if root else "no challenge was begun"
            raise NotDone(f"{what}; there is nothing to reset")
        if everything and not yes and sys.stdin.isatty():
            click.confirm(f"Archive {', '.join(ids)}?", abort=True)
        what = "reset --all" if everything else f"reset {ids[0]}"
        try:
            with changes.changing(history, workspace, what, at=clock.now()) as change:
                cleared = {id: change.clear(id) for id in ids}
        except ArchiveError as error:
            raise NotDone(f"{error}; nothing was reset") from error
    for id, moves in cleared.items():
        click.echo(_reset(id, moves))
    click.echo("undo  llmgrind undo")


def _is_begun(history: History, workspace: Workspace, id: str) -> bool:
    return bool(archive.places(id, workspace.solutions)) or history.current(id) is not None


def _reset(id: str, moves: Sequence[Move]) -> str:
    if not moves:
        return f"{id}: the attempt is closed; there was no solution"
    pairs = [f"{shown(move.place)} is now {shown(move.kept)}" for move in moves]
    return f"{id}: {', '.join(pairs)}"


@click.command()
def undo() -> None:
    """Take back the last start after a pass, debug or reset.

    The old solution returns, and the attempt at it goes on. What stands there now is archived.
    Called again, it takes back what came before.

    \b
    Example:
      llmgrind undo
    """
    workspace = current(writable=True)
    with practised(workspace) as history:
        try:
            undone = changes.take_back(history, workspace, at=clock.now())
        except ArchiveError as error:
            raise NotDone(f"{error}; nothing was changed") from error
        if undone is None:
            raise NotDone("there is nothing to undo")
    change, taken_back = undone
    click.echo(f"took back: {change.what} ({clock.shown(change.at)})")
    for each in taken_back:
        click.echo(_undone(each))


def _undone(taken: TakenBack) -> str:
    back, archived = (" and ".join(map(shown, paths)) for paths in (taken.back, taken.archived))
    parts = [f"{back} is back" if back else "there was no solution before"]
    parts += [f"what was there is now {archived}"] if archived else []
    return f"{taken.challenge}: {'; '.join(parts)}"
