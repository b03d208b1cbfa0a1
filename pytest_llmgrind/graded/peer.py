"""One end of the conversation: asks the other one, and serves what it asks meanwhile."""

from __future__ import annotations

import operator
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from pytest_llmgrind.graded import errors, nodes, shared
from pytest_llmgrind.graded.codec import Codec, Parts
from pytest_llmgrind.graded.remote import CALL, OPERATORS
from pytest_llmgrind.graded.wire import ProtocolError, Wire

USUAL = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
MODES = {"i": "ignore", "w": "warn", "r": "raise"}


@dataclass(eq=False)
class Peer:
    """What both ends do; ``Grader`` and ``Worker`` say how they differ."""

    step: int
    wires: dict[int, Wire] = field(default_factory=dict)
    codec: Codec = field(init=False)
    deadline: float = 0.0

    def __post_init__(self) -> None:
        self.codec = Codec(weakref.proxy(self), shared.Shared(self.step))

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
        self._pair(parts)
        changes, drop = self._changes(parts), self.codec.take_gone()
        message = nodes.Call(target, name, nodes_of, named, changes, drop, _errstate())
        return self._exchange(message, parts)

    def get(self, target: int, name: str) -> Any:
        parts = Parts()
        changes, drop = self._changes(parts), self.codec.take_gone()
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
            self._take_changes(answer.changes, got)
            self._take_edits(answer.edits, asked, got)
            value, error = None, None
            if isinstance(answer, nodes.Raise):
                error = self.decoded_error(answer.error)
            else:
                value = self.codec.decode(answer.value, got)
                self._take_boxes(answer.boxes, got)
                self._take_drops(answer.loose)
            self._take_drops(answer.drop)  # what is returned may be what was passed in
            self._settle(asked)
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
            self._take_changes(asked.changes, parts)
            self._take_drops(asked.drop)
            target = self.codec.own(asked.target)
        try:
            held.value = self._result(asked, target, parts, held)
            edits = self._edits(held.before, out)
            first = len(out.containers)
            node = self.codec.encode(held.value, out)
        except (ProtocolError, EOFError):
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                self.escaped(error)
            return self._raised(error, held, parts)
        out.buffers[:] = [
            memoryview(bytes(buffer)) for buffer in out.buffers
        ]  # which hold no array alive
        changes = self._changes(out)
        containers, out.containers = out.containers, []
        held.let_go(parts)
        boxes = self._keep_boxes(containers, first)
        loose = self._keep_used(out)
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
        edits = self._edits(held.before, out)
        changes = self._changes(out)
        held.let_go(parts)
        return nodes.Raise(node, changes, edits, self.codec.take_gone(), self.warned()), out

    def keep_error(self, error: BaseException) -> int:
        """A number under which an exception of ours is known when it comes back."""
        return 0

    # -- arrays and containers ----------------------------------------------------------------

    def _pair(self, parts: Parts) -> None:
        """Enter the arrays of a question as pairs; they live until the answer is there."""
        for number, array in parts.loose:
            self.codec.shared.add(number, array, None, faithful=_is_faithful(array))

    def _settle(self, parts: Parts) -> None:
        """What the other side kept of a question is compared from now on."""
        for number, array in parts.loose:
            pair = self.codec.shared.pairs.get(number)
            if pair is not None and array.nbytes <= shared.UNTRACKED:
                pair.known = shared.flat(array).tobytes()

    def _keep_used(self, parts: Parts) -> list[int]:
        """Enter those arrays of an answer that somebody here still uses; the others are loose."""
        loose, table = [], self.codec.shared
        while parts.loose:
            number, array = parts.loose.pop()
            root = shared.owner(array)
            others = root if shared.is_of_others(root) else None
            alive, faithful = weakref.ref(root), _is_faithful(array)
            form = (array.shape, array.dtype, array.strides)
            offset = _offset(array, root)
            del array, root
            kept = alive()
            del others
            if kept is None or not _is_faithful(kept):
                loose.append(number)
                continue
            if (kept.shape, kept.dtype, kept.strides) != form:
                shape, dtype, strides = form
                kept = np.ndarray(shape, dtype, kept.data, offset, strides)
            table.add(number, kept, shared.flat(kept).tobytes(), faithful=faithful)
            table.keep(number, kept)
        return loose

    def _keep_boxes(self, containers: list[Any], first: int) -> list[tuple[int, int]]:
        """Enter those of an answer, from ``first`` on, that somebody here still uses."""
        kept, table = [], self.codec.shared
        for place in range(len(containers)):  # who holds others comes before them
            container, containers[place] = containers[place], None
            if place < first or sys.getrefcount(container) <= 2:
                continue
            number = table.number()
            table.box(number, container)
            if number in table.boxes:
                kept.append((place, number))
        return kept

    def _take_boxes(self, boxes: Sequence[tuple[int, int]], got: Parts) -> None:
        for place, number in boxes:
            self.codec.shared.box(number, got.containers[place])

    def _changes(self, parts: Parts) -> list[nodes.Change]:
        """What changed here since the last message."""
        changes = []
        for number, content in self.codec.shared.changes():
            if isinstance(content, memoryview):
                parts.buffers.append(content)
                changes.append(nodes.Change(number, len(parts.buffers) - 1))
            else:
                changes.append(nodes.Change(number, -1, self.codec.encode(content, Parts())))
        return changes

    def _take_drops(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.codec.forget(number)

    def _take_changes(self, changes: Sequence[nodes.Change], parts: Parts) -> None:
        table = self.codec.shared
        for change in changes:
            if (pair := table.pairs.get(change.id)) is not None:
                pair.write(parts.buffers[change.buffer])
            elif (stream := table.streams.get(change.id)) is not None:
                stream.known = self.codec.decode(change.state, Parts())
                stream.generator.bit_generator.state = stream.known
            elif (box := table.boxes.get(change.id)) is not None:
                box.write(self.codec.decode(change.state, Parts()))

    def _edits(self, before: list[tuple[Any, Any]], out: Parts) -> list[nodes.Edit]:
        edits = []
        for place, (container, content) in enumerate(before):
            if not _same(container, content):
                edits.append(nodes.Edit(place, self.codec.encode(container, out)))
        return edits

    def _take_edits(self, edits: Sequence[nodes.Edit], asked: Parts, got: Parts) -> None:
        for edit in edits:
            shared.refill(asked.containers[edit.place], self.codec.decode(edit.value, got))


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


def _same(container: Any, before: list[Any]) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(container, set):
        return all(item in container for item in before)
    if isinstance(container, dict):
        pairs = zip(container.items(), before, strict=True)
        return all(k is a and v is b for (k, v), (a, b) in pairs)
    return all(map(operator.is_, container, before))


def _is_faithful(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _offset(array: Any, root: Any) -> int:
    start: int = array.__array_interface__["data"][0]
    return start - int(root.__array_interface__["data"][0])


def _errstate() -> str:
    """NumPy's error state where it is not the usual one: a letter each."""
    state: dict[str, str] = dict(np.geterr())  # type: ignore[arg-type]
    if state == USUAL:
        return ""
    return "".join(state[name][0] if state[name][0] in MODES else "w" for name in USUAL)


def _read_errstate(letters: str) -> dict[str, Any]:
    return {name: MODES.get(letter, "warn") for name, letter in zip(USUAL, letters, strict=False)}
