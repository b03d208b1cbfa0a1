"""llmgrind check: the gate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_llmgrind.cli._params import ChallengeDir, current

if TYPE_CHECKING:
    from pytest_llmgrind.gate import Finding, Proof


@click.command()
@click.argument("roots", metavar="[ID]...", nargs=-1, type=ChallengeDir())
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
@click.option("--fix", is_flag=True, help="Write the table of budgets into each spec.md.")
@click.option(
    "--jobs", "-j", type=click.IntRange(min=1), help="Challenges at a time (default: all cores)."
)
def check(roots: tuple[Path, ...], as_json: bool, fix: bool, jobs: int | None) -> None:
    """Prove that challenges count: the gate.

    Without an ID, every challenge of the workspace. It runs stub, reference and every planted bug
    and prints a line for each finding: what is wrong, where, what to do. Exit code 0 if nothing
    is found, 1 if something is, 2 for a wrong command line.

    \b
    Example:
      llmgrind check 04_kv_cache
      llmgrind check --json --jobs 4
    """
    from pytest_llmgrind import gate
    from pytest_llmgrind.gate import files

    workspace = current(writable=fix)
    chosen = list(dict.fromkeys(roots)) or [workspace.challenges / id for id in workspace.ids]
    astray = [] if roots else list(files.orphans(workspace))
    proofs: list[Proof] = []
    with _progress(len(chosen)) as bar:
        for proof in gate.check(chosen, jobs=jobs or gate.cores(), fix=fix, step=bar.step):
            proofs.append(proof)
            if not as_json:
                with bar.hidden():
                    _print(proof)
    for finding in astray if not as_json else ():
        click.echo(_line(finding))
    findings = [f for f in [*astray, *(f for p in proofs for f in p.findings)] if not f.note]
    if as_json:
        click.echo(json.dumps(_data(proofs, astray), indent=2))
    else:
        click.secho(_summary(len(chosen), len(findings)), fg="red" if findings else "green")
    raise click.exceptions.Exit(1 if findings else 0)


def _print(proof: Proof) -> None:
    if proof.fixed:
        click.echo(f"{proof.id}: fixed: spec.md has the table of budgets of challenge.toml")
    for finding in proof.findings:
        click.echo(_line(finding))


def _line(finding: Finding) -> str:
    where, rest = finding.shown(Path.cwd()).split(": ", 1)
    return f"{click.style(where, bold=True)}: {rest}"


def _summary(challenges: int, findings: int) -> str:
    from pytest_llmgrind.gate.finding import count

    return f"{count(challenges, 'challenge')}, {count(findings, 'finding')}"


def _data(proofs: list[Proof], astray: list[Finding]) -> dict[str, Any]:
    return {
        "challenges": [
            {
                "id": proof.id,
                "counts": proof.counts,
                "seconds": round(proof.seconds, 2),
                "fixed": proof.fixed,
                "findings": [finding.as_json() for finding in proof.findings],
            }
            for proof in proofs
        ],
        "workspace": [finding.as_json() for finding in astray],
    }


class Silent:
    """No progress: standard error is no terminal."""

    def step(self, id: str, what: str) -> None:
        pass

    def hidden(self) -> AbstractContextManager[None]:
        return nullcontext()


class Bar(Silent):
    """A bar of challenges that are done, and what is being done now."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        busy = TextColumn(
            "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")
        )
        columns = (BarColumn(), MofNCompleteColumn(), busy)
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=total)
        self._now: dict[str, str] = {}

    def step(self, id: str, what: str) -> None:
        """Called from several threads; ``what`` is empty when a challenge is done."""
        self._now[id] = what
        if not what:
            self._progress.advance(self._task)
        busy = ", ".join(f"{id} {what}" for id, what in list(self._now.items()) if what)
        self._progress.update(self._task, description=busy)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        self._progress.stop()
        yield
        self._progress.start()

    @contextmanager
    def shown(self) -> Iterator[Bar]:
        with self._progress:
            yield self


def _progress(total: int) -> AbstractContextManager[Silent]:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bar(total).shown()
    return nullcontext(Silent())
