"""llmgrind today, llmgrind list: what is due, in play, done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from pytest_llmgrind import clock, status
from pytest_llmgrind.cli._params import WrongUsage, current, practised, shown
from pytest_llmgrind.cli._screen import Column, table
from pytest_llmgrind.report import words
from pytest_llmgrind.status import Status

COLOURS = {"done": "green", "due": "magenta", "in play": "yellow", "debugging": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def today(as_json: bool) -> None:
    """Say what to practise today.

    What is due to be solved again, the longest due first; what is begun and not finished; where
    nothing is due, what to begin next and when something will be due.

    \b
    Example:
      llmgrind today
    """
    statuses = _survey(writable=True)
    plan = _plan(statuses)
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    parts = [*_due(statuses), *_in_play(statuses)]
    click.echo("\n\n".join([*parts, "\n".join(_ahead(statuses))]))


@click.command("list")
@click.option("--track", metavar="NAME", help="List the challenges of one track only.")
@click.option("--json", "as_json", is_flag=True, help="Print challenges as JSON.")
def list_(track: str | None, as_json: bool) -> None:
    """List the challenges: what is done, in play, due, and when it was last practised.

    Stages count as green in the last attempt. Minutes are those of that attempt, and of the
    challenge. Needs are the numbers of the challenges to solve before.

    \b
    Example:
      llmgrind list --track core
    """
    statuses = _survey()
    tracks = list(dict.fromkeys(each.manifest.track for each in statuses))
    if track is not None and track not in tracks:
        raise WrongUsage(f"unknown track {track!r}; there are: {', '.join(tracks)}")
    chosen = [each for each in statuses if track in (None, each.manifest.track)]
    if as_json:
        click.echo(json.dumps({"challenges": [each.as_json() for each in chosen]}, indent=2))
        return
    wide = [_row(each) for each in chosen]
    parts = []
    for name in tracks if track is None else [track]:
        head = [name, "title", "status", "practised"]
        columns = [Column(text, fit=text == "title") for text in head]
        columns += [Column("passes", right=True), Column("min", right=True), Column("needs")]
        rows = [_row(each) for each in chosen if each.manifest.track == name]
        parts.append(table(columns, rows, like=wide, colours=COLOURS))
    click.echo("\n\n".join(parts))


def _survey(*, writable: bool = False) -> list[Status]:
    """Where each challenge stands; those that cannot be read are named on standard error."""
    workspace = current(writable=writable)
    with practised(workspace, make=False) as history:
        statuses, broken = status.survey(workspace, history, clock.now())
    for text in broken:
        click.echo(f"note  {text}", err=True)
    return statuses


def _row(each: Status) -> list[str]:
    minutes = f"{each.manifest.minutes}"
    return [
        each.id,
        words.clean(each.manifest.title),
        each.word,
        clock.day(each.last) if each.last else words.NONE,
        f"{each.passes}" if each.passes else words.NONE,
        f"{each.spent:.0f}/{minutes}" if each.last else minutes,
        " ".join(need.partition("_")[0] for need in each.manifest.needs),
    ]


def _due(statuses: Sequence[Status]) -> Iterator[str]:
    if rows := [
        [
            each.id,
            clock.day(each.due) if each.due else "",
            clock.day(each.last) if each.last else words.NONE,
            each.rating,
            f"{each.manifest.minutes}",
        ]
        for each in status.due(statuses)
    ]:
        head = [Column("due"), Column("since"), Column("practised"), Column("rated")]
        yield table([*head, Column("min", right=True)], rows)


def _in_play(statuses: Sequence[Status]) -> Iterator[str]:
    if rows := [
        [
            each.id,
            "debug" if each.state == status.DEBUGGING else _green(each),
            _stage(each),
            f"{each.tries}",
            f"{each.spent:.0f}/{each.manifest.minutes}",
        ]
        for each in statuses
        if each.is_open
    ]:
        columns = [Column("in play"), Column("green"), Column("next stage", fit=True)]
        columns += [Column("tries", right=True), Column("min", right=True)]
        yield table(columns, rows)


def _green(each: Status) -> str:
    return f"{each.green}/{len(each.manifest.stages)}"


def _stage(each: Status) -> str:
    if each.next is None:
        return words.NONE
    number = each.manifest.stage_number(each.next)
    return words.clean(f"{number} {each.next.name}: {each.next.title}")


def _ahead(statuses: Sequence[Status]) -> Iterator[str]:
    """What to begin and what will be due, where nothing is due; and the command to go on with."""
    if not status.due(statuses):
        coming, begin = status.next_due(statuses), status.begin(statuses)
        later = f"; {coming.id} will be on {_day(coming)}" if coming else ""
        yield f"nothing is due{later}"
        if begin:
            stages = words.plural(len(begin.manifest.stages), "stage")
            title = words.clean(begin.manifest.title)
            yield f"begin {begin.id}: {title}, {stages}, about {begin.manifest.minutes} minutes"
        elif all(each.passes for each in statuses):
            yield "every challenge is done"
    if command := _command(statuses):
        yield f"next  {command}"


def _command(statuses: Sequence[Status]) -> str:
    """What comes first: what is due, what is in play, what nobody began."""
    candidates = [*status.due(statuses), *(each for each in statuses if each.is_open)]
    chosen = next(iter(candidates), None) or status.begin(statuses)
    if chosen is None:
        return ""
    if chosen.is_open:
        return f"pytest {shown(chosen.manifest.root)}"
    return f"llmgrind start {chosen.id}"


def _plan(statuses: Sequence[Status]) -> dict[str, Any]:
    due = status.due(statuses)
    begin = None if due else status.begin(statuses)
    coming = status.next_due(statuses)
    return {
        "due": [each.as_json() for each in due],
        "in_play": [each.as_json() for each in statuses if each.is_open],
        "begin": begin.as_json() if begin else None,
        "next_due": coming.as_json() if coming else None,
        "next": _command(statuses),
    }


def _day(each: Status) -> str:
    return clock.day(each.due) if each.due else ""
