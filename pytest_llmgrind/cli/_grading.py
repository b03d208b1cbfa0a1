"""What the verbs that grade others share: jobs in, records out, each kept when it is there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_llmgrind.cli import INTERRUPTED
from pytest_llmgrind.cli._params import NotDone
from pytest_llmgrind.cli._progress import progress
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.manifest import load as load_manifest
from pytest_llmgrind.report import words
from pytest_llmgrind.workspace import Workspace

if TYPE_CHECKING:
    from pytest_llmgrind.cohort.board import CohortBoard
    from pytest_llmgrind.cohort.executor import Executor
    from pytest_llmgrind.cohort.job import Job, Roll, Settings
    from pytest_llmgrind.cohort.ledger import Ledger, Record


def grade_all(
    roll: Roll, root: Path, *, jobs: int | None, executor: str, limit: float, again: bool
) -> tuple[list[Record], int]:
    """A record for each job, and how many of them are new."""
    from pytest_llmgrind.cohort.job import Settings
    from pytest_llmgrind.seeds import secret
    from pytest_llmgrind.tiers import hardware

    settings = Settings(limit_s=limit, seed=secret())
    with _ledger(root) as ledger:
        records = {} if again else _done(roll, ledger, settings)
        left = [job for job in roll.jobs if _name(job) not in records]
        if left:
            at_once = jobs or hardware().cores
            try:
                with _executor(executor, at_once) as where:
                    for record in _graded(left, roll, settings, where, ledger):
                        records[record.entrant, record.challenge] = record
            except KeyboardInterrupt:
                done = f"{len(records)} of {words.plural(len(roll.jobs), 'result')}"
                note(f"interrupted: {done} are kept; the same command without --again goes on")
                raise click.exceptions.Exit(INTERRUPTED) from None
    return [records[_name(job)] for job in roll.jobs], len(left)


def board_of(roll: Roll, records: Sequence[Record]) -> CohortBoard:
    from pytest_llmgrind.cohort import board

    return board.build([exam.manifest for exam in roll.exams.values()], records)


@contextmanager
def place(results: Path | None) -> Iterator[Path]:
    """Where results are kept, or a place that is gone afterwards."""
    if results is not None:
        yield results
        return
    with tempfile.TemporaryDirectory(prefix="llmgrind-") as scratch:
        yield Path(scratch)


def manifests_of(workspace: Workspace) -> Iterator[Manifest]:
    for id in workspace.ids:
        try:
            yield load_manifest(workspace.challenges / id)
        except ManifestError as error:
            note(f"{id} is left out: {error}")


@contextmanager
def _ledger(root: Path) -> Iterator[Ledger]:
    from pytest_llmgrind.cohort.ledger import Ledger, LedgerError

    try:
        with Ledger.open(root) as ledger:
            yield ledger
    except LedgerError as error:
        raise NotDone(str(error)) from error


@contextmanager
def _executor(name: str, at_once: int) -> Iterator[Executor]:
    from pytest_llmgrind.cohort.executor import ExecutorError
    from pytest_llmgrind.cohort.local import Local
    from pytest_llmgrind.cohort.on_ray import OnRay

    try:
        found: Executor = OnRay(at_once) if name == "ray" else Local(at_once)
    except ExecutorError as error:
        raise NotDone(str(error)) from error
    with closing(found):
        yield found


def _done(roll: Roll, ledger: Ledger, settings: Settings) -> dict[tuple[str, str], Record]:
    found = {}
    for job in roll.jobs:
        record = ledger.done(job, roll.exams[job.challenge], settings)
        if record is not None:
            found[_name(job)] = record
    for remark in ledger.remarks:
        note(remark)
    return found


def _graded(
    left: Sequence[Job], roll: Roll, settings: Settings, executor: Executor, ledger: Ledger
) -> Iterator[Record]:
    """Each job's record, once it is kept; a line for each on standard error."""
    from pytest_llmgrind.cohort import board
    from pytest_llmgrind.report import cohort

    exams = {id: exam.files for id, exam in roll.exams.items()}
    with progress(len(left)) as bar, closing(executor.run(left, exams, settings)) as outcomes:
        for job, outcome in outcomes:
            exam = roll.exams[job.challenge]
            record = ledger.write(job, exam, settings, outcome)
            part = board.part(record, exam.manifest)
            bar.step(f"{words.cut(job.entrant)} {job.challenge}", "")
            with bar.hidden():
                said = cohort.reached(part, exam.manifest)
                note(f"{words.cut(job.entrant)}, {job.challenge}: {said}", label="")
            yield record
    for remark in executor.remarks:
        note(remark)


def _name(job: Job) -> tuple[str, str]:
    return job.entrant, job.challenge


def note(text: str, *, label: str = "note  ") -> None:
    click.echo(f"{label}{text}", err=True)
