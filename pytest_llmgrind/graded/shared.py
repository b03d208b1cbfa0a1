"""Arrays, generators and boxes that both sides hold: what one changes, the other one sees.

An array crosses as a copy. The two copies stay a pair for as long as both sides use theirs: a
call that writes into its argument, a cache that hands out its own memory, an input that is
overwritten after it was kept, all look as they would in one process. Where nobody kept anything,
there is no pair, and nothing to compare.

A box is a list, dict or set of plain values that a call returned and its owner goes on to use.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
MOST_BOXES, MOST_ITEMS = 500, 10_000
"""How many boxes there may be, and how many items in one."""
PLAIN = {int, float, bool, str, type(None)}
UNTRACKED = 1 << 26
"""Bytes above which an array that was kept is not compared any more: a copy would be too much."""


@dataclass(eq=False)
class Pair:
    """An array here that the other side has too; ``known`` is what the other one last saw."""

    id: int
    ref: weakref.ref[Array]
    known: Any
    faithful: bool
    strong: Array | None = None

    def changed(self) -> memoryview | None:
        """The bytes of the array where they differ from what is known; then they are known."""
        array = self.ref()
        if array is None or self.known is None:
            return None
        now = flat(array)
        if same_bytes(now, self.known):
            return None
        self.known = now.tobytes()
        return memoryview(self.known)

    def write(self, data: bytearray) -> None:
        """What the other side's holds now."""
        array = self.ref()
        if array is not None and array.nbytes == len(data):
            put(array, data)
            self.known = data


@dataclass(eq=False)
class Stream:
    """A ``np.random.Generator`` here that the other side has too."""

    id: int
    generator: np.random.Generator
    known: Any

    def changed(self) -> Any:
        state = self.generator.bit_generator.state
        if same_state(state, self.known):
            return None
        self.known = state
        return state

    @property
    def unused(self) -> bool:
        """Whether nobody else has it: this object, getrefcount's argument, and the attribute."""
        return sys.getrefcount(self.generator) <= 2


@dataclass(eq=False)
class Box:
    """A list, dict or set here that the other side has too."""

    id: int
    container: Any
    known: Any
    outgrown: bool = False
    """Whether it holds more than a box may."""

    @property
    def unused(self) -> bool:
        """Whether nobody else has it; see ``Stream.unused``."""
        return sys.getrefcount(self.container) <= 2

    def changed(self) -> bool:
        """Whether it holds something else than is known; then that is known."""
        now = plain_content(self.container)
        self.outgrown = now is None
        if now is None or now == self.known:
            return False
        self.known = now
        return True

    def write(self, value: Any) -> None:
        """What the other side's holds now. Raises TypeError for what no such box holds."""
        self.known = plain_content(value) if type(value) is type(self.container) else None
        if self.known is None:
            raise TypeError("a box of another kind")
        refill(self.container, value)


@dataclass(eq=False)
class Shared:
    """The pairs of one process, and what it has no more."""

    step: int
    """Numbers of one side are even, those of the other odd."""
    pairs: dict[int, Pair] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    boxes: dict[int, Box] = field(default_factory=dict)
    by_array: dict[int, int] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    _last: int = 0

    def number(self) -> int:
        self._last += 2
        return self._last + self.step

    def add(self, number: int, array: Array, known: Any, *, faithful: bool) -> None:
        key = id(array)

        def gone(_: object) -> None:
            if self.by_array.get(key) == number:
                del self.by_array[key]
            if self.pairs.pop(number, None) is not None:
                self.dropped.append(number)

        known = known if array.nbytes <= UNTRACKED else None
        self.pairs[number] = Pair(number, weakref.ref(array, gone), known, faithful)
        self.by_array[key] = number

    def keep(self, number: int, array: Array) -> None:
        """Hold an array of ours for the other side."""
        self.pairs[number].strong = array

    def find(self, array: Array) -> Pair | None:
        pair = self.pairs.get(self.by_array.get(id(array), -1))
        return pair if pair is not None and pair.ref() is array else None

    def stream_of(self, generator: np.random.Generator) -> Stream | None:
        return next((s for s in self.streams.values() if s.generator is generator), None)

    def forget(self, number: int) -> None:
        """The other side has no use for it any more."""
        pair = self.pairs.pop(number, None)
        array = pair.ref() if pair is not None else None
        if array is not None:
            self.by_array.pop(id(array), None)
        self.streams.pop(number, None)
        self.boxes.pop(number, None)

    def box(self, number: int, container: Any) -> None:
        """Enter a box that is not there yet."""
        known = plain_content(container) if len(self.boxes) < MOST_BOXES else None
        if known is not None:
            self.boxes[number] = Box(number, container, known)

    def box_of(self, container: Any) -> Box | None:
        return next((b for b in self.boxes.values() if b.container is container), None)

    def take_dropped(self) -> list[int]:
        """What this side has no more, once; to be asked for after the changes."""
        for stream in [s for s in self.streams.values() if s.unused]:
            del self.streams[stream.id]
            self.dropped.append(stream.id)
        for box in [b for b in self.boxes.values() if b.unused or b.outgrown]:
            del self.boxes[box.id]
            self.dropped.append(box.id)
        taken, self.dropped = self.dropped, []
        return taken

    def changes(self) -> Iterator[tuple[int, Any]]:
        """The number and the content of whatever changed here."""
        for pair in list(self.pairs.values()):
            if (data := pair.changed()) is not None:
                yield pair.id, data
        for stream in list(self.streams.values()):
            if (state := stream.changed()) is not None:
                yield stream.id, state
        for box in list(self.boxes.values()):
            if box.changed():
                yield box.id, copy.copy(box.container)  # not the box itself


def owner(array: Array) -> Array:
    """The array whose memory it is."""
    while True:
        base: Any = array.base
        base = base.obj if isinstance(base, memoryview) else base
        if not isinstance(base, np.ndarray):
            return array
        array = base


def is_of_others(root: Array) -> bool:
    """Whether the memory is no array's, but a tensor's or a file's: nobody can tell who uses it.

    A bytearray is what an array from the other side lies in (``laid_out``).
    """
    return not isinstance(root.base, bytearray | None)


def content(container: Any) -> list[Any]:
    """What a list, dict or set holds, in a list of its own."""
    return list(container.items()) if isinstance(container, dict) else list(container)


def refill(container: Any, value: Any) -> None:
    """Make a list, dict or set hold what another one holds."""
    if isinstance(container, list):
        container[:] = value
    else:
        container.clear()
        container.update(value)


def plain_content(box: Any) -> tuple[list[type], list[Any]] | None:
    """What a box holds, and of which types: 1 is not True. None if it is more than a box may."""
    if len(box) > MOST_ITEMS:
        return None
    items = [*box, *box.values()] if isinstance(box, dict) else list(box)
    types = [type(item) for item in items]
    return (types, items) if PLAIN.issuperset(types) else None


def flat(array: Array) -> Array:
    """The elements of an array as bytes, in the order in which they cross; a view if it can."""
    if not array.flags.c_contiguous:
        array = array.T if array.flags.f_contiguous else np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8)


def put(array: Array, data: bytearray) -> None:
    """Overwrite the elements; also of an array that is read-only here."""
    values = np.frombuffer(data, array.dtype)
    f_order = array.flags.f_contiguous and not array.flags.c_contiguous
    values = values.reshape(array.shape[::-1]).T if f_order else values.reshape(array.shape)
    locked = not array.flags.writeable
    if locked:
        try:
            array.flags.writeable = True
        except ValueError:
            return
    array[...] = values
    if locked:
        array.flags.writeable = False


def same_bytes(left: Array, right: Any) -> bool:
    other = np.frombuffer(right, np.uint8)
    if left.size != other.size:
        return False
    whole = left.size // 8 * 8
    words = left[:whole].view(np.uint64), other[:whole].view(np.uint64)
    return bool((words[0] == words[1]).all()) and bool((left[whole:] == other[whole:]).all())


def same_state(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_state(left[k], right[k]) for k in left)
    return bool(np.array_equal(left, right))
