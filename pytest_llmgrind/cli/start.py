"""llmgrind start: begin a challenge."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from pytest_llmgrind import interface
from pytest_llmgrind.cli._params import ChallengeDir, NotDone, current, manifest_of, shown


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option(
    "--solutions",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Put it into DIR instead of the workspace's solutions directory.",
)
def start(root: Path, solutions: Path | None) -> None:
    """Copy the stub of challenge ID to where you solve it.

    ID is a challenge's id, its number or a path to it. Nothing is ever overwritten: where there is
    a solution, it says what is there and ends with exit code 1.

    \b
    Example:
      llmgrind start 04_kv_cache
    """
    directory = solutions or current(writable=True).solutions
    manifest = manifest_of(root)
    file = directory / f"{manifest.id}.py"
    there = next((p for p in (file, directory / manifest.id) if os.path.lexists(p)), None)
    if there:
        click.echo(f"{shown(there)} is there already: {_contents(there)}; nothing was written")
    else:
        _copy(manifest.stub, file)
        stages = f"{len(manifest.stages)} stage{'s' if len(manifest.stages) > 1 else ''}"
        click.echo(
            f"{shown(file)} is yours: {manifest.title}, {stages}, about {manifest.minutes} minutes"
        )
    option = f" --solutions {shown(solutions)}" if solutions else ""
    click.echo(f"spec  {shown(manifest.spec)}")
    click.echo(f"next  pytest {shown(manifest.root)}{option}")
    if there:
        raise click.exceptions.Exit(1)


def _copy(stub: Path, file: Path) -> None:
    try:
        text = stub.read_bytes()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as out:
            out.write(text)
    except OSError as error:
        raise NotDone(f"{error.filename}: {error.strerror}; nothing was written") from error


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
