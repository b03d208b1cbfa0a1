"""The process of a solution, inside the walls (``sandbox.BOOT`` starts it).

It serves the grader and nothing else. Whatever it says is checked by the grader: solution code
that breaks into this module can break its own answers, and nothing more.
"""

from __future__ import annotations

import dis
import gc
import os
import resource
import signal
import socket
import threading
import traceback
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pytest_llmgrind import loader, manifest
from pytest_llmgrind import solution as solutions
from pytest_llmgrind.graded import errors, namespaces, nodes, wire
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.peer import Peer
from pytest_llmgrind.graded.wire import Closed, TooLarge

MOST_WARNINGS = 50
THREAD, RANK = b"+", b"r"
"""Who is to serve a new wire: a thread of this process, or a process that is forked from it."""


class Start(msgspec.Struct, frozen=True):
    """What the grader tells a new worker, as JSON in its first argument."""

    challenge: str
    file: str
    imports: list[str] | None
    forbid: list[str]
    stub: str
    limits: dict[str, int]
    uid: int = 0


@dataclass(eq=False)
class Worker(Peer):
    """The end in the sandbox."""

    home: Path = field(default_factory=Path)
    meter: Meter | None = None
    _warned: list[tuple[str, str]] = field(default_factory=list)

    def own_file(self, file: str) -> str:
        path = Path(file)
        if path == self.home:
            return path.name
        return str(path.relative_to(self.home.parent)) if path.is_relative_to(self.home) else ""

    def blocks(self, error: BaseException) -> str:
        if isinstance(error, TooLarge) or (
            isinstance(error, MemoryError) and not _was_meant(error)
        ):
            return "memory"
        if not isinstance(error, solutions.SolutionError):
            return ""
        return "forbidden" if error.forbidden else "blocked"

    def decoded_error(self, error: nodes.Error) -> BaseException:
        made = errors.decode(error, self.codec)
        made._llmgrind_own = error.id  # type: ignore[attr-defined]
        return made

    def around(self, call: Callable[[], Any]) -> Any:
        return call() if self.meter is None else self.meter.measure(call)

    def warned(self) -> list[tuple[str, str]]:
        taken, self._warned = self._warned, []
        return taken

    def heed(self, message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        """In the place of warnings.showwarning."""
        if len(self._warned) < MOST_WARNINGS:
            base = next(c for c in category.__mro__ if c.__module__ == "builtins")
            self._warned.append((base.__name__, str(message)[:500]))

    def attend(self, wire: wire.Wire) -> None:
        """Serve one wire until it is closed."""
        self.wires[threading.get_ident()] = wire
        try:
            while True:
                if self.meter is not None:
                    self.meter.rest()
                asked, buffers = self._receive(wire)
                if not isinstance(asked, nodes.Call | nodes.Get):
                    os._exit(70)
                self.serve(asked, Parts(buffers))
        except Exception as error:
            if isinstance(error, Closed):
                if threading.current_thread() is threading.main_thread():
                    os._exit(0)
                return
            traceback.print_exc()
            os._exit(71)


def _was_meant(error: BaseException) -> bool:
    """Whether a ``raise`` statement raised it: a pool of blocks may be out of memory."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code.co_code
    return code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


@dataclass
class Meter:
    """The peak of what calls of the solution allocate, beside their arguments.

    What earlier calls left behind lies in no place of its own. It is at most the sum of what each
    call left, of which the test may have dropped its results, and at most what is there between
    two calls, among it the arguments that the test has kept.
    """

    most: int = 0
    left: int = 0
    base: int | None = None
    over: bool = False

    def rest(self) -> None:
        """Nothing runs."""
        there = _traced()[0]
        if self.base is None:
            self.base = there
        self.left = min(self.left, max(0, there - self.base))

    def measure(self, call: Callable[[], Any]) -> Any:
        mark = bytearray(64)
        tracemalloc.reset_peak()
        before = _traced()[0]
        try:
            return call()
        finally:
            now, peak = _traced()
            if self.over:  # it was the question for the figure
                pass
            elif not tracemalloc.is_tracing() or tracemalloc.get_object_traceback(mark) is None:
                raise RuntimeError("the solution has stopped the tracing of memory")
            else:
                self.most = max(self.most, self.left + peak - before)
                self.left += now - before


_traced = tracemalloc.get_traced_memory


@dataclass(eq=False)
class Root:
    """Object 0: what the grader asks of the worker itself."""

    worker: Worker
    start: Start
    module: Any = None
    kept: list[Any] = field(default_factory=list)

    def gather(self) -> None:
        """Get ready to fork ranks: import what takes long, once, and nothing of a solution."""
        import torch
        import torch.distributed

        torch.set_num_threads(1)  # a forked process must not use OpenMP's dead threads
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends is gone at once

    def make_directory(self, path: str) -> None:
        """Where ranks meet."""
        os.mkdir(path)

    def load(self) -> None:
        """Import the solution. Raises SolutionError."""
        start, file = self.start, Path(self.start.file)
        if start.imports is None:
            self.module = loader.import_fresh(file, None)
            return
        rules = manifest.Imports(imports=tuple(start.imports), forbid=tuple(start.forbid))
        root = Path(start.stub).parent
        described = manifest.Manifest(
            root=root, title="", track="", summary="", solution=rules, stages=()
        )
        self.module = solutions.load(described, solutions.Candidate(file))

    def attribute(self, name: str) -> Any:
        return getattr(self.module, name)

    def begin(self) -> None:
        """Trace memory from now on."""
        gc.collect()
        tracemalloc.start()
        self.worker.meter = Meter()

    def end(self) -> int:
        """The peak since ``begin``, in bytes."""
        meter, self.worker.meter = self.worker.meter, None
        assert meter is not None
        meter.over = True
        tracemalloc.stop()
        return meter.most

    def keep(self, answer: Any) -> int:
        """The number under which ``echo`` gives the answer."""
        self.kept.append(answer)
        return len(self.kept) - 1

    def echo(self, number: int, *args: Any, **kwargs: Any) -> Any:
        """Take arguments and give an answer that was kept: what the way itself costs."""
        return _copied(self.kept[number])


def _copied(value: Any) -> Any:
    """With arrays of its own: an array that is kept would not be sent again."""
    if type(value) is np.ndarray:
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


def main(argument: str, *descriptors: str) -> None:
    start = msgspec.json.decode(argument, type=Start)
    main_fd, control_fd, out_fd, in_fd = map(int, descriptors)
    _limit(start.limits)
    if start.uid:
        os.setgroups([])
        os.setresgid(start.uid, start.uid, start.uid)
        os.setresuid(start.uid, start.uid, start.uid)
        namespaces.refuse()
    worker = _worker(start)
    control = socket.socket(fileno=control_fd)
    sock = socket.socket(fileno=main_fd)
    threading.Thread(target=_open_wires, args=(start, worker, control), daemon=True).start()
    worker.attend(wire.Wire(sock, wire.mapped(out_fd), wire.mapped(in_fd)))


def _worker(start: Start) -> Worker:
    file = Path(start.file)
    worker = Worker(1, home=file.parent if file.name == "__init__.py" else file)
    worker.codec.objects[0] = Root(worker, start)
    warnings.simplefilter("always")
    warnings.showwarning = worker.heed
    return worker


def _open_wires(start: Start, worker: Worker, control: socket.socket) -> None:
    """Each gets a thread here, or a process."""
    while True:
        try:
            told, descriptors, *_ = socket.recv_fds(control, 1, 1)
        except OSError:
            return
        if not told or not descriptors:
            return
        own = wire.Wire(socket.socket(fileno=descriptors[0]))
        if told == THREAD:
            threading.Thread(target=worker.attend, args=(own,), daemon=True).start()
        elif os.fork() == 0:
            control.close()
            for other in worker.wires.values():
                other.close()
            _worker(start).attend(own)
        else:
            own.close()


def _limit(limits: dict[str, int]) -> None:
    """Soft and hard limits of this process and all that it starts."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, (value, value))
