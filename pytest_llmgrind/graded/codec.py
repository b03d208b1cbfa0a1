"""Values as nodes of a message, and back."""

from __future__ import annotations

import builtins
import sys
import weakref
from collections import namedtuple
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from pytest_llmgrind.graded import nodes, shared
from pytest_llmgrind.graded.remote import Remote, operators_of, stand_in
from pytest_llmgrind.graded.wire import ProtocolError

DEPTH = 64
KINDS = "biufc"
WORD = 1 << 63
SPARSE = 8
"""An array with gaps keeps them where it spans so many times its own bytes at most."""
TYPES = {
    t.__name__: t
    for t in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, object)
}
BUILTINS = ("abs", "len", "max", "min", "sum", "sorted", "round", "range", "divmod", "pow", "repr")


class Unsendable(TypeError):
    """A value that cannot go across."""


@dataclass
class Parts:
    """What belongs to the nodes of one message."""

    buffers: list[Any] = field(default_factory=list)
    containers: list[Any] = field(default_factory=list)
    loose: list[tuple[int, Any]] = field(default_factory=list)
    """Numbers of new arrays, with a reference to whose memory they are."""


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
                return self._array(value, parts)
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
        return self._tensor(value, parts) or self._known(value) or self._object(value)

    def _sequence(self, value: Any, parts: Parts, depth: int) -> nodes.Sequence:
        kinds = (list, tuple, set, frozenset)
        kind: Any = next(k.__name__ for k in kinds if isinstance(value, k))
        if kind in ("list", "set"):
            parts.containers.append(value)
        return nodes.Sequence(kind, [self.encode(item, parts, depth + 1) for item in value])

    def _array(self, array: Any, parts: Parts, kind: str = "") -> nodes.Node:
        if pair := self.shared.find(array):
            return nodes.View(pair.id)
        root = shared.owner(array)
        if root is not array and (pair := self.shared.find(root)) and pair.faithful:
            offset = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
            return nodes.View(
                pair.id,
                array.dtype.str,
                list(array.shape),
                list(array.strides),
                offset,
                array.flags.writeable,
            )
        f_order = array.flags.f_contiguous and not array.flags.c_contiguous
        number, data = self.shared.number(), shared.flat(np.asarray(array))
        parts.buffers.append(memoryview(data))  # type: ignore[arg-type]
        parts.loose.append((number, array))
        if not kind and type(array) is not np.ndarray:
            kind = type(array).__name__
        faithful = bool(array.flags.c_contiguous or f_order)
        return nodes.Array(
            number,
            array.dtype.str,
            list(array.shape),
            "F" if f_order else "C",
            len(parts.buffers) - 1,
            bool(array.flags.writeable),
            faithful,
            kind,
            [] if faithful or shared.span(array) > SPARSE * array.nbytes else list(array.strides),
        )

    def _tensor(self, value: Any, parts: Parts) -> nodes.Node:
        """A tensor of torch as the array that shares its memory."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            return None
        plain = value.detach().cpu()
        name = str(plain.dtype).removeprefix("torch.")
        try:
            array = plain.numpy()
        except TypeError:  # NumPy has no bfloat16 and no float8
            whole = {1: torch.int8, 2: torch.int16}[plain.element_size()]
            array = plain.contiguous().view(whole).numpy()
        return self._array(array, parts, f"torch.{name}")

    def _generator(self, value: Any, parts: Parts, depth: int) -> nodes.Generator:
        state, stream = value.bit_generator.state, self.shared.stream_of(value)
        if stream is None:
            stream = shared.Stream(self.shared.number(), value, state)
            self.shared.streams[stream.id] = stream
        stream.known = state
        kind = type(value.bit_generator).__name__
        return nodes.Generator(stream.id, kind, self.encode(state, Parts(), depth + 1))

    def _known(self, value: Any) -> nodes.Known | None:
        if value is Ellipsis:
            return nodes.Known("ellipsis", "")
        if value is NotImplemented:
            return nodes.Known("notimplemented", "")
        if isinstance(value, np.dtype) and value.kind in KINDS:
            return nodes.Known("dtype", value.str)
        if isinstance(value, type):
            own: str = value.__name__
            if TYPES.get(own) is value:
                return nodes.Known("type", own)
            if issubclass(value, np.generic) and getattr(np, own, None) is value:
                return nodes.Known("numpy", own)
        name = str(getattr(value, "__name__", ""))
        if name in BUILTINS and getattr(builtins, name) is value:
            return nodes.Known("builtin", name)
        if isinstance(value, np.ufunc) and getattr(np, name, None) is value:
            return nodes.Known("numpy", name)
        if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
            return nodes.Known("torch", str(value).removeprefix("torch."))
        return None

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
                return self._new_array(node, parts)
            case nodes.View():
                return self._view(node)
            case nodes.Boxed(id=number):
                return self.shared.boxes[number].container
            case nodes.Scalar(dtype=dtype, data=data):
                return np.frombuffer(data, _dtype(dtype), 1)[0]
            case nodes.Named(cls=cls, name=name, fields=names, items=items):
                values = [self.decode(item, parts, depth + 1) for item in items]
                return self._named(cls, name, tuple(names))(*values)
            case nodes.Known(kind=kind, name=name):
                return _found(kind, name)
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

    def _new_array(self, node: nodes.Array, parts: Parts) -> Any:
        dtype, shape = _dtype(node.dtype), tuple(node.shape)
        try:
            data = parts.buffers[node.buffer]
            if any(size < 0 for size in shape):
                raise ValueError
            values = np.frombuffer(data, dtype)
            if node.strides:
                array = shared.laid_out(values, shape, node.strides, most=SPARSE * len(data))
            else:
                array = np.empty(shape, dtype, node.order)
                (array.T if node.order == "F" else array).reshape(-1)[...] = values
        except (IndexError, ValueError, OverflowError, MemoryError):
            raise ProtocolError("an array whose bytes do not fill its shape") from None
        array.flags.writeable = node.writeable
        self.shared.add(node.id, array, data, faithful=node.faithful)
        if node.kind.startswith("torch."):
            return _as_tensor(array, node.kind)
        if node.kind:
            return array.view(_subclass(node.kind[:80]))
        return array

    def _view(self, node: nodes.View) -> Any:
        pair = self.shared.pairs.get(node.id)
        array = pair.ref() if pair is not None else None
        if array is None:
            raise ProtocolError("part of an array that is not there")
        if node.shape is None:
            return array
        dtype, shape, strides = _dtype(node.dtype), tuple(node.shape), tuple(node.strides)
        try:
            part: Any = np.ndarray(shape, dtype, array.data, node.offset, strides)
        except (ValueError, TypeError):
            raise ProtocolError("part of an array that lies outside it") from None
        if not node.writeable:
            part.flags.writeable = False
        return part

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


def base_of(cls: type[BaseException]) -> type[BaseException]:
    """The nearest class that every Python has."""
    for each in cls.__mro__:
        if getattr(builtins, each.__name__, None) is each or each is np.linalg.LinAlgError:
            return each
    return BaseException


def builtin_exception(name: str) -> type[BaseException]:
    if name == "LinAlgError":
        return np.linalg.LinAlgError
    found = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise ProtocolError("an exception of no kind that there is")
    return found


def _place(containers: list[Any], found: Any) -> int:
    return next(i for i, each in enumerate(containers) if each is found)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError):
        raise ProtocolError("an array of no dtype that there is") from None
    if dtype.kind not in KINDS:
        raise ProtocolError("an array of no dtype that may cross")
    return dtype


def _found(kind: str, name: str) -> Any:
    if kind == "ellipsis":
        return Ellipsis
    if kind == "notimplemented":
        return NotImplemented
    if kind == "dtype":
        return _dtype(name)
    if kind == "type" and name in TYPES:
        return TYPES[name]
    if kind == "builtin" and name in BUILTINS:
        return getattr(builtins, name)
    if kind == "numpy":
        value = getattr(np, name, None)
        if isinstance(value, np.ufunc) or (
            isinstance(value, type) and issubclass(value, np.generic)
        ):
            return value
    if kind == "torch" and (torch := _torch()) is not None:
        value = getattr(torch, name, None)
        if isinstance(value, torch.dtype):
            return value
    raise ProtocolError("a name that is not known")


def _torch() -> ModuleType | None:
    import importlib

    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _as_tensor(array: Any, kind: str) -> Any:
    torch = _torch()
    dtype = getattr(torch, kind.removeprefix("torch."), None) if torch else None
    if torch is None or not isinstance(dtype, torch.dtype):
        raise ProtocolError("a tensor of no dtype that there is")
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def _subclass(name: str) -> Any:
    return type(name, (np.ndarray,), {})
