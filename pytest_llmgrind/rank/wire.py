"""Values between processes: numbers, texts, lists, tuples, dicts and arrays. Never pickle."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_HEAD = struct.Struct("<Q")
_PLAIN = (bool, int, float, str, type(None))


def dumps(value: Any) -> bytes:
    """The value as bytes: the length of a JSON text, the text, the arrays' bytes.

    Raises TypeError, saying what cannot be sent.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_packed(value, arrays)).encode()
    return b"".join([_HEAD.pack(len(text)), text, *(array.tobytes() for array in arrays)])


def loads(data: bytes) -> Any:
    """The value that ``dumps`` was given. Raises ValueError for any other bytes."""
    try:
        [length] = _HEAD.unpack_from(data)
        tree = json.loads(data[_HEAD.size : _HEAD.size + length])
        value, rest = _unpacked(tree, memoryview(data)[_HEAD.size + length :])
    except (struct.error, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a value of this module: {error}") from error
    if len(rest):
        raise ValueError(f"not a value of this module: {len(rest)} bytes too many")
    return value


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        value = np.asarray(value)
        return ["scalar", _packed(value, arrays)]
    if type(value) in _PLAIN:
        return ["plain", value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        arrays.append(value)
        return ["array", [value.dtype.str, list(value.shape)]]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_packed(entry, arrays) for entry in value]]
    if type(value) is dict and all(type(key) is str for key in value):
        return ["dict", [[key, _packed(entry, arrays)] for key, entry in value.items()]]
    what = f"an array of dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value)
    name = what if isinstance(what, str) else f"a value of type {what.__name__}"
    raise TypeError(
        f"{name} cannot go to another process; numbers, texts, lists, tuples, dicts with texts as "
        "keys and arrays of numbers can"
    )


def _unpacked(tree: Any, data: memoryview) -> tuple[Any, memoryview]:
    kind, body = tree
    if kind == "plain" and type(body) in _PLAIN:
        return body, data
    if kind == "scalar":
        array, data = _unpacked(body, data)
        return array[()], data
    if kind == "array":
        return _array(np.dtype(body[0]), tuple(body[1]), data)
    if kind == "dict":
        entries = {}
        for key, entry in body:
            entries[key], data = _unpacked(entry, data)
        return entries, data
    items = []
    for entry in body:
        item, data = _unpacked(entry, data)
        items.append(item)
    return {"list": list, "tuple": tuple}[kind](items), data


def _array(
    dtype: np.dtype[Any], shape: tuple[int, ...], data: memoryview
) -> tuple[np.ndarray, memoryview]:
    if dtype.hasobject:
        raise ValueError("not a value of this module: an array of objects")
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count * dtype.itemsize
    array = np.frombuffer(data[:nbytes], dtype, count).reshape(shape).copy()
    return array, data[nbytes:]
