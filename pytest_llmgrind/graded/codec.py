"""Values as nodes of a message, and back."""

from __future__ import annotations

import weakref
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pytest_llmgrind.graded import arrays, nodes, shared
from pytest_llmgrind.graded.names import (
    KINDS,
    base_of,
    builtin_exception,
    dtype_of,
    name_of,
    named,
)
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.remote import Remote, operators_of, stand_in
from pytest_llmgrind.graded.tensors import is_tensor, memory_of
from pytest_llmgrind.graded.wire import ProtocolError

DEPTH = 64
WORD = 1 << 63


class Unsendable(TypeError):
    """A value that cannot go across."""


@dataclass(eq=False)
class Codec:
    """The values of one process. ``peer`` is what a stand-in made here asks."""

    peer: Any
    shared: shared.Shared
    objects: dict[int, Any] = field(default_factory=dict)
    stand_ins: dict[int, Any] = field(default_factory=dict)
    classes: dict[Any, Any] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)

    # -- out --------------------------------------------------------------------------------

    def encode(self, value: Any, parts: Parts, depth: int = 0) -> nodes.Node:
        if depth > DEPTH:
            raise Unsendable(f"a value that is nested deeper than {DEPTH} levels")
        match value:
            case None | bool() | float() if type(value) in (type(None), bool, float):
                return value
            case np.generic() if value.dtype.kind in KINDS:
                return nodes.Scalar(value.dtype.str, value.tobytes())
            case int():
                return int(value) if -WORD <= value < WORD else nodes.Big(hex(value))
            case float():
                return float(value)
            case str():
                return str.__str__(value)
            case bytes() | bytearray():
                return nodes.Data(bytes(value))
            case complex():
                return nodes.Complex(value.real, value.imag)
            case np.ndarray() if value.dtype.kind in KINDS:
                return arrays.node_of(value, parts, self.shared)
            case np.random.Generator():
                return self._generator(value, parts, depth)
            case tuple() if hasattr(value, "_fields"):
                items = [self.encode(item, parts, depth + 1) for item in value]
                cls = self._number(type(value))
                return nodes.Named(cls, type(value).__name__, list(value._fields), items)
            case list() | set() | dict() if box := self.shared.box_of(value):
                return nodes.Boxed(box.id)
            case list() | tuple() | set() | frozenset():
                return self._sequence(value, parts, depth)
            case dict():
                parts.containers.append(value)
                pairs = [
                    (self.encode(k, parts, depth + 1), self.encode(v, parts, depth + 1))
                    for k, v in value.items()
                ]
                return nodes.Mapping(pairs)
            case slice():
                ends = (value.start, value.stop, value.step)
                return nodes.Slice(*(self.encode(end, parts, depth + 1) for end in ends))
        if is_tensor(value):
            array, kind = memory_of(value)
            return arrays.node_of(array, parts, self.shared, kind)
        return name_of(value) or self._object(value)

    def _sequence(self, value: Any, parts: Parts, depth: int) -> nodes.Sequence:
        kinds = (list, tuple, set, frozenset)
        kind: Any = next(k.__name__ for k in kinds if isinstance(value, k))
        if kind in ("list", "set"):
            parts.containers.append(value)
        return nodes.Sequence(kind, [self.encode(item, parts, depth + 1) for item in value])

    def _generator(self, value: Any, parts: Parts, depth: int) -> nodes.Generator:
        state, stream = value.bit_generator.state, self.shared.stream_of(value)
        if stream is None:
            stream = shared.Stream(self.shared.number(), value, state)
            self.shared.streams[stream.id] = stream
        stream.known = state
        kind = type(value.bit_generator).__name__
        return nodes.Generator(stream.id, kind, self.encode(state, Parts(), depth + 1))

    def _object(self, value: Any) -> nodes.Node:
        if isinstance(value, Remote) and value._llmgrind_peer is self.peer:
            return nodes.Back(value._llmgrind_id)
        if isinstance(value, type) and issubclass(value, BaseException):
            if theirs := vars(value).get("_llmgrind_class"):
                return nodes.Back(theirs)
            return nodes.Raises(self._number(value), value.__name__, base_of(value).__name__)
        self.peer.may_leave(value)
        name = value.__name__ if isinstance(value, type) else type(value).__name__
        return nodes.Ref(self._number(value), name[:80], operators_of(value))

    def _number(self, value: Any) -> int:
        """The number of an object of ours, which is kept for the other side."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = self.shared.number()
            self.objects[number] = value
        return number

    # -- in ---------------------------------------------------------------------------------

    def decode(self, node: nodes.Node, parts: Parts, depth: int = 0) -> Any:
        if depth > DEPTH:
            raise ProtocolError(f"a value that is nested deeper than {DEPTH} levels")
        match node:
            case None | bool() | int() | float() | str():
                return node
            case nodes.Data(data=data):
                return data
            case nodes.Sequence(kind=kind, items=items):
                found: Any = []
                if kind in ("list", "set"):
                    parts.containers.append(found)
                found += [self.decode(item, parts, depth + 1) for item in items]
                if kind == "list":
                    return found
                made = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](found)
                if kind == "set":
                    parts.containers[_place(parts.containers, found)] = made
                return made
            case nodes.Mapping(items=items):
                table: dict[Any, Any] = {}
                parts.containers.append(table)
                for key, item in items:
                    name = self.decode(key, parts, depth + 1)
                    table[name] = self.decode(item, parts, depth + 1)
                return table
            case nodes.Array():
                return arrays.array_of(node, parts, self.shared)
            case nodes.View():
                return arrays.view_of(node, self.shared)
            case nodes.Boxed(id=number):
                return self.shared.boxes[number].container
            case nodes.Scalar(dtype=dtype, data=data):
                return np.frombuffer(data, dtype_of(dtype), 1)[0]
            case nodes.Named(cls=cls, name=name, fields=names, items=items):
                values = [self.decode(item, parts, depth + 1) for item in items]
                return self._named(cls, name, tuple(names))(*values)
            case nodes.Known(kind=kind, name=name):
                return named(kind, name)
            case nodes.Big(digits=digits):
                return int(digits[:10_000], 16)
            case nodes.Complex(real=real, imag=imag):
                return complex(real, imag)
            case nodes.Slice(start=start, stop=stop, step=step):
                return slice(*(self.decode(end, parts, depth + 1) for end in (start, stop, step)))
            case nodes.Generator(id=number, kind=kind, state=state):
                return self._stream(number, kind, self.decode(state, Parts(), depth + 1))
            case nodes.Ref(id=number, name=name, operators=operators):
                return self._stand_in(number, name, tuple(operators))
            case nodes.Raises(id=number, name=name, base=base):
                return self.exception_class(number, name, base)
            case nodes.Back(id=number):
                return self.own(number)
        raise ProtocolError("a value of no kind that there is")

    def own(self, number: int) -> Any:
        try:
            return self.objects[number]
        except KeyError:
            raise ProtocolError("an object that is not there") from None

    def _stream(self, number: int, kind: str, state: Any) -> np.random.Generator:
        if known := self.shared.streams.get(number):
            known.generator.bit_generator.state = state
            known.known = state
            return known.generator
        if kind not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            raise ProtocolError("a random generator of no kind that there is")
        bits = getattr(np.random, kind)(0)
        bits.state = state
        generator = np.random.Generator(bits)
        self.shared.streams[number] = shared.Stream(number, generator, state)
        return generator

    def _stand_in(self, number: int, name: str, operators: tuple[str, ...]) -> Any:
        known = self.stand_ins.get(number)
        value = known() if known is not None else None
        if value is None:
            value = stand_in(self.peer, number, name, operators)
            self.stand_ins[number] = weakref.ref(value)
        if number in self.gone:
            self.gone.remove(number)
        return value

    def _named(self, number: int, name: str, fields: tuple[str, ...]) -> Any:
        if number in self.objects:
            return self.objects[number]
        key = (number, name, fields)
        if key not in self.classes:
            try:
                cls = namedtuple(name, fields)  # type: ignore[misc]
            except (ValueError, TypeError):
                raise ProtocolError("a tuple with impossible names") from None
            self.classes[key] = cls
            self._numbers[id(cls)] = number  # the other side knows it under its own number
        return self.classes[key]

    def exception_class(self, number: int, name: str, base: str) -> type[BaseException]:
        """A class here for the exceptions of one there: under the nearest builtin one."""
        if number not in self.classes:
            parent = builtin_exception(base)
            same = number == 0 and name == parent.__name__
            cls = parent if same else type(name[:80], (parent,), {"_llmgrind_class": number})
            if not number:
                return cls
            self.classes[number] = cls
        found: type[BaseException] = self.classes[number]
        return found

    # -- what is no longer used -----------------------------------------------------------------

    def take_gone(self) -> list[int]:
        gone, self.gone = self.gone, []
        for number in gone:
            self.stand_ins.pop(number, None)
        return gone + self.shared.take_dropped()

    def forget(self, number: int) -> None:
        value = self.objects.pop(number, None)
        if value is not None:
            self._numbers.pop(id(value), None)
        self.shared.forget(number)


def _place(containers: list[Any], found: Any) -> int:
    return next(i for i, each in enumerate(containers) if each is found)
