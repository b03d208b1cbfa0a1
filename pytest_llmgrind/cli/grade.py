"""llmgrind grade: other people's solutions, behind walls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_llmgrind.cli import _grading
from pytest_llmgrind.cli._params import ChallengeDir, NotDone, WrongUsage, current, manifest_of
from pytest_llmgrind.report import words
from pytest_llmgrind.workspace import Workspace

if TYPE_CHECKING:
    from pytest_llmgrind.cohort.job import Roll

MISSING = "grade needs msgspec: pip install 'pytest-llmgrind[graded]'"


def options_of_grading(command: Callable[..., None]) -> Callable[..., None]:
    """How grading is done."""
    options = (
        click.option(
            "--jobs",
            "-j",
            type=click.IntRange(min=1),
            help="So many at a time (default: a core each).",
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Processes of this machine, or a Ray cluster.",
        ),
        click.option("--results", metavar="DIR", type=Path, help="Where each result is kept."),
        click.option(
            "--limit",
            metavar="SECONDS",
            type=click.FloatRange(min=1),
            default=300.0,
            show_default=True,
            help="For each entrant and challenge.",
        ),
        click.option("--again", is_flag=True, help="Grade also what is done."),
        click.option("--json", "as_json", is_flag=True, help="Print the leaderboard as JSON."),
        click.option("--markdown", is_flag=True, help="Print the leaderboard as Markdown."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("submissions", metavar="[SUBMISSIONS]", required=False, type=Path)
@click.argument("roots", metavar="[ID]...", nargs=-1, type=ChallengeDir())
@click.option("--base", metavar="DIR", type=Path, help="What a pull request is made against.")
@click.option("--head", metavar="DIR", type=Path, help="The pull request: a checkout.")
@click.option("--junit", metavar="FILE", type=Path, help="Write every test as JUnit XML.")
@options_of_grading
def grade(
    submissions: Path | None,
    roots: tuple[Path, ...],
    base: Path | None,
    head: Path | None,
    junit: Path | None,
    **options: Any,
) -> None:
    """Grade every entrant and print one leaderboard, or grade a pull request.

    An entrant is a directory SUBMISSIONS/NAME/ that holds <id>.py or a package <id>/. Each of its
    challenges, or those that ID names, is graded in a process of its own, the solution behind
    walls. Results are kept: the same command goes on where it was stopped, and grades again what
    was changed. Exit code 0 if everyone has a result, whatever it is.

    With --base and --head, the solutions that the head changes are graded: those in solutions/ and
    in submissions/NAME/. Everything else is taken from the base: the grader, the challenges and
    their tests. Exit code 0 if all that was handed in passes.

    \b
    Example:
      llmgrind grade submissions --jobs 2
      llmgrind grade submissions 01_mlp 03_rope --json
      llmgrind grade --base main --head change --markdown
    """
    if (base is None) != (head is None):
        raise WrongUsage("--base and --head belong together")
    if submissions is not None and base is not None:
        raise WrongUsage("SUBMISSIONS, or --base and --head: one of them")
    if junit is not None and base is None:
        raise WrongUsage("--junit belongs to --base and --head")
    if find_spec("msgspec") is None:
        raise NotDone(MISSING)
    if base is not None and head is not None:
        grade_pull_request(base, head, junit=junit, **options)
        return
    if submissions is None:
        raise WrongUsage("name a directory of submissions, as in `llmgrind grade submissions`")
    grade_cohort(submissions, roots, **options)


def grade_cohort(
    submissions: Path,
    roots: Sequence[Path],
    *,
    results: Path | None,
    as_json: bool,
    markdown: bool,
    **options: Any,
) -> None:
    if as_json and markdown:
        raise WrongUsage("--json and --markdown: one of them")
    roll = _roll(submissions, roots)
    began = time.monotonic()
    home = submissions.resolve()
    root = results or home.parent / ".llmgrind" / "results" / home.name
    if home in root.resolve().parents:
        raise WrongUsage("--results lies in SUBMISSIONS, where every directory is an entrant")
    records, graded = _grading.grade_all(roll, root, **options)
    made = _grading.board_of(roll, records)
    seconds = time.monotonic() - began
    if as_json:
        counts = {"graded": graded, "known": len(roll.jobs) - graded}
        click.echo(json.dumps({**made.as_json(), **counts, "seconds": round(seconds, 3)}, indent=2))
    else:
        _print(made, markdown=markdown)
    _grading.note(_summary(roll, graded, seconds), label="")
    raise click.exceptions.Exit(0 if all(record.final for record in records) else 1)


def grade_pull_request(
    base: Path,
    head: Path,
    *,
    junit: Path | None,
    results: Path | None,
    as_json: bool,
    markdown: bool,
    **options: Any,
) -> None:
    from pytest_llmgrind import pull_request
    from pytest_llmgrind.cli._screen import look
    from pytest_llmgrind.report import junit as junits
    from pytest_llmgrind.report import pull_request as reports

    if as_json and markdown:
        raise WrongUsage("--json and --markdown: one of them")
    for directory in (base, head):
        if not directory.is_dir():
            raise WrongUsage(f"there is no directory {words.clean(str(directory))}")
    workspace = Workspace(base.resolve())
    if not workspace.ids:
        raise NotDone(f"{words.clean(str(base))} has no challenges/")
    try:
        request = pull_request.read(workspace, head, list(_grading.manifests_of(workspace)))
    except OSError as error:
        raise NotDone(f"{words.clean(str(error.filename))}: {error.strerror}") from error
    with _grading.place(results) as root:
        records, _ = _grading.grade_all(request.roll, root, **options)
        made = _grading.board_of(request.roll, records)
        if junit is not None:
            try:
                junits.write(junit, records)
            except OSError as error:
                raise NotDone(f"{words.clean(str(junit))}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(reports.document(request, records, made), indent=2))
    elif markdown:
        click.echo(reports.markdown(request, records, made), nl=False)
    else:
        click.echo(reports.render(request, records, made, look()), nl=False)
    raise click.exceptions.Exit(0 if reports.passes(request, records) else 1)


def _roll(submissions: Path, roots: Sequence[Path]) -> Roll:
    """Who is there; nobody ends the verb."""
    from pytest_llmgrind.cohort import job

    if not submissions.is_dir():
        raise WrongUsage(f"there is no directory {words.clean(str(submissions))}")
    manifests = [manifest_of(root) for root in dict.fromkeys(roots)] or list(
        _grading.manifests_of(current())
    )
    try:
        roll = job.call(submissions, manifests, named=bool(roots))
    except OSError as error:
        raise NotDone(f"{words.clean(str(error.filename))}: {error.strerror}") from error
    for remark in roll.remarks:
        _grading.note(remark)
    if not roll.jobs:
        where = words.clean(str(submissions))
        ids = words.few([manifest.id for manifest in manifests], 6)
        raise NotDone(f"nobody in {where} has {where}/<name>/<id>.py for {ids}")
    return roll


def _print(made: Any, *, markdown: bool) -> None:
    from pytest_llmgrind.cli._screen import look
    from pytest_llmgrind.report import cohort

    text = cohort.markdown(made) if markdown else cohort.render(made, look())
    click.echo(text.rstrip("\n"))


def _summary(roll: Roll, graded: int, seconds: float) -> str:
    entrants = words.plural(len(roll.entrants), "entrant")
    of = f"{entrants}, {words.plural(len(roll.exams), 'challenge')}"
    if not graded:
        return f"{of}: nothing was left to grade; --again grades all"
    rate = f"{graded * 60 / seconds:.1f} a minute"
    known = f", {len(roll.jobs) - graded} were done before" if graded < len(roll.jobs) else ""
    return f"{of}: {graded:,} graded in {seconds:.0f} s, {rate}{known}"
