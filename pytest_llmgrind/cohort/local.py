"""Jobs as processes of this machine, so many at a time."""

from __future__ import annotations

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
        waiting = iter(jobs)
        running: dict[Future[Outcome], Job] = {}
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                ended: list[tuple[Job, Outcome]] = []
                while True:
                    for job in islice(waiting, self.at_once - len(running)):
                        exam = exams[job.challenge]
                        running[pool.submit(grade, job, exam, settings, stop=stop)] = job
                    yield from ended  # after others have begun in their place
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    ended = [(running.pop(future), future.result()) for future in done]
            finally:
                stop.set()

    def close(self) -> None:
        """It holds nothing between runs."""
