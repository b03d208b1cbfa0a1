"""llmgrind check: the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_llmgrind.cli._params import ChallengeDir, current
from pytest_llmgrind.cli._progress import progress

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
    with progress(len(chosen)) as bar:
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
