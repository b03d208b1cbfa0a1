"""llmgrind doctor: what this machine can do, and whether the walls of graded mode hold."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_llmgrind import workspace as workspaces
from pytest_llmgrind.report.result import versions
from pytest_llmgrind.tiers import hardware
from pytest_llmgrind.workspace import WorkspaceError

if TYPE_CHECKING:
    from pytest_llmgrind.graded.trial import Attack

EXTRAS = {
    "xdist": "xdist",
    "watch": "watchfiles",
    "notebook": "nbformat",
    "graded": "msgspec",
    "torch": "torch",
    "gpu": "pynvml",
    "ray": "ray",
}
"""Each with a module that it brings."""
USERNS = "kernel.apparmor_restrict_unprivileged_userns=0"


@click.command()
@click.option("--strict", is_flag=True, help="Exit code 1 unless the walls stand and hold.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(strict: bool, as_json: bool) -> None:
    """Say what this machine can run, and attack the walls of graded mode.

    A few small attacks run in a worker, as a solution would: they look for files, secrets, the
    network and other processes, and go beyond the limits. None harms a machine without walls.

    \b
    Example:
      llmgrind doctor
      llmgrind doctor --strict
    """
    from pytest_llmgrind.graded.sandbox import BUBBLEWRAP, walls

    can_grade = find_spec("msgspec") is not None
    found = walls()
    attacks = list(_attacks()) if can_grade else []
    if as_json:
        click.echo(json.dumps(_document(found, attacks), indent=2))
    else:
        _print(found, attacks, can_grade=can_grade)
    if strict and not (found.level == BUBBLEWRAP and attacks and all(a.held for a in attacks)):
        raise click.exceptions.Exit(1)


def _attacks() -> Iterator[Attack]:
    from pytest_llmgrind.graded import trial
    from pytest_llmgrind.graded.sandbox import walls

    yield from trial.run(walls())


def _print(found: Any, attacks: list[Attack], *, can_grade: bool) -> None:
    for label, text in _machine():
        click.echo(f"{label:<11}{text}")
    click.echo(f"{'walls':<11}{found.level}{f': {found.why}' if found.why else ''}")
    if "does not work" in found.why:
        click.echo(f"{'':<11}on Ubuntu 24.04: sudo sysctl -w {USERNS}")
    if not can_grade:
        click.echo(f"{'':<11}nothing was tried: pip install 'pytest-llmgrind[graded]'")
    for attack in attacks:
        word = "held" if attack.held else "OPEN"
        click.echo(f"  {word}  {attack.what}{f': {attack.how}' if attack.how else ''}")


def _machine() -> Iterator[tuple[str, str]]:
    known = versions()
    yield "python", f"{known.pop('python')}, {platform.system()} {platform.machine()}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in known.items())
    yield "machine", hardware().shown
    there = _extras()
    missing = [extra for extra in EXTRAS if extra not in there]
    yield "extras", ", ".join(there) or "none"
    if missing:
        yield "", f"not here: {', '.join(missing)} (pip install 'pytest-llmgrind[{missing[0]}]')"
    try:
        here = workspaces.find(Path.cwd())
        yield "workspace", f"{len(here.ids)} challenges"
    except WorkspaceError as error:
        yield "workspace", str(error).splitlines()[0]


def _extras() -> list[str]:
    return [extra for extra, module in EXTRAS.items() if find_spec(module) is not None]


def _document(found: Any, attacks: list[Attack]) -> dict[str, Any]:
    return {
        "versions": versions(),
        "machine": hardware().shown,
        "extras": _extras(),
        "walls": found.level,
        "why": found.why,
        "attacks": [asdict(attack) for attack in attacks],
    }
