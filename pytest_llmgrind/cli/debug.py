"""llmgrind debug: a program to repair."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click

from pytest_llmgrind import changes, clock
from pytest_llmgrind.archive import ArchiveError, Move
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    current,
    manifest_of,
    practised,
    shown,
)
from pytest_llmgrind.history import DEBUG, History
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.workspace import Workspace

SEEDS = 10_000


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option("--seed", type=click.IntRange(min=0), help="Draw the bugs that this number gives.")
@click.option(
    "--bugs", "count", type=click.IntRange(min=1), default=1, show_default=True, help="How many."
)
def debug(root: Path, seed: int | None, count: int) -> None:
    """Write a broken program for challenge ID, for you to repair.

    It is the reference with bugs planted in it, proven to fail. What stands in the solutions
    directory is archived. Runs of pytest are a debugging attempt until all tests pass; then the
    board names what was planted, and the time it took.

    \b
    Example:
      llmgrind debug 04_kv_cache
      llmgrind debug 04_kv_cache --seed 7 --bugs 2
    """
    from pytest_llmgrind.exercise import ExerciseError, plant

    workspace = current(writable=True)
    manifest = manifest_of(root)
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    with practised(workspace) as history:
        if sys.stderr.isatty():
            click.echo("planting, and proving that it shows …", err=True)
        try:
            exercise = plant(manifest, seed=seed, count=count)
        except ExerciseError as error:
            raise NotDone(f"{error}; nothing was written") from error
        _tell(history, manifest.id, exercise.lacking)
        text, names = exercise.text.encode(), [bug.name for bug in exercise.bugs]
        file, moves = _write(history, workspace, manifest, text, names)
    planted = f"{count} bug{'s' if count > 1 else ''} planted"
    click.echo(f"{shown(file)} is yours to repair: {manifest.title}, {planted}, seed {seed}")
    for move in moves:
        click.echo(f"kept  {shown(move.kept)}; llmgrind undo brings it back")
    click.echo(f"same  llmgrind debug {manifest.id} --seed {seed} --bugs {count}")
    click.echo(f"next  pytest {shown(manifest.root)}")


def _write(
    history: History, workspace: Workspace, manifest: Manifest, text: bytes, names: list[str]
) -> tuple[Path, list[Move]]:
    id, at = manifest.id, clock.now()
    file = workspace.solutions / f"{id}.py"
    try:
        with changes.changing(history, workspace, f"debug {id}", at=at) as change:
            moves = change.clear(id)
            change.write(file, text)
            history.begin(id, at, kind=DEBUG, bugs=names)
    except ArchiveError as error:
        raise NotDone(f"{error}; nothing was written") from error
    except OSError as error:
        raise NotDone(f"{error.filename}: {error.strerror}; nothing was written") from error
    return file, moves


def _tell(history: History, id: str, lacking: str) -> None:
    if not any(attempt.passed for attempt in history.attempts(id)):
        click.echo(f"note  {id} has not passed yet, and this program shows how it goes", err=True)
    if lacking:
        text = f"a machine that has all of it may get another program ({lacking})"
        click.echo(f"note  {text}", err=True)
