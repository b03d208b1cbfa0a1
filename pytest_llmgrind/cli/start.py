"""llmgrind start: begin a challenge, or begin it again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from pytest_llmgrind import archive, changes, clock, interface
from pytest_llmgrind.archive import ArchiveError
from pytest_llmgrind.changes import Changing
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    WrongUsage,
    current,
    manifest_of,
    practised,
    shown,
)
from pytest_llmgrind.history import SOLVE, Attempt, History
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.workspace import Workspace

DAY_MINUTES = 24 * 60


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option(
    "--minutes",
    type=click.IntRange(1, DAY_MINUTES),
    help="A timed interview: the clock begins now, every run shows what is left.",
)
@click.option(
    "--solutions",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Put it into DIR instead of the workspace's solutions directory.",
)
def start(root: Path, minutes: int | None, solutions: Path | None) -> None:
    """Copy the stub of challenge ID to where you solve it.

    ID is a challenge's id, its number or a path to it. A solution that has passed is archived, and
    you begin again; any other is left as it is: start says what is there and ends with exit code 1.

    \b
    Example:
      llmgrind start 04_kv_cache
      llmgrind start 04_kv_cache --minutes 45
    """
    workspace = current(writable=True)
    manifest = manifest_of(root)
    directory = solutions or workspace.solutions
    if directory.resolve() == workspace.solutions.resolve():
        begun = _practise(workspace, manifest, minutes)
    elif minutes is not None:
        raise WrongUsage(f"--minutes: {shown(directory)} is not where you practise; leave one out")
    else:
        begun = _copy(manifest, directory)
    for line in begun.lines:
        click.echo(line)
    option = f" --solutions {shown(solutions)}" if solutions else ""
    click.echo(f"spec  {shown(manifest.spec)}")
    click.echo(f"next  pytest {shown(manifest.root)}{option}")
    if not begun.done:
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class Begun:
    """What there is to say; ``done`` if there is something to begin with now."""

    lines: tuple[str, ...]
    done: bool = True


def _practise(workspace: Workspace, manifest: Manifest, minutes: int | None) -> Begun:
    """In the workspace's own directory: with an attempt, if the history can be used."""
    with ExitStack() as stack:
        try:
            history = stack.enter_context(practised(workspace))
        except NotDone as error:
            click.echo(f"note  {error.message}", err=True)
            return _copy(manifest, workspace.solutions)
        return _begin(history, workspace, manifest, minutes)


def _begin(
    history: History, workspace: Workspace, manifest: Manifest, minutes: int | None
) -> Begun:
    id, file = manifest.id, workspace.solutions / f"{manifest.id}.py"
    try:
        text = manifest.stub.read_bytes()
        at = clock.now()
        with changes.changing(history, workspace, f"start {id}", at=at) as change:
            there, attempt = archive.places(id, workspace.solutions), history.current(id)
            if there and attempt is not None and attempt.passed:
                kept = [shown(move.kept) for move in change.clear(id)]
                lines = [f"kept  {' and '.join(kept)}; llmgrind undo takes it back"]
            elif minutes is not None and there == [file] and _holds(file, text):
                history.begin(id, at, minutes=minutes)
                return Begun((f"{shown(file)} is still the stub", *_timed(change, minutes)))
            elif there:
                return Begun(_refused(manifest, there[0], minutes), done=False)
            else:
                lines = []
            change.write(file, text)
            if minutes is not None or not _goes_on(attempt):
                history.begin(id, at, minutes=minutes)
            return Begun((_yours(manifest, file), *lines, *_timed(change, minutes)))
    except ArchiveError as error:
        raise NotDone(f"{error}; nothing was written") from error
    except OSError as error:
        raise NotDone(f"{error.filename}: {error.strerror}; nothing was written") from error


def _holds(file: Path, text: bytes) -> bool:
    return file.is_file() and file.read_bytes() == text


def _goes_on(attempt: Attempt | None) -> bool:
    """Hints came before the stub, or its file was deleted: that is the same attempt."""
    return attempt is not None and attempt.is_open and attempt.kind == SOLVE


def _copy(manifest: Manifest, directory: Path) -> Begun:
    """The stub alone: this is no practice."""
    file = directory / f"{manifest.id}.py"
    if there := archive.places(manifest.id, directory):
        return Begun(_refused(manifest, there[0], None), done=False)
    try:
        text = manifest.stub.read_bytes()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as out:
            out.write(text)
    except OSError as error:
        raise NotDone(f"{error.filename}: {error.strerror}; nothing was written") from error
    return Begun((_yours(manifest, file),))


def _yours(manifest: Manifest, file: Path) -> str:
    stages = f"{len(manifest.stages)} stage{'s' if len(manifest.stages) > 1 else ''}"
    return f"{shown(file)} is yours: {manifest.title}, {stages}, about {manifest.minutes} minutes"


def _timed(change: Changing, minutes: int | None) -> list[str]:
    if minutes is None:
        return []
    end = change.at + timedelta(minutes=minutes)
    return [f"timed {clock.span(minutes)}, from now until {clock.shown(end)}"]


def _refused(manifest: Manifest, there: Path, minutes: int | None) -> tuple[str, ...]:
    lines = [f"{shown(there)} is there already: {_contents(there)}; nothing was written"]
    if minutes is not None:
        lines += [f"no clock runs: it begins at a stub; llmgrind reset {manifest.id} makes room"]
    return tuple(lines)


def _contents(path: Path) -> str:
    """What a solution holds: how much of it is to do, and when it was changed."""
    if path.is_dir():
        return "a package" if (path / "__init__.py").is_file() else "a directory"
    try:
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        lines = path.read_bytes().count(b"\n")
        functions = [name for name in interface.names(path) if name.signature is not None]
    except OSError as error:
        return str(error.strerror)
    except (SyntaxError, ValueError):
        return f"{lines} lines, changed {changed}"
    to_do = sum(bool(name.todo) for name in functions)
    return f"{to_do} of {len(functions)} functions to do, changed {changed}"
