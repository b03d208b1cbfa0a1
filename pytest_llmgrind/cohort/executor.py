"""Where jobs are run: what the grading of a cohort asks of this machine, or of a cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from pytest_llmgrind.cohort.bundle import Bundle
from pytest_llmgrind.cohort.job import Job, Settings
from pytest_llmgrind.cohort.run import Outcome


class ExecutorError(Exception):
    """Jobs cannot be run there; the text says why and what to do."""


class Executor(Protocol):
    """Runs jobs beside each other."""

    remarks: list[str]
    """One line each."""

    def run(
        self, jobs: Sequence[Job], exams: Mapping[str, Bundle], settings: Settings
    ) -> Generator[tuple[Job, Outcome], None, None]:
        """Every job once with its outcome, in the order in which they end.

        Closing the generator, or an exception in it, ends what still runs. ``exams`` are the
        challenges by id.
        """

    def close(self) -> None:
        """Give back what it holds."""
