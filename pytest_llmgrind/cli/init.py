"""llmgrind init: lay out a workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from pytest_llmgrind import workspace
from pytest_llmgrind.cli._params import NotDone, WrongUsage
from pytest_llmgrind.workspace import WorkspaceError

PYPROJECT = """\
[tool.pytest.ini_options]
minversion = "8.3"
testpaths = ["challenges"]
llmgrind_solutions = "solutions"
"""
GITIGNORE = """\
__pycache__/
.venv/
.pytest_cache/
.hypothesis/
.benchmarks/
.llmgrind/
"""


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Lay out a workspace in DIR.

    It holds the challenges, their references, an empty solutions directory and the settings of
    pytest. DIR is made, or has to be empty: nothing is ever overwritten.

    \b
    Example:
      llmgrind init grind && cd grind
      llmgrind start 04_kv_cache
    """
    try:
        suite = workspace.suite()
    except WorkspaceError as error:
        raise WrongUsage(str(error)) from error
    _refuse(directory)
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(suite.challenges, directory / "challenges", ignore=skip)
        shutil.copytree(suite.reference, directory / "reference", ignore=skip)
        (directory / "solutions").mkdir()
        (directory / "pyproject.toml").write_text(PYPROJECT, "utf-8")
        (directory / ".gitignore").write_text(GITIGNORE, "utf-8")
    except OSError as error:
        raise NotDone(f"{directory}: {error.strerror or error}") from error
    found = workspace.Workspace(directory.resolve())
    count = f"{len(found.ids)} challenge{'s' if len(found.ids) != 1 else ''}"
    click.echo(f"{directory} is a workspace with {count}")
    click.echo(f"next  cd {directory} && llmgrind start {found.ids[0]}")


def _refuse(directory: Path) -> None:
    if directory.is_dir() and any(directory.iterdir()):
        first = sorted(path.name for path in directory.iterdir())[0]
        raise NotDone(
            f"{directory} is not empty (it holds {first}); name a new or an empty directory"
        )
    if directory.exists() and not directory.is_dir():
        raise NotDone(f"{directory} is a file; name a new or an empty directory")
