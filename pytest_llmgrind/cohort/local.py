"""Jobs as processes of this machine, so many at a time, each on cores of its own.

A race keeps to one core. Two jobs that drew the same one for theirs would take turns on it, and
the other core would have nothing to do.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from pytest_llmgrind.cohort.bundle import Bundle
from pytest_llmgrind.cohort.job import Job, Settings
from pytest_llmgrind.cohort.run import Outcome, grade


@dataclass(eq=False)
class Local:
    """``at_once`` threads, each waiting for the process of a job."""

    at_once: int
    remarks: list[str] = field(default_factory=list)

    def run(
        self, jobs: Sequence[Job], exams: Mapping[str, Bundle], settings: Settings
    ) -> Generator[tuple[Job, Outcome], None, None]:
        stop = threading.Event()
        shares: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        for share in shares_of(cores(), self.at_once):
            shares.put(share)

        def begin(job: Job) -> Outcome:
            share = shares.get()
            try:
                return grade(job, exams[job.challenge], settings, stop=stop, cores=share)
            finally:
                shares.put(share)

        waiting = iter(jobs)
        running: dict[Future[Outcome], Job] = {}
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                ended: list[tuple[Job, Outcome]] = []
                while True:
                    for job in islice(waiting, self.at_once - len(running)):
                        running[pool.submit(begin, job)] = job
                    yield from ended  # after others have begun in their place
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    ended = [(running.pop(future), future.result()) for future in done]
            finally:
                stop.set()

    def close(self) -> None:
        """It holds nothing between runs."""


def cores() -> list[int]:
    """Those that this process may use; empty where processes cannot be held to some."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def shares_of(cores: Sequence[int], at_once: int) -> list[Sequence[int]]:
    """The cores of each of so many jobs: none in two shares, where there are enough."""
    if at_once > len(cores):
        return [cores] * at_once
    return [cores[first::at_once] for first in range(at_once)]
