"""Arrays as nodes of a message, and back: new ones with their bytes, known ones by a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_llmgrind.graded import nodes, shared
from pytest_llmgrind.graded.names import dtype_of
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.shared import Array, Shared
from pytest_llmgrind.graded.tensors import PREFIX, tensor_of
from pytest_llmgrind.graded.wire import ProtocolError

SPARSE = 8
"""An array with gaps keeps them where it spans so many times its own bytes at most."""


def node_of(array: Any, parts: Parts, table: Shared, kind: str = "") -> nodes.Array | nodes.View:
    """How an array crosses: as a new one, or as one that the other side has, or a part of it.

    ``kind`` is the name of a tensor's dtype.
    """
    if pair := table.find(array):
        return nodes.View(pair.id)
    root = shared.owner(array)
    if root is not array and (pair := table.find(root)) and pair.faithful:
        return nodes.View(
            pair.id,
            array.dtype.str,
            list(array.shape),
            list(array.strides),
            offset_of(array, root),
            array.flags.writeable,
        )
    f_order = array.flags.f_contiguous and not array.flags.c_contiguous
    number, data = table.number(), shared.flat(np.asarray(array))
    parts.buffers.append(memoryview(data))  # type: ignore[arg-type]
    parts.loose.append((number, array))
    if not kind and type(array) is not np.ndarray:
        kind = type(array).__name__
    faithful = is_faithful(array)
    return nodes.Array(
        number,
        array.dtype.str,
        list(array.shape),
        "F" if f_order else "C",
        len(parts.buffers) - 1,
        bool(array.flags.writeable),
        faithful,
        kind,
        [] if faithful or span(array) > SPARSE * array.nbytes else list(array.strides),
    )


def array_of(node: nodes.Array, parts: Parts, table: Shared) -> Any:
    """A new array, or the tensor in its memory. Raises ProtocolError for bytes that do not fit."""
    dtype, shape = dtype_of(node.dtype), tuple(node.shape)
    try:
        data = parts.buffers[node.buffer]
        if any(size < 0 for size in shape):
            raise ValueError
        values = np.frombuffer(data, dtype)
        if node.strides:
            array = laid_out(values, shape, node.strides, most=SPARSE * len(data))
        else:
            array = np.empty(shape, dtype, node.order)
            (array.T if node.order == "F" else array).reshape(-1)[...] = values
    except (IndexError, ValueError, OverflowError, MemoryError):
        raise ProtocolError("an array whose bytes do not fill its shape") from None
    array.flags.writeable = node.writeable
    table.add(node.id, array, data, faithful=node.faithful)
    if node.kind.startswith(PREFIX):
        return tensor_of(array, node.kind)
    if node.kind:
        return array.view(type(node.kind[:80], (np.ndarray,), {}))
    return array


def view_of(node: nodes.View, table: Shared) -> Any:
    """The array, or the part of it. Raises ProtocolError for one that is not there."""
    pair = table.pairs.get(node.id)
    array = pair.ref() if pair is not None else None
    if array is None:
        raise ProtocolError("part of an array that is not there")
    if node.shape is None:
        return array
    dtype, shape, strides = dtype_of(node.dtype), tuple(node.shape), tuple(node.strides)
    try:
        part: Any = np.ndarray(shape, dtype, array.data, node.offset, strides)
    except (ValueError, TypeError):
        raise ProtocolError("part of an array that lies outside it") from None
    if not node.writeable:
        part.flags.writeable = False
    return part


def is_faithful(array: Any) -> bool:
    """Whether its bytes cross in the order in which they lie."""
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def offset_of(array: Any, root: Any) -> int:
    """Bytes from the start of the array whose memory it is to its own."""
    start: int = array.__array_interface__["data"][0]
    return start - int(root.__array_interface__["data"][0])


def span(array: Array) -> int:
    """Bytes from its first element in memory to its last one."""
    low, high = _reach(array.shape, array.strides)
    return high - low + array.itemsize


def laid_out(values: Array, shape: tuple[int, ...], strides: Sequence[int], *, most: int) -> Array:
    """The values in new memory, as the strides say. Raises ValueError for more than ``most``."""
    low, high = _reach(shape, strides)
    size = high - low + values.itemsize
    if len(strides) != len(shape) or size > most:
        raise ValueError("strides that do not fit")
    array = np.ndarray(shape, values.dtype, bytearray(size), -low, strides)
    array[...] = values.reshape(shape)
    return array


def _reach(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """How far elements lie before the first one, and behind."""
    ends = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    return sum(end for end in ends if end < 0), sum(end for end in ends if end > 0)
