"""What a rank did, as exceptions of the process that launched it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Place:
    """A line of a traceback."""

    file: str
    line: int
    name: str


class RankError(Exception):
    """A rank failed in a way that has no exception here. ``rank`` says which."""

    def __init__(self, text: str, *, rank: int) -> None:
        super().__init__(text)
        self.rank = rank


class RankDied(RankError):
    """A rank ended without returning: a signal, an exit."""


class RankHung(RankError):
    """Not every rank returned in time."""


def of_type(name: str, args: Sequence[Any], text: str, *, rank: int) -> Exception:
    """The builtin exception of that name as the rank raised it; RankError for any other."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            error = kind(*args)
        except TypeError:
            return RankError(f"{name}: {text}", rank=rank)
        if str(error) == text:
            return error
    return RankError(f"{name}: {text}", rank=rank)


def with_places(error: Exception, places: Sequence[Place]) -> Exception:
    """The exception with a traceback that leads through ``places``, innermost last."""
    chain: TracebackType | None = None
    for place in reversed(places):
        own = _traceback(place)
        chain = TracebackType(chain, own.tb_frame, own.tb_lasti, place.line)
    return error.with_traceback(chain)


def _traceback(place: Place) -> TracebackType:
    """Of a line that did nothing but raise, under the file, line and function of a place."""
    code = compile("\n" * (place.line - 1) + "raise StopIteration", place.file, "exec")
    try:
        exec(code.replace(co_name=place.name, co_qualname=place.name), {})
    except StopIteration as stop:
        raised = stop.__traceback__
    return raised.tb_next  # type: ignore[union-attr,return-value]  # past the line with exec
