"""A worker as the grader sees it: a process with limits, watched, and ended for good."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field

import msgspec

from pytest_llmgrind.graded import breach, sandbox
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.limits import MIB, Limits, Use, below, use_of
from pytest_llmgrind.graded.sandbox import NONE, Walls
from pytest_llmgrind.graded.source import Source
from pytest_llmgrind.graded.wire import Wire, mapped, region
from pytest_llmgrind.graded.worker import THREAD, Start

PERIOD_S = 0.05
SHOWN_BYTES = 1 << 12
PATIENCE_S = 5.0


@dataclass(eq=False)
class Process:
    """One worker, from its start to its end."""

    walls: Walls
    limits: Limits
    popen: subprocess.Popen[bytes]
    wire: Wire
    control: socket.socket
    scratch: str
    """Where it may write, as it sees the path."""
    broken: Breach | None = None
    output: bytearray = field(default_factory=bytearray)
    printed: int = 0
    used_s: float = 0.0
    """CPU time before the test that runs."""
    cpu_limit_s: float = 0.0
    pid: int = 0
    """Of the worker itself, which is a grandchild behind walls."""
    ranks: int = 0
    """How many processes it has been asked to fork."""

    @classmethod
    def start(cls, source: Source, walls: Walls, limits: Limits) -> Process:
        place = sandbox.place(walls, solution=source.home, stub=source.stub)
        start = Start(
            challenge=source.challenge,
            file=f"{place.solution}/{source.file}",
            imports=source.imports,
            forbid=list(source.forbid),
            stub=f"{place.stub}/{source.challenge}/stub.py",
            limits=limits.of_process,
            uid=place.uid,
        )
        ours, theirs = socket.socketpair()
        control, other = socket.socketpair()
        out_fd, in_fd = region(), region()
        descriptors = (theirs.fileno(), other.fileno(), in_fd, out_fd)  # its inbox is our outbox
        popen = subprocess.Popen(
            sandbox.command(
                walls,
                limits,
                solution=source.home,
                stub=source.stub,
                arguments=[msgspec.json.encode(start).decode(), *map(str, descriptors)],
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(sandbox.ENVIRONMENT),
            pass_fds=descriptors,
            start_new_session=True,
        )
        theirs.close()
        other.close()
        own = Wire(ours, mapped(out_fd), mapped(in_fd))
        process = cls(walls, limits, popen, own, control, place.scratch)
        for task in (process._read_output, process._watch):
            threading.Thread(target=task, name="llmgrind-worker", daemon=True).start()
        return process

    @property
    def own_processes(self) -> int:
        """The worker, the two of bubblewrap, and the ranks."""
        return (1 if self.walls.level == NONE else 3) + self.ranks

    @property
    def alive(self) -> bool:
        return self.broken is None and self.popen.poll() is None

    def open_wire(self, whose: bytes = THREAD) -> Wire:
        """One more: for another thread of the grader, or to a rank, which is forked for it."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self.control, [whose], [theirs.fileno()])
        return Wire(ours)

    def end(self, why: Breach | None = None) -> None:
        """Kill it with all that it started; the first reason stays."""
        if self.broken is None:
            self.broken = why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(PATIENCE_S)
        self.wire.close()
        self.control.close()

    def autopsy(self) -> Breach:
        """Why it is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(1.0)
        code = self.popen.poll()
        if self.broken is not None:
            return self.broken
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if number == signal.SIGXCPU:
            return Breach(breach.TIME, f"used more than {self.limits.cpu_s:,} s of CPU")
        if number in set(signal.Signals):
            return Breach(breach.CRASHED, f"its process died of {signal.Signals(number).name}")
        if code is None:
            return Breach(breach.CRASHED, "its process closed the connection")
        return Breach(breach.CRASHED, f"its process ended with exit code {code}")

    # -- in threads ---------------------------------------------------------------------------

    def _read_output(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self.printed += len(data)
                self.output += data[: max(0, SHOWN_BYTES - len(self.output))]
                if self.printed > self.limits.output_bytes:
                    text = f"printed more than {self.limits.output_bytes // MIB} MiB"
                    self.end(Breach(breach.FORBIDDEN, text))
                    return

    def _watch(self) -> None:
        while self.popen.poll() is None and self.broken is None:
            use = self.use()
            if why := self._excess(use):
                self.end(why)
                return
            time.sleep(PERIOD_S)

    def _excess(self, use: Use) -> Breach | None:
        limits = self.limits
        if use.memory_bytes > limits.memory_bytes:
            text = f"took more than {limits.memory_bytes // MIB:,} MiB of memory"
            return Breach(breach.MEMORY, text)
        if use.processes > self.own_processes:
            return Breach(breach.FORBIDDEN, "started a process")
        if use.threads > limits.processes:
            return Breach(breach.FORBIDDEN, f"ran more than {limits.processes} threads")
        if self.cpu_limit_s and use.cpu_s - self.used_s > self.cpu_limit_s:
            return Breach(breach.TIME, f"used more than {self.cpu_limit_s:g} s of CPU")
        return None

    def cpu_s(self) -> float:
        """CPU time of the worker's own process; 0 where it is gone."""
        try:
            return time.clock_gettime(self._clock())
        except OSError:
            return 0.0

    def move(self, cores: set[int]) -> None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self._found(), cores)

    def _clock(self) -> int:
        """The kernel's clock for the process (clock_getcpuclockid's formula)."""
        return ~self._found() << 3 | 2

    def _found(self) -> int:
        """The worker's own process: of those behind walls the third."""
        if not self.pid:
            inside = [self.popen.pid, *below(self.popen.pid)]
            self.pid = inside[0] if self.walls.level == NONE else inside[min(2, len(inside) - 1)]
        return self.pid

    def use(self) -> Use:
        return use_of(self.popen.pid)
