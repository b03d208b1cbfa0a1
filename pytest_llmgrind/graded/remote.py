"""Stands for an object of the other side: what is asked of it is asked there."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Protocol

CALL = "__call__"
OPERATORS = frozenset(
    f"__{name}__"
    for name in [
        "call",
        "len",
        "iter",
        "next",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "bool",
        "int",
        "float",
        "index",
        "hash",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "add",
        "radd",
        "iadd",
        "sub",
        "rsub",
        "isub",
        "mul",
        "rmul",
        "imul",
        "truediv",
        "rtruediv",
        "itruediv",
        "floordiv",
        "rfloordiv",
        "mod",
        "rmod",
        "pow",
        "rpow",
        "neg",
        "pos",
        "abs",
        "invert",
        "and",
        "or",
        "xor",
        "rand",
        "ror",
        "rxor",
        "lshift",
        "rshift",
        "matmul",
        "rmatmul",
        "enter",
        "exit",
        "reversed",
        "str",
    ]
)
"""Special methods that go across."""


class Asks(Protocol):
    """The end that a stand-in asks."""

    def call(self, target: int, name: str, args: Any, kwargs: Any) -> Any: ...
    def get(self, target: int, name: str) -> Any: ...
    def release(self, number: int) -> None: ...


class Remote:
    """An object of the other side. Its class has its name, and the operators that it has."""

    __slots__ = ("__weakref__", "_llmgrind_id", "_llmgrind_peer")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._llmgrind_peer.get(self._llmgrind_id, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._llmgrind_peer.call(self._llmgrind_id, "__setattr__", (name, value), {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Has(Protocol):
    """The end that knows a worker's module."""

    def attribute(self, name: str) -> Any: ...


class Module:
    """What a hidden test sees as the module of the solution."""

    __slots__ = ("_llmgrind_carrier",)

    def __init__(self, carrier: Has) -> None:
        object.__setattr__(self, "_llmgrind_carrier", carrier)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._llmgrind_carrier.attribute(name)


def stand_in(peer: Asks, number: int, name: str, operators: tuple[str, ...]) -> Remote:
    remote: Remote = object.__new__(_class(name[:80], operators))
    object.__setattr__(remote, "_llmgrind_id", number)
    object.__setattr__(remote, "_llmgrind_peer", peer)
    weakref.finalize(remote, peer.release, number).atexit = False
    return remote


@functools.lru_cache(maxsize=512)
def _class(name: str, operators: tuple[str, ...]) -> type[Remote]:
    methods = {operator: _method(operator) for operator in operators if operator in OPERATORS}
    methods["__slots__"] = ()
    if "__eq__" in methods and "__hash__" not in methods:
        methods["__hash__"] = None
    return type(name or "object", (Remote,), methods)


def _method(operator: str) -> Any:
    name = "" if operator == CALL else operator

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._llmgrind_peer.call(self._llmgrind_id, name, args, kwargs)

    return method


def operators_of(value: Any) -> list[str]:
    """The special methods that a value's class defines itself, beyond those that all have."""
    cls = type(value)
    return sorted(
        name
        for name in OPERATORS
        if (method := getattr(cls, name, None)) is not None
        and method is not getattr(object, name, None)
    )
