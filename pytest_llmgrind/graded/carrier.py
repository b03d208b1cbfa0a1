"""``solution`` in graded mode: a module whose functions run in a worker."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind.graded import breach
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.grader import Grader
from pytest_llmgrind.graded.limits import Limits
from pytest_llmgrind.graded.process import Process
from pytest_llmgrind.graded.ranks import Ranks
from pytest_llmgrind.graded.remote import Module
from pytest_llmgrind.graded.sandbox import Walls
from pytest_llmgrind.graded.source import Source


@dataclass(eq=False)
class Carrier:
    """One text, and the worker that runs it at the moment: a new one after each breach."""

    make: Callable[[Path], Source]
    walls: Walls
    limits: Limits
    limit_s: float
    files: Sequence[Path] = ()
    trusted: bool = False
    deadline: float = 0.0
    grader: Grader | None = None
    _scratch: Any = None
    _source: Source | None = None
    _ranks: Ranks | None = None

    def module(self) -> Module:
        return Module(self)

    def attribute(self, name: str) -> Any:
        return self._started().attribute(name)

    def launch(self, function: Callable[..., Any], args: Sequence[Any], **how: Any) -> list[Any]:
        """``rank.launch`` with a worker for each rank; ``args`` by rank."""
        if self._ranks is None or not self._ranks.host.alive:
            options = {"limits": self.limits, "files": self.files, "trusted": self.trusted}
            self._ranks = Ranks.start(self._made(), self.walls, options)
        return self._ranks.launch(function, args, deadline=self.deadline, **how)

    def begin(self) -> None:
        """A test begins: its time, and what it may use. What broke in another one is gone."""
        self.deadline = time.monotonic() + self.limit_s
        if self.grader is None:
            return
        if not self.grader.process.alive:
            self.grader.process.end()
            self.grader = None
            return
        self.grader.deadline = self.deadline
        self._budget(self.grader.process)

    def _budget(self, process: Process) -> None:
        process.used_s = process.use().cpu_s
        process.cpu_limit_s = self.limit_s + 2.0

    def finish(self) -> Breach | None:
        """A test has ended: what it left running, which ends with it."""
        if self._ranks is not None and (why := self._ranks.host.broken) and not self.trusted:
            self._ranks = None
            return why
        if self.grader is None:
            return None
        process = self.grader.process
        if not process.alive:
            return None if self.trusted else process.autopsy()
        use, own = process.use(), process.own_processes
        if use.processes > own or use.threads > own + len(self.grader.wires):
            why = Breach(breach.FORBIDDEN, "left a thread or a process running after its answer")
            process.end(why)
            return why
        return None

    def output(self) -> str:
        """What was printed since the last time."""
        processes = [self.grader.process] if self.grader is not None else []
        processes += [self._ranks.host] if self._ranks is not None else []
        text = ""
        for process in processes:
            text += bytes(process.output).decode("utf-8", "replace")
            process.output.clear()
        return text

    @contextlib.contextmanager
    def metered(self) -> Iterator[list[int]]:
        """The peak of memory inside the worker, put into the list at the end."""
        found: list[int] = []
        self._started().call(0, "begin", (), {})
        yield found
        found.append(int(self._started().call(0, "end", (), {})))

    def cpu_s(self) -> float:
        """CPU time that the worker has used, by the kernel's clock for its process."""
        return self.grader.process.cpu_s() if self.grader is not None else 0.0

    def move(self, cores: set[int]) -> None:
        """Let the worker run on these cores alone."""
        self._started().process.move(cores)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[list[Any]]:
        """What the worker is asked inside, and what it answers."""
        grader = self._started()
        trace: list[Any] = []
        grader.trace = trace
        try:
            yield trace
        finally:
            grader.trace = None

    def keep(self, answer: Any) -> int:
        """Have an answer ready in the worker; its number there."""
        return int(self._started().call(0, "keep", (answer,), {}))

    def echo(self, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The arguments there, a kept answer back, and nothing done."""
        self._started().call(0, "echo", (number, *args), kwargs)

    def close(self) -> None:
        if self.grader is not None:
            self.grader.process.end()
        if self._ranks is not None:
            self._ranks.host.end()
        self.grader = self._ranks = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _started(self) -> Grader:
        """The end that speaks with a worker that has imported the text."""
        if self.grader is not None:  # within one test, what is broken stays broken
            return self.grader
        process = Process.start(self._made(), self.walls, self.limits)
        grader = self.grader = Grader(
            0,
            process=process,
            limits=self.limits,
            files=self.files,
            trusted=self.trusted,
            deadline=self.deadline,
        )
        grader.wires[threading.get_ident()] = process.wire
        self._budget(process)
        grader.call(0, "load", (), {})
        return grader

    def _made(self) -> Source:
        if self._source is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="llmgrind-graded-")
            self._source = self.make(Path(self._scratch.name))
        return self._source
