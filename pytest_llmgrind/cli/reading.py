"""llmgrind reading: the papers that the specs cite."""

from __future__ import annotations

import json
from typing import Any

import click

from pytest_llmgrind import clock, papers
from pytest_llmgrind.cli._params import WrongUsage, current, practised
from pytest_llmgrind.cli._screen import Column, table
from pytest_llmgrind.papers import NOT_READ, READ, READING, STATES, Paper, PaperError
from pytest_llmgrind.report import words

TYPED = {state.replace(" ", "-"): state for state in STATES}
COLOURS = {READ: "green", READING: "yellow"}
Choice = click.Choice(list(TYPED))


@click.command()
@click.argument("name", metavar="[PAPER]", required=False)
@click.argument("state", metavar="[STATE]", type=Choice, required=False)
@click.option("--state", "only", type=Choice, help="List the papers in one state only.")
@click.option("--json", "as_json", is_flag=True, help="Print papers as JSON.")
def reading(name: str | None, state: str | None, only: str | None, as_json: bool) -> None:
    """List the papers that the challenges cite, or note how far you are with one.

    PAPER is its number in the list, its arXiv id, its title or a part of it that no other has.
    STATE is not-read, reading or done.

    \b
    Example:
      llmgrind reading 3 done
      llmgrind reading RoFormer reading
      llmgrind reading --state not-read
    """
    if name is not None and state is None:
        raise WrongUsage(f"what about {name!r}? add a state: {', '.join(TYPED)}")
    if name is not None and state is not None:
        _set(name, TYPED[state], as_json=as_json)
        return
    workspace = current()
    found = papers.cited({id: workspace.challenges / id / "spec.md" for id in workspace.ids})
    with practised(workspace, make=False) as history:
        states = history.papers()
    rows = [
        (number, paper, states.get(paper.key, NOT_READ))
        for number, paper in enumerate(found, start=1)
    ]
    if only is not None:
        rows = [row for row in rows if row[2] == TYPED[only]]
    if as_json:
        click.echo(json.dumps({"papers": [_as_json(*row) for row in rows]}, indent=2))
    elif rows:
        columns = [Column("", right=True), Column("state"), Column("year")]
        columns += [Column("paper", fit=True), Column("arXiv"), Column("cited by")]
        click.echo(table(columns, [_row(*row) for row in rows], colours=COLOURS))
    else:
        click.echo(f"no paper is in the state {only}" if only else "no paper is cited", err=True)


def _set(name: str, state: str, *, as_json: bool) -> None:
    workspace = current(writable=True)
    found = papers.cited({id: workspace.challenges / id / "spec.md" for id in workspace.ids})
    try:
        paper = papers.pick(found, name)
    except PaperError as error:
        raise WrongUsage(str(error)) from error
    with practised(workspace) as history:
        history.set_paper(paper.key, state, clock.now())
    if as_json:
        click.echo(json.dumps(_as_json(found.index(paper) + 1, paper, state), indent=2))
    else:
        click.echo(f"{state}: {words.clean(paper.title)}")


def _row(number: int, paper: Paper, state: str) -> list[str]:
    cited = " ".join(id.partition("_")[0] for id in paper.challenges)
    return [f"{number}", state, paper.year, words.clean(paper.title), paper.arxiv, cited]


def _as_json(number: int, paper: Paper, state: str) -> dict[str, Any]:
    return {
        "number": number,
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year or None,
        "arxiv": paper.arxiv or None,
        "url": paper.url or None,
        "state": state,
        "challenges": list(paper.challenges),
    }
