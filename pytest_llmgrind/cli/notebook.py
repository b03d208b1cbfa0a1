"""llmgrind notebook: solve a challenge in Jupyter."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from pytest_llmgrind import clock
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    current,
    manifest_of,
    practised,
    shown,
)
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.workspace import Workspace


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
def notebook(root: Path) -> None:
    """Write challenge ID as a Jupyter notebook.

    notebooks/<id>.ipynb has the spec, a cell for the code of each stage, and below it a check that
    grades your cells in a fresh process. Nothing is ever overwritten: where there is a notebook, it
    says what is there and ends with exit code 1.

    \b
    Example:
      llmgrind notebook 04_kv_cache
      jupyter lab notebooks/04_kv_cache.ipynb
    """
    if find_spec("nbformat") is None:
        raise NotDone("notebook needs nbformat: pip install 'pytest-llmgrind[notebook]'")
    workspace = current(writable=True)
    manifest = manifest_of(root)
    file = workspace.root / "notebooks" / f"{manifest.id}.ipynb"
    if os.path.lexists(file):
        raise NotDone(
            f"{shown(file)} is there already: {_contents(file)}; nothing was written;"
            " rename it to begin anew"
        )
    _write(manifest, file)
    count = len(manifest.stages)
    stages = f"{count} stage{'s' if count > 1 else ''}"
    click.echo(
        f"{shown(file)} is yours: {manifest.title}, {stages}, about {manifest.minutes} minutes"
    )
    click.echo(f"next  jupyter lab {shown(file)}")
    _begin(workspace, manifest)


def _write(manifest: Manifest, file: Path) -> None:
    from pytest_llmgrind.notebook.write import write

    try:
        write(manifest, file)
    except OSError as error:
        where = error.filename or file
        raise NotDone(f"{where}: {error.strerror or error}; nothing was written") from error
    except (SyntaxError, ValueError) as error:
        raise NotDone(f"{shown(manifest.stub)}: {error}; nothing was written") from error


def _begin(workspace: Workspace, manifest: Manifest) -> None:
    """The clock of the attempt starts here, unless it is ticking or the runs will not count."""
    from pytest_llmgrind.notebook.checks import is_ours

    if not is_ours(workspace, manifest):
        there = shown(workspace.solutions / f"{manifest.id}.py")
        click.echo(
            f"note  {there} is no notebook's: checks leave it alone, and are not recorded as"
            " practice while it is there",
            err=True,
        )
        return
    with practised(workspace) as history:
        if history.current(manifest.id) is None:
            history.begin(manifest.id, clock.now())


def _contents(file: Path) -> str:
    """What a notebook holds: its cells, and when it was changed."""
    try:
        changed = clock.shown(datetime.fromtimestamp(file.stat().st_mtime, UTC))
        cells = json.loads(file.read_text("utf-8"))["cells"]
    except OSError as error:
        return str(error.strerror)
    except (ValueError, LookupError, TypeError):
        return f"no notebook, changed {changed}"
    return f"{len(cells)} cells, changed {changed}"
