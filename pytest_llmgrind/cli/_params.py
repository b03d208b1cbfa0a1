"""What verbs share: the workspace, an argument that names a challenge, paths as users type them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pytest_llmgrind import clock, workspace
from pytest_llmgrind.clock import ClockError
from pytest_llmgrind.history import History, HistoryError, open_history
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.manifest import load as load_manifest
from pytest_llmgrind.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    ParamType = click.ParamType[Path]
else:
    ParamType = click.ParamType  # older releases of click cannot be subscripted


class NotDone(click.ClickException):
    """Nothing was done, for the reason given; exit code 1."""

    exit_code = 1


class WrongUsage(click.ClickException):
    """The command line means nothing here; exit code 2, without the usage text."""

    exit_code = 2


class ChallengeDir(ParamType):
    """A challenge by its id, number, slug or path; becomes its directory."""

    name = "id"

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        if isinstance(value, Path):
            return value
        try:
            return current().resolve(value)
        except WorkspaceError as error:
            raise WrongUsage(str(error)) from error

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            ids = current().ids
        except WrongUsage:
            return []
        return [CompletionItem(id) for id in ids if id.startswith(incomplete)]


def current(*, writable: bool = False) -> Workspace:
    """The workspace around the current directory, else the installed suite.

    With ``writable`` the packaged suite will not do: nobody keeps solutions in site-packages.
    """
    try:
        return workspace.find(Path.cwd())
    except WorkspaceError as nowhere:
        try:
            installed = workspace.suite()
        except WorkspaceError as error:
            raise WrongUsage(str(error)) from error
        if writable:
            raise WrongUsage(str(nowhere)) from nowhere
        return installed


def manifest_of(root: Path) -> Manifest:
    """The manifest of a challenge's directory; its mistakes end the verb with one line."""
    try:
        return load_manifest(root)
    except ManifestError as error:
        raise NotDone(str(error)) from error


@contextmanager
def practised(workspace: Workspace, *, make: bool = True) -> Iterator[History]:
    """The history of a workspace; its remarks go to standard error, its mistakes end the verb.

    Without ``make``, as for verbs that only read, nothing is written where there is none.
    """
    try:
        clock.now()  # LLMGRIND_NOW may be wrong
        with open_history(workspace.root, make=make) as history:
            for remark in history.remarks:
                click.echo(f"note  {remark}", err=True)
            yield history
    except (HistoryError, ClockError) as error:
        raise NotDone(str(error)) from error


def shown(path: Path) -> str:
    """A path as a user would type it here: relative to the current directory where it is near."""
    near = os.path.relpath(path)
    return near if near.count("..") <= 2 else str(path)
