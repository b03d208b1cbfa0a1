"""``solution`` in graded mode: a module whose functions run in a worker."""

from __future__ import annotations

import builtins
import contextlib
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmgrind import redact
from pytest_llmgrind.graded import breach, errors, nodes
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.codec import Unsendable
from pytest_llmgrind.graded.limits import MIB, Limits
from pytest_llmgrind.graded.peer import Peer
from pytest_llmgrind.graded.process import Process
from pytest_llmgrind.graded.remote import CALL, OPERATORS, Remote
from pytest_llmgrind.graded.sandbox import Walls
from pytest_llmgrind.graded.source import Source
from pytest_llmgrind.graded.wire import Closed, Late, ProtocolError, Wire
from pytest_llmgrind.solution import ChallengeBroken, SolutionError

FUNCTIONS = ("function", "method", "builtin_function_or_method", "ufunc", "method-wrapper")
NEVER = ("module", "frame", "code", "traceback", "TextIOWrapper", "Config", "FixtureRequest")
ERRNO = {11: "ran more than {processes} processes", 24: "opened more than {open_files} files"}
ERRNO |= dict.fromkeys((27, 28), "wrote more than a solution may")


@dataclass(eq=False)
class Grader(Peer):
    """The grader's end. The other one is believed in nothing."""

    process: Process | None = None
    limits: Limits = field(default_factory=Limits)
    files: Sequence[Path] = ()
    """Of the solution, as it was handed in: where its exceptions come from."""
    trusted: bool = False
    trace: list[Any] | None = None
    """What is asked and answered, while somebody listens."""
    _errors: dict[int, BaseException] = field(default_factory=dict)
    _escaped: dict[int, BaseException] = field(default_factory=dict)

    def wire(self) -> Wire:
        thread = threading.get_ident()
        assert self.process is not None
        if thread not in self.wires:
            self.wires[thread] = self.process.open_wire()
        return self.wires[thread]

    def call(self, target: int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        with self._verdicts():
            value = super().call(target, name, args, kwargs)
        if self.trace is not None and target:
            self.trace.append((args, kwargs, value))
        return value

    def get(self, target: int, name: str) -> Any:
        with self._verdicts():
            return super().get(target, name)

    @contextlib.contextmanager
    def _verdicts(self) -> Iterator[None]:
        """What the grader says of a conversation that broke off."""
        process, thread = self.process, threading.get_ident()
        assert process is not None
        if not process.alive:
            raise self._broken(process.autopsy())
        outermost = thread not in self._escaped
        try:
            yield
        except Late:
            raise self._broken(Breach(breach.TIME, "no answer in time")) from None
        except Closed:
            raise self._broken(process.autopsy()) from None
        except ProtocolError as error:
            raise self._broken(Breach(breach.PROTOCOL, f"its process sent {error}")) from None
        if outermost and thread in self._escaped:  # swallowed by the solution
            raise self._escaped.pop(thread)

    def _broken(self, why: Breach) -> BaseException:
        assert self.process is not None
        self.process.end(why)
        why = self.process.broken or why
        return ChallengeBroken(f"its own code in a worker: {why}") if self.trusted else why

    def spoil(self, error: BaseException) -> None:
        """An answer may still come: nobody could tell to which question."""
        assert self.process is not None
        if not isinstance(error, Late | Closed | ProtocolError | Unsendable | ValueError):
            self.process.end(Breach(breach.TIME, "no answer in time"))

    def may_leave(self, value: Any) -> None:
        kind = type(value).__name__
        if kind in NEVER or (isinstance(value, type) and value.__module__ != "builtins"):
            raise Unsendable(f"{kind} cannot be passed to a solution in graded mode")

    def may_ask(self, target: Any, name: str) -> None:
        """Public names of objects that a test passed in; of a function nothing but a call."""
        if name in OPERATORS:
            if name == CALL or type(target).__name__ not in FUNCTIONS:
                return
        elif not name.startswith("_") and type(target).__name__ not in FUNCTIONS:
            return
        raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")

    def decoded_error(self, error: nodes.Error) -> BaseException:
        if error.own:
            self._escaped.pop(threading.get_ident(), None)
            try:
                return self._errors[error.own]
            except KeyError:
                raise ProtocolError("an exception that is not there") from None
        made = errors.decode(error, self.codec, home=self.files)
        if error.blocks:
            text = str(made)
            if error.blocks == "forbidden":
                return Breach(breach.FORBIDDEN, text, blocks=True)
            return SolutionError(text).with_traceback(made.__traceback__)
        if isinstance(made, MemoryError):
            text = f"needed more than {self.limits.memory_bytes // MIB:,} MiB of memory"
            return Breach(breach.MEMORY, text).with_traceback(made.__traceback__)
        if isinstance(made, OSError) and made.errno in ERRNO:
            text = ERRNO[made.errno].format_map(vars(self.limits))
            return Breach(breach.FORBIDDEN, text).with_traceback(made.__traceback__)
        if not isinstance(made, Exception):
            escape = redact.Escape()
            escape.__cause__ = made
            return escape.with_traceback(made.__traceback__)
        return made

    def keep_error(self, error: BaseException) -> int:
        number = len(self._errors) + 1
        self._errors[number] = error
        return number

    def escaped(self, error: BaseException) -> None:
        self._escaped[threading.get_ident()] = error

    def hear(self, warned: Sequence[tuple[str, str]]) -> None:
        for name, text in warned[:50]:
            warnings.warn(text[:500], _warning_class(name), stacklevel=5)


def _warning_class(name: str) -> type[Warning]:
    found = getattr(builtins, name, None)
    is_one = isinstance(found, type) and issubclass(found, Warning)
    return found if is_one else UserWarning  # type: ignore[return-value]


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
    _known: dict[str, Any] = field(default_factory=dict)

    def module(self) -> Module:
        return Module(self)

    def attribute(self, name: str) -> Any:
        grader = self._started()
        if name not in self._known:
            value = grader.call(0, "attribute", (name,), {})
            if not isinstance(value, Remote | type):
                return value
            self._known[name] = value
        return self._known[name]

    def begin(self) -> None:
        """A test begins: its time, and what it may use. What broke in another one is gone."""
        self.deadline = time.monotonic() + self.limit_s
        if self.grader is None or self.grader.process is None:
            return
        if not self.grader.process.alive:
            self.grader.process.end()
            self.grader = None
            return
        self.grader.deadline = self.deadline
        self._budget(self.grader.process)

    def _budget(self, process: Process | None) -> None:
        if process is not None:
            process.used_s = process.use().cpu_s
            process.cpu_limit_s = self.limit_s + 2.0

    def finish(self) -> Breach | None:
        """A test has ended: what it left running, which ends with it."""
        process = self.grader.process if self.grader is not None else None
        if process is None or self.grader is None:
            return None
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
        process = self.grader.process if self.grader is not None else None
        if process is None or not process.output:
            return ""
        text = bytes(process.output).decode("utf-8", "replace")
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
        process = self.grader.process if self.grader is not None else None
        return process.cpu_s() if process is not None else 0.0

    def move(self, cores: set[int]) -> None:
        """Let the worker run on these cores alone."""
        process = self._started().process
        if process is not None:
            process.move(cores)

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

    def prepare(self, trace: Sequence[Any]) -> None:
        """Have the answers of a record ready in the worker."""
        for place, (_, _, answer) in enumerate(trace):
            self._started().call(0, "keep", (id(trace) + place, answer), {})

    def echo(self, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The arguments there, a kept answer back, and nothing done."""
        self._started().call(0, "echo", (number, *args), kwargs)

    def close(self) -> None:
        if self.grader is not None and self.grader.process is not None:
            self.grader.process.end()
        self.grader = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _started(self) -> Grader:
        """The end that speaks with a worker that has imported the text."""
        if self.grader is not None:  # within one test, what is broken stays broken
            return self.grader
        if self._source is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="llmgrind-graded-")
            self._source = self.make(Path(self._scratch.name))
        process = Process.start(self._source, self.walls, self.limits)
        self._known.clear()
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


class Module:
    """What a hidden test sees as the module of the solution."""

    __slots__ = ("_llmgrind_carrier",)

    def __init__(self, carrier: Carrier) -> None:
        object.__setattr__(self, "_llmgrind_carrier", carrier)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._llmgrind_carrier.attribute(name)
