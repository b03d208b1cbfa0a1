"""The grader's end of the conversation with a worker, which it believes in nothing."""

from __future__ import annotations

import builtins
import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
from pytest_llmgrind.graded.wire import Closed, Late, ProtocolError, Wire
from pytest_llmgrind.solution import ChallengeBroken, SolutionError

FUNCTIONS = ("function", "method", "builtin_function_or_method", "ufunc", "method-wrapper")
NEVER = ("module", "frame", "code", "traceback", "TextIOWrapper", "Config", "FixtureRequest")
ERRNO = {11: "ran more than {processes} processes", 24: "opened more than {open_files} files"}
ERRNO |= dict.fromkeys((27, 28), "wrote more than a solution may")


@dataclass(eq=False, kw_only=True)
class Grader(Peer):
    """The grader's end. The other one is believed in nothing."""

    process: Process
    limits: Limits = field(default_factory=Limits)
    files: Sequence[Path] = ()
    """Of the solution, as it was handed in: where its exceptions come from."""
    trusted: bool = False
    trace: list[Any] | None = None
    """What is asked and answered, while somebody listens."""
    _known: dict[str, Any] = field(default_factory=dict)
    _errors: dict[int, BaseException] = field(default_factory=dict)
    _escaped: dict[int, BaseException] = field(default_factory=dict)

    def wire(self) -> Wire:
        thread = threading.get_ident()
        if thread not in self.wires:
            self.wires[thread] = self.process.open_wire()
        return self.wires[thread]

    def attribute(self, name: str) -> Any:
        """Of the module that the worker has imported: one stand-in for each."""
        if name not in self._known:
            value = self.call(0, "attribute", (name,), {})
            if not isinstance(value, Remote | type):
                return value
            self._known[name] = value
        return self._known[name]

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
        self.process.end(why)
        why = self.process.broken or why
        return ChallengeBroken(f"its own code in a worker: {why}") if self.trusted else why

    def spoil(self, error: BaseException) -> None:
        """An answer may still come: nobody could tell to which question."""
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
        if error.blocks in ("forbidden", "blocked"):
            text = str(made)
            if error.blocks == "forbidden":
                return Breach(breach.FORBIDDEN, text, blocks=True)
            return SolutionError(text).with_traceback(made.__traceback__)
        if error.blocks == "memory":
            text = f"needed more than {self.limits.memory_bytes // MIB:,} MiB of memory"
            text = text if isinstance(made, MemoryError) else f"returned {made}"
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
