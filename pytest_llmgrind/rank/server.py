"""A process that starts ranks: it imports torch once, computes nothing, and forks.

Its parent writes a job a line and reads a line for each; the end of its input is the end of it and
of every rank. A rank costs 0.02 s this way, where a fresh interpreter costs more than a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from pytest_llmgrind.rank import child, orphans
from pytest_llmgrind.rank.job import Job

GRACE_S = 0.5
"""How long other ranks may still say what went wrong, after the first one has failed."""

IMPORT_S = 60.0
"""How long a rank may take to import torch, which is not counted as its own time."""


def serve() -> None:
    """Take jobs from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orphans.adopt()
    jobs, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    while line := _line(jobs):
        endings = Ranks(Job.from_json(line), jobs=jobs, answers=answers).run()
        os.write(answers, (json.dumps(endings) + "\n").encode())


def _line(fd: int) -> str:
    """A line of input, unbuffered, so that select sees what is left."""
    text = b""
    while not text.endswith(b"\n"):
        got = os.read(fd, 1 << 16)
        if not got:
            return ""
        text += got
    return text.decode()


@dataclass
class _Rank:
    """A process, and its exit code when it has one: below zero for a signal, as subprocess does."""

    pid: int
    code: int | None = None
    late: bool = False


class Ranks:
    """The processes of one job."""

    def __init__(self, job: Job, *, jobs: int, answers: int) -> None:
        self.job = job
        self.group = 0
        self._jobs, self._answers = jobs, answers
        self._life, self._hold = os.pipe()  # the ranks end when nobody holds it
        self._wake, self._woken = os.pipe()  # a byte for each process that ends
        self._started: list[_Rank] = []

    def run(self) -> list[dict[str, Any]]:
        """How each rank ended, when all have."""
        if self.job.fork:
            self._preload()
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken)
        try:
            for rank in range(self.job.world_size):
                self._started.append(_Rank(self._start(rank)))
                self.group = self.group or self._started[0].pid
            self._wait()
        finally:
            self._kill()
            signal.set_wakeup_fd(-1)
            for fd in (self._life, self._hold, self._wake, self._woken):
                os.close(fd)
        return [{"code": rank.code, "late": rank.late} for rank in self._started]

    def _preload(self) -> None:
        for name in ("torch", "torch.distributed", *self.job.preload):
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        importlib.import_module("pytest_llmgrind.solution")

    # -- starting ----------------------------------------------------------------------------

    def _start(self, rank: int) -> int:
        if not self.job.fork:
            return self._spawned(rank)
        pid = os.fork()
        if pid == 0:
            self._be(rank)
        with contextlib.suppress(OSError):
            os.setpgid(pid, self.group)  # both sides do: whoever is first
        return pid

    def _be(self, rank: int) -> NoReturn:
        """In the forked process: be that rank, and never return."""
        code = 1
        try:
            os.setpgid(0, self.group)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._jobs, self._answers, self._hold, self._wake, self._woken):
                os.close(fd)
            child.prepare(self.job, rank, self._life)
            code = child.run(self.job, rank)
            sys.stdout.flush()
        finally:
            os._exit(code)

    def _spawned(self, rank: int) -> int:
        command = [sys.executable, "-m", "pytest_llmgrind.rank", "--job", self.job.to_json(),
                   "--rank", str(rank), "--life", str(self._life)]  # fmt: skip
        process = subprocess.Popen(command, pass_fds=[self._life], process_group=self.group)
        process.returncode = 0  # waited for below
        return process.pid

    # -- waiting -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until all are over, one has failed and its grace is over, or time is up."""
        deadline = time.monotonic() + IMPORT_S
        ready_s = 0.0
        while self._running():
            if not ready_s and self._are_ready():
                ready_s = time.monotonic()
                deadline = min(deadline, ready_s + self.job.timeout_s)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            pause = left if ready_s else min(left, 0.01)
            ready, _, _ = select.select([self._jobs, self._wake], [], [], pause)
            if self._jobs in ready:  # the parent is gone, or has given up
                return
            if self._wake in ready:
                os.read(self._wake, 1 << 10)
            if any(self._ended(rank) for rank in self._running()):
                deadline = min(deadline, time.monotonic() + GRACE_S)
        self._dump()

    def _are_ready(self) -> bool:
        ranks = range(self.job.world_size)
        return all(self.job.path("ready", rank).exists() for rank in ranks)

    def _running(self) -> list[_Rank]:
        return [rank for rank in self._started if rank.code is None]

    def _ended(self, rank: _Rank) -> bool:
        """Whether the rank has failed by now."""
        pid, status = os.waitpid(rank.pid, os.WNOHANG)
        if pid:
            rank.code = os.waitstatus_to_exitcode(status)
        return bool(rank.code)

    def _dump(self) -> None:
        """Have the ranks that still run write down where they are."""
        failed = any(rank.code for rank in self._started)
        for rank in self._running():
            rank.late = not failed
            os.kill(rank.pid, signal.SIGUSR1)
        if self._running():
            time.sleep(0.1)

    def _kill(self) -> None:
        """End what is left: ranks, and what they started, in their group or out of it."""
        if self.group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
        for rank in self._running():
            os.kill(rank.pid, signal.SIGKILL)  # it may have left the group
            rank.code = os.waitstatus_to_exitcode(os.waitpid(rank.pid, 0)[1])
        orphans.end()
