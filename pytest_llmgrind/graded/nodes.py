"""What a message may hold. Whatever does not fit is refused before any of it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

Struct = msgspec.Struct


class Big(Struct, tag="big", array_like=True, frozen=True):
    """A whole number of more than 64 bits, in hexadecimal digits."""

    digits: str


class Data(Struct, tag="d", array_like=True, frozen=True):
    """Bytes (msgspec tells them from a text by their place alone)."""

    data: bytes


class Complex(Struct, tag="c", array_like=True, frozen=True):
    real: float
    imag: float


class Sequence(Struct, tag="s", array_like=True, frozen=True):
    kind: Literal["list", "tuple", "set", "frozenset"]
    items: list[Node]


class Mapping(Struct, tag="m", array_like=True, frozen=True):
    items: list[tuple[Node, Node]]


class Named(Struct, tag="n", array_like=True, frozen=True):
    """A tuple whose items have names; ``cls`` is the number of its class in the worker."""

    cls: int
    name: str
    fields: list[str]
    items: list[Node]


class Array(Struct, tag="a", array_like=True, frozen=True):
    """An array whose bytes are buffer ``buffer`` of the message."""

    id: int
    dtype: str
    shape: list[int]
    order: Literal["C", "F"]
    buffer: int
    writeable: bool
    faithful: bool
    """Whether the bytes lie as in the original: then a place in one is the same place in both."""
    kind: str = ""
    """``torch``, or the name of a subclass of ndarray; empty for a plain array."""
    strides: list[int] = msgspec.field(default_factory=list)
    """How it lies in memory where it is not in one piece: what reshape copies is to be copied."""


class View(Struct, tag="v", array_like=True, frozen=True):
    """Part of an array that both sides have; as it is where ``shape`` is None."""

    id: int
    dtype: str = ""
    shape: list[int] | None = None
    strides: list[int] = msgspec.field(default_factory=list)
    offset: int = 0
    writeable: bool = True


class Boxed(Struct, tag="bx", array_like=True, frozen=True):
    """A list, dict or set that both sides have."""

    id: int


class Scalar(Struct, tag="x", array_like=True, frozen=True):
    """A scalar of NumPy."""

    dtype: str
    data: bytes


class Known(Struct, tag="k", array_like=True, frozen=True):
    """Something that both sides have under one name: a dtype, a builtin, a function of NumPy."""

    kind: Literal["dtype", "type", "builtin", "numpy", "torch", "ellipsis", "notimplemented"]
    name: str


class Slice(Struct, tag="sl", array_like=True, frozen=True):
    start: Node
    stop: Node
    step: Node


class Generator(Struct, tag="g", array_like=True, frozen=True):
    """A ``np.random.Generator`` by its state."""

    id: int
    kind: str
    state: Node


class Ref(Struct, tag="r", array_like=True, frozen=True):
    """An object that stays with the sender; ``operators`` are the special methods that it has."""

    id: int
    name: str
    operators: list[str]


class Raises(Struct, tag="rc", array_like=True, frozen=True):
    """A class of exceptions that stays with the sender, and the nearest builtin one above it."""

    id: int
    name: str
    base: str


class Back(Struct, tag="b", array_like=True, frozen=True):
    """An object of the receiver's."""

    id: int


Node: TypeAlias = (
    bool
    | int
    | float
    | str
    | Data
    | Big
    | Complex
    | Sequence
    | Mapping
    | Named
    | Array
    | View
    | Boxed
    | Scalar
    | Known
    | Slice
    | Generator
    | Ref
    | Raises
    | Back
    | None
)


class Frame(Struct, array_like=True, frozen=True):
    """A line of the solution that took part in an exception."""

    file: str
    line: int
    function: str


class Error(Struct, array_like=True, frozen=True):
    """An exception: ``own`` is the receiver's own one, by its number, if it was that."""

    name: str
    base: str
    args: list[Node]
    frames: list[Frame] = msgspec.field(default_factory=list)
    cls: int = 0
    id: int = 0
    own: int = 0
    blocks: str = ""
    """``forbidden`` or ``blocked``: it cannot be graded at all. ``memory``: there was no more."""


class Change(Struct, array_like=True, frozen=True):
    """What an array holds now (``buffer``), or a generator or a box (``state``)."""

    id: int
    buffer: int = -1
    state: Node = None


class Edit(Struct, array_like=True, frozen=True):
    """What the n-th list, dict or set among the arguments of this call holds now."""

    place: int
    value: Node


class Call(Struct, tag="call", array_like=True, frozen=True):
    """Call ``name`` of the object ``target``, the object itself where there is no name."""

    target: int
    name: str
    args: list[Node]
    kwargs: dict[str, Node]
    changes: list[Change] = msgspec.field(default_factory=list)
    drop: list[int] = msgspec.field(default_factory=list)
    errstate: str = ""


class Get(Struct, tag="get", array_like=True, frozen=True):
    target: int
    name: str
    changes: list[Change] = msgspec.field(default_factory=list)
    drop: list[int] = msgspec.field(default_factory=list)


class Return(Struct, tag="ret", array_like=True, frozen=True):
    """``loose`` are arrays of this answer that their sender has no further use for, ``boxes`` its
    lists, dicts and sets that the sender goes on to use: the place among all, and a number.
    """

    value: Node
    changes: list[Change] = msgspec.field(default_factory=list)
    edits: list[Edit] = msgspec.field(default_factory=list)
    drop: list[int] = msgspec.field(default_factory=list)
    loose: list[int] = msgspec.field(default_factory=list)
    warned: list[tuple[str, str]] = msgspec.field(default_factory=list)
    boxes: list[tuple[int, int]] = msgspec.field(default_factory=list)


class Raise(Struct, tag="err", array_like=True, frozen=True):
    error: Error
    changes: list[Change] = msgspec.field(default_factory=list)
    edits: list[Edit] = msgspec.field(default_factory=list)
    drop: list[int] = msgspec.field(default_factory=list)
    warned: list[tuple[str, str]] = msgspec.field(default_factory=list)


Message: TypeAlias = Call | Get | Return | Raise
ENCODER = msgspec.msgpack.Encoder()
DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


@dataclass
class Parts:
    """What belongs to the nodes of one message."""

    buffers: list[Any] = field(default_factory=list)
    containers: list[Any] = field(default_factory=list)
    loose: list[tuple[int, Any]] = field(default_factory=list)
    """Numbers of new arrays, with a reference to whose memory they are."""
