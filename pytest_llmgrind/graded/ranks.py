"""Real ranks in graded mode: workers that share one sandbox, and its loopback, with each other.

What a hidden test wants done on each rank is done here, in a thread for each; what it asks of the
solution there is answered by that rank's worker. The workers are forked, before any of them has
imported the solution, by one that has imported torch.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_llmgrind.graded import breach
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.grader import Grader
from pytest_llmgrind.graded.process import Process
from pytest_llmgrind.graded.remote import Module
from pytest_llmgrind.graded.sandbox import Walls
from pytest_llmgrind.graded.source import Source
from pytest_llmgrind.graded.wire import Wire
from pytest_llmgrind.graded.worker import RANK
from pytest_llmgrind.rank import job, verdict, wire
from pytest_llmgrind.rank.errors import RankDied, RankHung
from pytest_llmgrind.rank.server import GRACE_S, IMPORT_S

LEAVE_S = 2.0
"""How long the workers may take to end, once nobody asks them any more."""
NO_GPU = "nccl wants GPUs, and a sandbox shows none"


@dataclass(eq=False)
class Rank:
    """A forked worker, as its grader sees it: it has no process of its own to be watched."""

    host: Process
    wire: Wire
    broken: Breach | None = None

    @property
    def alive(self) -> bool:
        return self.broken is None and self.host.alive

    def open_wire(self) -> Wire:
        raise RuntimeError("a rank answers the thread that runs its function, and no other")

    def end(self, why: Breach | None = None) -> None:
        self.broken = self.broken or why
        self.wire.close()

    def autopsy(self) -> Breach:
        if self.broken is None and not self.host.alive:
            return self.host.autopsy()
        return self.broken or Breach(breach.CRASHED, "its process closed the connection")


@dataclass(eq=False)
class _Call:
    """The function of one rank: what it returned or raised, and when."""

    grader: Grader
    rank: Rank
    news: queue.SimpleQueue[None]
    loaded: bool = False
    over: bool = False
    value: Any = None
    error: BaseException | None = None
    at_s: float = 0.0

    def run(self, function: Callable[..., Any], process: job.Process, args: bytes) -> None:
        """In a thread of its own. Arguments and results are as if they came from elsewhere."""
        self.grader.wires[threading.get_ident()] = self.rank.wire
        try:
            self.grader.call(0, "load", (), {})
            self.loaded = True
            self.news.put(None)
            self.value = wire.loads(wire.dumps(function(process, *wire.loads(args))))
        except BaseException as error:
            self.error = error
        finally:
            self.at_s = time.monotonic()
            self.loaded = self.over = True
            self.news.put(None)


@dataclass(eq=False)
class Ranks:
    """The worker that forks ranks, and the options that their graders get."""

    host: Process
    grader: Grader
    options: dict[str, Any]
    launched: int = 0

    @classmethod
    def start(cls, source: Source, walls: Walls, options: dict[str, Any]) -> Ranks:
        """``options`` are those of every grader."""
        process = Process.start(source, walls, options["limits"])
        grader = Grader(0, process=process, **options)
        grader.wires[threading.get_ident()] = process.wire
        grader.deadline = time.monotonic() + IMPORT_S
        try:
            grader.call(0, "gather", (), {})
        except BaseException:
            process.end()
            raise
        return cls(process, grader, options)

    def launch(
        self,
        function: Callable[..., Any],
        args: Sequence[Sequence[Any]],
        *,
        backend: str,
        init_method: str,
        timeout_s: float,
        deadline: float,
    ) -> list[Any]:
        """``rank.launch``; ``args`` by rank, ``deadline`` that of the test.

        Raises what ``rank.launch`` raises, and Breach.
        """
        if backend == "nccl":
            pytest.skip(NO_GPU)  # which never counts as passed
        size, self.grader.deadline = len(args), deadline
        self.launched += 1
        place = f"{self.host.scratch}/launch-{self.launched}"
        self.grader.call(0, "make_directory", (place,), {})
        where = init_method or f"file://{place}/rendezvous"
        with self._together(size, timeout_s) as calls:
            for rank, call in enumerate(calls):
                call.grader.deadline = deadline
                module: Any = Module(call.grader)
                process = job.Process(rank, size, where, backend, solution=module)
                task = (function, process, wire.dumps(list(args[rank])))
                threading.Thread(target=call.run, args=task, daemon=True).start()
            late = _wait(calls, timeout_s=timeout_s, until=deadline + GRACE_S)
            if error := self._failure(calls, late, timeout_s):
                raise error
        return [call.value for call in calls]

    @contextlib.contextmanager
    def _together(self, size: int, timeout_s: float) -> Iterator[list[_Call]]:
        """Workers, one a rank, of which none is left afterwards."""
        host = self.host
        host.ranks, host.used_s = size, host.use().cpu_s
        host.cpu_limit_s = size * timeout_s + 2.0
        news: queue.SimpleQueue[None] = queue.SimpleQueue()
        calls = [self._call(news) for _ in range(size)]
        try:
            yield calls
        except BaseException:
            host.end()
            raise
        finally:
            for call in calls:
                call.rank.wire.close()  # which ends the worker
        until = time.monotonic() + LEAVE_S
        while host.alive and host.use().processes > host.own_processes - size:
            if time.monotonic() > until:
                why = Breach(breach.FORBIDDEN, "left a process running after its answer")
                host.end(why)
                raise why
            time.sleep(0.005)
        host.ranks = 0

    def _call(self, news: queue.SimpleQueue[None]) -> _Call:
        rank: Any = Rank(self.host, self.host.open_wire(RANK))  # what a grader asks of a Process
        return _Call(Grader(0, process=rank, **self.options), rank, news)

    def _failure(
        self, calls: Sequence[_Call], late: Sequence[int], timeout_s: float
    ) -> BaseException | None:
        """Of the rank that failed first; None where all returned."""
        if self.host.broken is not None:
            return self.host.broken
        failed = {rank: call.error for rank, call in enumerate(calls) if rank not in late}
        died = [rank for rank, error in failed.items() if _is(error, breach.CRASHED)]
        raised = {
            rank: (calls[rank].at_s, str(error))
            for rank, error in failed.items() if error is not None and rank not in died
        }  # fmt: skip
        rank, size = verdict.first(raised, died), len(calls)
        if rank is None:
            if not late:
                return None
            text = f"no answer from {verdict.names(late)} within {timeout_s:g} s"
            return RankHung(text, rank=late[0])
        if rank in died:
            return RankDied(f"rank {rank} of {size} ended before it returned", rank=rank)
        error = failed[rank]
        assert error is not None
        error.add_note(f"on rank {rank} of {size}")
        return error


def _is(error: BaseException | None, word: str) -> bool:
    return isinstance(error, Breach) and error.word == word


def _wait(calls: Sequence[_Call], *, timeout_s: float, until: float) -> list[int]:
    """Until all are over, one has failed and its grace is over, or time is up: who is not over."""
    loaded = failed = False
    while any(not call.over for call in calls):
        if not loaded and all(call.loaded for call in calls):
            loaded, until = True, min(until, time.monotonic() + timeout_s)
        if not failed and any(call.error is not None for call in calls):
            failed, until = True, min(until, time.monotonic() + GRACE_S)
        left = until - time.monotonic()
        if left <= 0:
            break
        with contextlib.suppress(queue.Empty):
            calls[0].news.get(timeout=left)
    return [rank for rank, call in enumerate(calls) if not call.over]
