"""Jobs as tasks of a Ray cluster. Ray is imported when it is asked for."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pytest_llmgrind.cohort.bundle import Bundle
from pytest_llmgrind.cohort.executor import ExecutorError
from pytest_llmgrind.cohort.job import Job, Settings
from pytest_llmgrind.cohort.run import Outcome, grade
from pytest_llmgrind.plain import line
from pytest_llmgrind.report.result import versions

MISSING = "--executor ray needs Ray: pip install 'pytest-llmgrind[ray]'"
ADDRESS = "RAY_ADDRESS"
RETRIES = 3
"""How often a task begins anew after its node was lost."""
PATIENCE_S = 5.0
AHEAD = 2
"""Tasks in flight for each core, so that no node waits for the next."""
STORE_BYTES = 128 << 20
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
PACKAGE = "pytest-llmgrind"


@dataclass(eq=False)
class OnRay:
    """The cluster at ``RAY_ADDRESS``, else one of this machine's ``at_once`` cores for this run.

    A node needs this package in the same version, with the extra ``graded``, and bubblewrap; the
    files of a job travel with it.
    """

    at_once: int
    address: str = ""
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ExecutorError(MISSING)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        self.ray: Any = ray
        self.address = self.address or os.environ.get(ADDRESS, "")
        self._look()
        own: dict[str, Any] = {"num_cpus": self.at_once, "object_store_memory": STORE_BYTES}
        options = {"address": self.address} if self.address else {"address": "local", **own}
        try:
            ray.init(
                **options,
                include_dashboard=False if not self.address else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"the cluster at {line(self.address)}" if self.address else "a local cluster"
            raise ExecutorError(f"Ray: {where} cannot be used: {line(str(error), 300)}") from error

    def run(
        self, jobs: Sequence[Job], exams: Mapping[str, Bundle], settings: Settings
    ) -> Generator[tuple[Job, Outcome], None, None]:
        ray, waiting = self.ray, iter(jobs)
        task = ray.remote(grade)
        most_gpus = self._most_gpus(jobs)
        sent = {id: ray.put(exam) for id, exam in exams.items()}
        running: dict[Any, Job] = {}
        try:
            ended: list[tuple[Job, Outcome]] = []
            while True:
                for job in islice(waiting, max(0, self._room() - len(running))):
                    needs = {"num_cpus": 1, "num_gpus": min(job.gpus, most_gpus)}
                    asked = task.options(**needs, max_retries=RETRIES, name=job.challenge)
                    running[asked.remote(job, sent[job.challenge], settings)] = job
                yield from ended
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                ended = [(running.pop(ref), self._outcome(ref)) for ref in done]
        finally:
            for ref in running:
                ray.cancel(ref, force=True)

    def close(self) -> None:
        self.ray.shutdown()

    def _look(self) -> None:
        """Whether there is anything at the address: Ray itself takes two minutes to say no."""
        host, _, port = self.address.rpartition(":")
        if host.startswith("ray:"):
            cure = "grade on a machine of the cluster, with RAY_ADDRESS=auto"
            raise ExecutorError(f"Ray: {line(self.address)} is for Ray Client; {cure}")
        if not host or not port.isdecimal():
            return
        try:
            socket.create_connection((host, int(port)), PATIENCE_S).close()
        except (OSError, ValueError, OverflowError) as error:
            text = f"nothing answers at {line(self.address)}: {line(str(error))}"
            raise ExecutorError(f"Ray: {text}; {ADDRESS} names the cluster") from error

    def _room(self) -> int:
        """How many tasks may be in flight; a cluster may grow and shrink."""
        cores = int(self.ray.cluster_resources().get("CPU", 1)) if self.address else self.at_once
        return max(1, AHEAD * cores)

    def _most_gpus(self, jobs: Sequence[Job]) -> int:
        """The GPUs of the best node: a task that asks for more would wait for ever."""
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        most = int(max((node.get("GPU", 0) for node in alive), default=0))
        for id, gpus in sorted({(job.challenge, job.gpus) for job in jobs}):
            if gpus > most:
                self.remarks.append(f"{id} can use {gpus} GPUs, the best node has {most}")
        return most

    def _outcome(self, ref: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            return Outcome(reason=f"Ray lost it: {line(f'{type(error).__name__}: {error}', 200)}")
        theirs = (outcome.result or {}).get("versions", {}).get(PACKAGE)
        if theirs is not None and theirs != (ours := versions()[PACKAGE]):
            reason = f"a node has {PACKAGE} {line(str(theirs))}, here it is {ours}"
            return Outcome(reason=reason, seconds=outcome.seconds)
        return outcome
