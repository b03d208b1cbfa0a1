"""What both sides hold stays the same on both: the changes, edits and drops that messages carry.

``shared`` knows the things themselves. Here is what a question and its answer say of them.
"""

from __future__ import annotations

import operator
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_llmgrind.graded import nodes, shared
from pytest_llmgrind.graded.arrays import is_faithful, offset_of
from pytest_llmgrind.graded.codec import Codec
from pytest_llmgrind.graded.nodes import Parts


@dataclass(eq=False)
class Coherence:
    """One side's part of it."""

    codec: Codec

    def pair(self, parts: Parts) -> None:
        """Enter the arrays of a question as pairs; they live until the answer is there."""
        for number, array in parts.loose:
            self.codec.shared.add(number, array, None, faithful=is_faithful(array))

    def settle(self, parts: Parts) -> None:
        """What the other side kept of a question is compared from now on."""
        for number, array in parts.loose:
            pair = self.codec.shared.pairs.get(number)
            if pair is not None and array.nbytes <= shared.UNTRACKED:
                pair.known = shared.flat(array).tobytes()

    def keep_used(self, parts: Parts) -> list[int]:
        """Enter those arrays of an answer that somebody here still uses; the others are loose."""
        loose, table = [], self.codec.shared
        while parts.loose:
            number, array = parts.loose.pop()
            root = shared.owner(array)
            others = root if shared.is_of_others(root) else None
            alive, faithful = weakref.ref(root), is_faithful(array)
            form = (array.shape, array.dtype, array.strides)
            offset = offset_of(array, root)
            del array, root
            kept = alive()
            del others
            if kept is None or not is_faithful(kept):
                loose.append(number)
                continue
            if (kept.shape, kept.dtype, kept.strides) != form:
                shape, dtype, strides = form
                kept = np.ndarray(shape, dtype, kept.data, offset, strides)
            table.add(number, kept, shared.flat(kept).tobytes(), faithful=faithful)
            table.keep(number, kept)
        return loose

    def keep_boxes(self, containers: list[Any], first: int) -> list[tuple[int, int]]:
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

    def take_boxes(self, boxes: Sequence[tuple[int, int]], got: Parts) -> None:
        for place, number in boxes:
            self.codec.shared.box(number, got.containers[place])

    def changes(self, parts: Parts) -> list[nodes.Change]:
        """What changed here since the last message."""
        changes = []
        for number, content in self.codec.shared.changes():
            if isinstance(content, memoryview):
                parts.buffers.append(content)
                changes.append(nodes.Change(number, len(parts.buffers) - 1))
            else:
                changes.append(nodes.Change(number, -1, self.codec.encode(content, Parts())))
        return changes

    def take_drops(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.codec.forget(number)

    def take_changes(self, changes: Sequence[nodes.Change], parts: Parts) -> None:
        table = self.codec.shared
        for change in changes:
            if (pair := table.pairs.get(change.id)) is not None:
                pair.write(parts.buffers[change.buffer])
            elif (stream := table.streams.get(change.id)) is not None:
                stream.known = self.codec.decode(change.state, Parts())
                stream.generator.bit_generator.state = stream.known
            elif (box := table.boxes.get(change.id)) is not None:
                box.write(self.codec.decode(change.state, Parts()))

    def edits(self, before: list[tuple[Any, Any]], out: Parts) -> list[nodes.Edit]:
        edits = []
        for place, (container, content) in enumerate(before):
            if not _same(container, content):
                edits.append(nodes.Edit(place, self.codec.encode(container, out)))
        return edits

    def take_edits(self, edits: Sequence[nodes.Edit], asked: Parts, got: Parts) -> None:
        for edit in edits:
            shared.refill(asked.containers[edit.place], self.codec.decode(edit.value, got))


def _same(container: Any, before: list[Any]) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(container, set):
        return all(item in container for item in before)
    if isinstance(container, dict):
        pairs = zip(container.items(), before, strict=True)
        return all(k is a and v is b for (k, v), (a, b) in pairs)
    return all(map(operator.is_, container, before))
