"""llmgrind new: lay out a challenge."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from pytest_llmgrind.cli._params import NotDone, WrongUsage, current, shown
from pytest_llmgrind.manifest import ID, KITS
from pytest_llmgrind.workspace import Workspace

FILES = ("challenge.toml", "spec.md", "stub.py", "hidden/1_first.py", "hidden/bugs.toml")
IMPORTS = {"np": '"numpy"', "torch": '"torch"', "triton": '"torch", "triton"'}


@click.command()
@click.argument("slug")
@click.option("--title", help="Title of the challenge; made from SLUG if not given.")
@click.option("--kit", type=click.Choice(KITS), default="np", show_default=True)
def new(slug: str, title: str | None, kit: str) -> None:
    """Lay out a challenge; you write the rest.

    SLUG is an id like 42_losses, or losses alone: that takes the next free number. `llmgrind
    check` lists what is left to write. Nothing is ever overwritten.

    \b
    Example:
      llmgrind new losses --title "Loss functions"
    """
    workspace = current(writable=True)
    id = _free_id(workspace, slug)
    words = id.partition("_")[2].replace("_", " ")
    names = {
        "id": id,
        "title": title or words[:1].upper() + words[1:],
        "kit": kit,
        "imports": IMPORTS[kit],
    }
    targets = {name: workspace.challenges / id / name for name in FILES}
    targets["reference.py"] = workspace.reference / f"{id}.py"
    if there := [path for path in targets.values() if path.exists()]:
        raise NotDone(f"{shown(there[0])} is there already; nothing was written")
    for name, path in targets.items():
        _write(path, name, names)
        click.echo(f"wrote {shown(path)}")
    click.echo(f"next  llmgrind check {id}")


def _free_id(workspace: Workspace, slug: str) -> str:
    numbers = {id.partition("_")[0]: id for id in workspace.ids}
    if re.match(r"\d", slug):
        id, number = slug, slug.partition("_")[0]
        if number in numbers and numbers[number] != id:
            raise WrongUsage(f"number {number} is taken by {numbers[number]}")
    else:
        used = [int(number) for number in numbers if number.isdecimal()]
        id = f"{max(used, default=0) + 1:02d}_{slug}"
    if not ID.fullmatch(id):
        raise WrongUsage(
            f"{slug!r} is no id: wanted small letters, digits and _, like {_clean(id)!r}"
        )
    return id


def _clean(id: str) -> str:
    """The id that comes next to what was typed."""
    number, _, slug = id.partition("_")
    words = re.sub(r"\W+", "_", slug.lower()).strip("_")
    return f"{int(number):02d}_{words or 'losses'}" if number.isdecimal() else "42_losses"


def _write(path: Path, name: str, names: dict[str, str]) -> None:
    text = files("pytest_llmgrind.cli").joinpath(f"template/{name}.txt").read_text("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as out:
            out.write(Template(text).substitute(names))
    except OSError as error:
        raise NotDone(f"{shown(path)}: {error.strerror}") from error
