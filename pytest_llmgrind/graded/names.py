"""What both sides know by its name: dtypes, builtin types and functions, ufuncs, exceptions."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from pytest_llmgrind.graded import nodes
from pytest_llmgrind.graded.tensors import dtype_named
from pytest_llmgrind.graded.wire import ProtocolError

KINDS = "biufc"
"""Of the arrays that may cross."""
TYPES = {
    t.__name__: t
    for t in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, object)
}
BUILTINS = ("abs", "len", "max", "min", "sum", "sorted", "round", "range", "divmod", "pow", "repr")


def name_of(value: Any) -> nodes.Known | None:
    """The name of a value that the other side has too; None for any other value."""
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


def named(kind: str, name: str) -> Any:
    """The value of that name. Raises ProtocolError where it is none of those that may cross."""
    if kind == "ellipsis":
        return Ellipsis
    if kind == "notimplemented":
        return NotImplemented
    if kind == "dtype":
        return dtype_of(name)
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
    if kind == "torch" and (dtype := dtype_named(name)) is not None:
        return dtype
    raise ProtocolError("a name that is not known")


def dtype_of(name: str) -> np.dtype[Any]:
    """As ``np.dtype``. Raises ProtocolError where arrays of it may not cross."""
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError):
        raise ProtocolError("an array of no dtype that there is") from None
    if dtype.kind not in KINDS:
        raise ProtocolError("an array of no dtype that may cross")
    return dtype


def base_of(cls: type[BaseException]) -> type[BaseException]:
    """The nearest class that every Python has."""
    for each in cls.__mro__:
        if getattr(builtins, each.__name__, None) is each or each is np.linalg.LinAlgError:
            return each
    return BaseException


def builtin_exception(name: str) -> type[BaseException]:
    """The class of that name. Raises ProtocolError where there is none."""
    if name == "LinAlgError":
        return np.linalg.LinAlgError
    found = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise ProtocolError("an exception of no kind that there is")
    return found
