"""llmgrind hint and reveal: help, in steps, and the whole answer."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from pytest_llmgrind import bugs, clock, hints
from pytest_llmgrind.cli._params import (
    ChallengeDir,
    NotDone,
    WrongUsage,
    current,
    manifest_of,
    practised,
    shown,
)
from pytest_llmgrind.history import Attempt, Hint, History
from pytest_llmgrind.manifest import Manifest, Stage
from pytest_llmgrind.workspace import Workspace


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option("--stage", "name", metavar="NAME", help="Of this stage, by its name or number.")
@click.option("--again", is_flag=True, help="Repeat the hints that were given.")
@click.option("--json", "as_json", is_flag=True, help="Print the hint as JSON.")
def hint(root: Path, name: str | None, again: bool, as_json: bool) -> None:
    """Give the next hint for the stage of challenge ID where you are.

    That is the first stage that was not ok in your last run. Each has three hints: where to look,
    the idea, the lines. They are counted, and the board of pytest shows how many you took.

    \b
    Example:
      llmgrind hint 04_kv_cache
      llmgrind hint 04_kv_cache --stage layout
    """
    workspace = current(writable=True)
    manifest = manifest_of(root)
    named = _named(manifest, name) if name else None
    with practised(workspace) as history, history.writing():
        stage, steps = _hints(history, workspace, manifest, named, again=again)
    if as_json:
        click.echo(json.dumps(_data(manifest, stage, steps), indent=2))
        return
    click.echo(f"{_stage(manifest, stage)}: {stage.title}")
    for step in steps:
        click.echo(_wrapped(f"hint {step} of {len(stage.hints)}  {stage.hints[step - 1]}"))


def _hints(
    history: History, workspace: Workspace, manifest: Manifest, named: Stage | None, *, again: bool
) -> tuple[Stage, range]:
    """The stage, and the numbers of the hints to show; a new one is recorded."""
    id, at = manifest.id, clock.now()
    attempt = history.current(id)
    stage = named or hints.stage_of(manifest, attempt, workspace.solutions)
    if stage is None:
        names = ", ".join(stage.name for stage in manifest.stages)
        raise NotDone(f"every stage was ok in your last run; --stage NAME takes one of {names}")
    where, given = _stage(manifest, stage), hints.given(attempt, stage)
    if not stage.hints:
        raise NotDone(f"{where} has no hints")
    if again:
        if not given:
            raise NotDone(f"no hint of {where} was given yet; leave --again out")
        return stage, range(1, given + 1)
    if given >= len(stage.hints):
        count = "its hint was" if len(stage.hints) == 1 else f"all {len(stage.hints)} hints were"
        raise NotDone(f"{where}: {count} given; --again repeats them")
    attempt = attempt or history.begin(id, at)
    history.add_hint(attempt, Hint(at=at, stage=stage.name, step=given + 1))
    return stage, range(given + 1, given + 2)


def _named(manifest: Manifest, name: str) -> Stage:
    for number, stage in enumerate(manifest.stages, start=1):
        if name in (stage.name, str(number)):
            return stage
    known = ", ".join(stage.name for stage in manifest.stages)
    raise WrongUsage(f"--stage: {manifest.id} has no stage {name!r}; it has {known}")


def _stage(manifest: Manifest, stage: Stage) -> str:
    return f"stage {manifest.stage_number(stage)}, {stage.name}"


def _data(manifest: Manifest, stage: Stage, steps: range) -> dict[str, Any]:
    return {
        "challenge": manifest.id,
        "stage": stage.name,
        "number": manifest.stage_number(stage),
        "title": stage.title,
        "hints": [{"step": step, "text": stage.hints[step - 1]} for step in steps],
        "of_hints": len(stage.hints),
    }


def _wrapped(text: str) -> str:
    """A terminal would break lines inside words."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return click.wrap_text(text, width=min(width, 100), subsequent_indent=" " * 13)


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option("--give-up", is_flag=True, help="Before a pass: end the attempt at solving it alone.")
def reveal(root: Path, give_up: bool) -> None:
    """Print the reference solution of challenge ID, after you have passed it.

    With --give-up it is printed before that. The attempt is marked: when it passes all the same,
    it is rated `again`, and the challenge is due again soon.

    \b
    Example:
      llmgrind reveal 04_kv_cache
      llmgrind reveal 04_kv_cache --give-up | less
    """
    workspace = current(writable=True)
    manifest = manifest_of(root)
    file = manifest.reference / f"{manifest.id}.py"
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise NotDone(f"{shown(file)}: {error.strerror}") from error
    with practised(workspace) as history, history.writing():
        attempt = _admitted(history, manifest.id, give_up=give_up)
    for misconception in _planted(manifest, attempt):
        click.echo(f"planted  {misconception}", err=True)
    _print(text)


def _admitted(history: History, id: str, *, give_up: bool) -> Attempt | None:
    """The attempt that may see the reference: passed, or given up now or before."""
    attempt = history.current(id)
    if attempt is None and any(each.passed for each in history.attempts(id)):
        return None
    if attempt is not None and (attempt.passed or attempt.gave_up):
        return attempt
    if not give_up:
        raise NotDone(
            f"{id} has not passed yet; `llmgrind hint {id}` helps,"
            f" `llmgrind reveal {id} --give-up` shows the reference and marks the attempt"
        )
    attempt = attempt or history.begin(id, clock.now())
    history.mark(attempt, "gave_up", clock.now())
    return attempt


def _planted(manifest: Manifest, attempt: Attempt | None) -> list[str]:
    known = {bug.name: bug.misconception for bug in bugs.known(manifest)}
    return [known.get(name, name) for name in (attempt.bugs if attempt else ())]


def _print(text: str) -> None:
    """Highlighted on a terminal; elsewhere the file, byte for byte."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    syntax = Syntax(text, "python", theme="ansi_dark", background_color="default")
    Console().print(syntax.highlight(text), soft_wrap=True, end="")  # printed itself, it is cropped
