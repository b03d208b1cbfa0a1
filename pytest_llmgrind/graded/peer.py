"""One end of the conversation: asks the other one, and serves what it asks meanwhile."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from pytest_llmgrind.graded import errors, nodes, shared
from pytest_llmgrind.graded.codec import Codec
from pytest_llmgrind.graded.coherence import Coherence
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.remote import CALL, OPERATORS
from pytest_llmgrind.graded.wire import ProtocolError, Wire, check_sizes

USUAL = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
MODES = {"i": "ignore", "w": "warn", "r": "raise"}


@dataclass(eq=False)
class Peer:
    """What both ends do; ``Grader`` and ``Worker`` say how they differ."""

    step: int
    wires: dict[int, Wire] = field(default_factory=dict)
    codec: Codec = field(init=False)
    both: Coherence = field(init=False)
    deadline: float = 0.0

    def __post_init__(self) -> None:
        self.codec = Codec(weakref.proxy(self), shared.Shared(self.step))
        self.both = Coherence(self.codec)

    # -- what the two ends differ in --------------------------------------------------------

    def wire(self) -> Wire:
        """The wire of this thread."""
        return self.wires[threading.get_ident()]

    def may_leave(self, value: Any) -> None:
        """Raise Unsendable where the other side may not have a stand-in for the value."""

    def may_ask(self, target: Any, name: str) -> None:
        """Raise where the other side may not ask that of an object of ours."""

    def own_file(self, file: str) -> str:
        return ""

    def blocks(self, error: BaseException) -> str:
        return ""

    def decoded_error(self, error: nodes.Error) -> BaseException:
        return errors.decode(error, self.codec)

    def escaped(self, error: BaseException) -> None:
        """Something that is no Exception left a call that we serve."""

    def warned(self) -> list[tuple[str, str]]:
        return []

    def hear(self, warnings: Sequence[tuple[str, str]]) -> None:
        """Warnings of the other side."""

    def around(self, call: Callable[[], Any]) -> Any:
        """Runs what is served."""
        return call()

    # -- asking -----------------------------------------------------------------------------

    def call(self, target: int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        parts = Parts()
        nodes_of = [self.codec.encode(arg, parts) for arg in args]
        named = {key: self.codec.encode(arg, parts) for key, arg in kwargs.items()}
        self.both.pair(parts)
        changes, drop = self.both.changes(parts), self.codec.take_gone()
        message = nodes.Call(target, name, nodes_of, named, changes, drop, _errstate())
        return self._exchange(message, parts)

    def get(self, target: int, name: str) -> Any:
        parts = Parts()
        changes, drop = self.both.changes(parts), self.codec.take_gone()
        return self._exchange(nodes.Get(target, name, changes, drop), parts)

    def release(self, number: int) -> None:
        """A stand-in is gone; the other side is told with the next message."""
        self.codec.gone.append(number)

    def _exchange(self, message: nodes.Message, parts: Parts) -> Any:
        wire, done = self.wire(), False
        try:
            wire.send(nodes.ENCODER.encode(message), parts.buffers, self.deadline)
            while not done:
                answer, buffers = self._receive(wire)
                got = Parts(buffers)
                if isinstance(answer, nodes.Call | nodes.Get):
                    self.serve(answer, got)
                    continue
                value, error = self._taken(answer, parts, got)
                done = True
        except BaseException as broken:
            self.spoil(broken)
            raise
        assert isinstance(answer, nodes.Return | nodes.Raise)
        self.hear(answer.warned)
        if error is not None:
            raise error
        return value

    def _taken(
        self, answer: nodes.Return | nodes.Raise, asked: Parts, got: Parts
    ) -> tuple[Any, BaseException | None]:
        with _protocol():
            self.both.take_changes(answer.changes, got)
            self.both.take_edits(answer.edits, asked, got)
            value, error = None, None
            if isinstance(answer, nodes.Raise):
                error = self.decoded_error(answer.error)
            else:
                value = self.codec.decode(answer.value, got)
                self.both.take_boxes(answer.boxes, got)
                self.both.take_drops(answer.loose)
            self.both.take_drops(answer.drop)  # what is returned may be what was passed in
            self.both.settle(asked)
            return value, error

    def spoil(self, error: BaseException) -> None:
        """The conversation broke off in the middle of a question."""

    def _receive(self, wire: Wire) -> tuple[nodes.Message, list[Any]]:
        body, buffers = wire.receive(self.deadline)
        with _protocol():
            return nodes.DECODER.decode(body), list(buffers)

    # -- serving ----------------------------------------------------------------------------

    def serve(self, asked: nodes.Call | nodes.Get, parts: Parts) -> None:
        """Answer one question of the other side."""
        answer, out = self._answer(asked, parts)
        self.wire().send(nodes.ENCODER.encode(answer), out.buffers, self.deadline)

    def _answer(self, asked: nodes.Call | nodes.Get, parts: Parts) -> tuple[nodes.Message, Parts]:
        out, held = Parts(), _Held()
        with _protocol():
            self.both.take_changes(asked.changes, parts)
            self.both.take_drops(asked.drop)
            target = self.codec.own(asked.target)
        try:
            held.value = self._result(asked, target, parts, held)
            edits = self.both.edits(held.before, out)
            first = len(out.containers)
            node = self.codec.encode(held.value, out)
            check_sizes(out.buffers)
            # Copies, which hold no array alive; there may be no memory for them.
            out.buffers[:] = [memoryview(bytes(buffer)) for buffer in out.buffers]
        except (ProtocolError, EOFError):
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                self.escaped(error)
            return self._raised(error, held, parts)
        changes = self.both.changes(out)
        containers, out.containers = out.containers, []
        held.let_go(parts)
        boxes = self.both.keep_boxes(containers, first)
        loose = self.both.keep_used(out)
        drop = self.codec.take_gone()
        return nodes.Return(node, changes, edits, drop, loose, self.warned(), boxes), out

    def _result(self, asked: nodes.Call | nodes.Get, target: Any, parts: Parts, held: _Held) -> Any:
        if isinstance(asked, nodes.Get):
            self.may_ask(target, asked.name)
            return self.around(lambda: getattr(target, asked.name))
        with _protocol():
            args = held.args = [self.codec.decode(arg, parts) for arg in asked.args]
            kwargs = {key: self.codec.decode(arg, parts) for key, arg in asked.kwargs.items()}
            held.kwargs = kwargs
        held.before = [(container, shared.content(container)) for container in parts.containers]
        self.may_ask(target, asked.name or CALL)
        function = _function(target, asked.name)
        with np.errstate(**_read_errstate(asked.errstate)):
            return self.around(lambda: function(*args, **kwargs))

    def _raised(
        self, error: BaseException, held: _Held, parts: Parts
    ) -> tuple[nodes.Message, Parts]:
        number = self.keep_error(error)
        node = errors.encode(error, self.codec, own=self.own_file, blocks=self.blocks(error))
        if number:
            node = msgspec.structs.replace(node, id=number)
        else:
            error.__traceback__ = error.__context__ = error.__cause__ = None
        out = Parts()
        edits = self.both.edits(held.before, out)
        changes = self.both.changes(out)
        held.let_go(parts)
        return nodes.Raise(node, changes, edits, self.codec.take_gone(), self.warned()), out

    def keep_error(self, error: BaseException) -> int:
        """A number under which an exception of ours is known when it comes back."""
        return 0


@dataclass
class _Held:
    """What a call that is served holds, until what changed of it is known."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    before: list[tuple[Any, Any]] = field(default_factory=list)
    value: Any = None

    def let_go(self, parts: Parts) -> None:
        self.args.clear()
        self.kwargs.clear()
        self.before.clear()
        parts.containers.clear()
        self.value = None


class _protocol:
    """Whatever is wrong with what came, it is a message that cannot be used."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, ProtocolError | EOFError) or not isinstance(error, Exception):
            return
        if isinstance(error, msgspec.ValidationError | msgspec.DecodeError | RecursionError):
            raise ProtocolError("a message that is not of the protocol") from None
        raise ProtocolError(f"a message that cannot be used ({type(error).__name__})") from None


def _function(target: Any, name: str) -> Any:
    if not name:
        return target
    if name in OPERATORS:
        method = getattr(type(target), name, None)
        if method is None:
            raise TypeError(f"{type(target).__name__} has no {name}")
        return lambda *args, **kwargs: method(target, *args, **kwargs)
    if name == "__setattr__":
        return lambda attribute, value: setattr(target, attribute, value)
    return getattr(target, name)


def _errstate() -> str:
    """NumPy's error state where it is not the usual one: a letter each."""
    state: dict[str, str] = dict(np.geterr())  # type: ignore[arg-type]
    if state == USUAL:
        return ""
    return "".join(state[name][0] if state[name][0] in MODES else "w" for name in USUAL)


def _read_errstate(letters: str) -> dict[str, Any]:
    return {name: MODES.get(letter, "warn") for name, letter in zip(USUAL, letters, strict=False)}
