"""Exceptions across the boundary: type, text, and the lines of the solution that took part."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from pytest_llmgrind.graded import nodes
from pytest_llmgrind.graded.codec import Codec
from pytest_llmgrind.graded.names import base_of
from pytest_llmgrind.graded.nodes import Parts
from pytest_llmgrind.graded.wire import ProtocolError

TEXT = 4_000
FRAMES = 12
SIMPLE = (type(None), bool, int, float, str)


def encode(
    error: BaseException, codec: Codec, *, own: Callable[[str], str], blocks: str = ""
) -> nodes.Error:
    """``own(file)`` is a file of the solution as the other side knows it; empty for any other."""
    cls = type(error)
    base = base_of(cls)
    if number := getattr(error, "_llmgrind_own", 0):
        return nodes.Error(cls.__name__[:80], base.__name__, [], own=number)
    known = 0
    if cls is not base:
        node = codec.encode(cls, Parts())
        known = node.id if isinstance(node, nodes.Raises | nodes.Back) else 0
    frames = [
        nodes.Frame(own(frame.f_code.co_filename), line, frame.f_code.co_name[:80])
        for frame, line in traceback.walk_tb(error.__traceback__)
        if own(frame.f_code.co_filename)
    ]
    return nodes.Error(
        cls.__name__[:80],
        base.__name__,
        [_plain(arg) for arg in _args(error)],
        frames[-FRAMES:],
        cls=known,
        blocks=blocks,
    )


def decode(error: nodes.Error, codec: Codec, *, home: Sequence[Path] = ()) -> BaseException:
    """The exception, with a traceback through the lines that it names of files in ``home``."""
    cls = codec.exception_class(error.cls, error.name, error.base)
    args = [codec.decode(arg, Parts()) for arg in error.args]
    if not all(isinstance(arg, SIMPLE) for arg in args):
        raise ProtocolError("an exception that holds more than texts and numbers")
    try:
        made = cls(*args)
    except Exception:
        made = cls.__new__(cls)
        made.args = tuple(args)
    files = {file.name: file for file in home} | {f"{f.parent.name}/{f.name}": f for f in home}
    frames = [frame for frame in error.frames[:FRAMES] if frame.file in files]
    return made.with_traceback(_traceback(made, [(files[f.file], f) for f in frames]))


def _args(error: BaseException) -> tuple[Any, ...]:
    args = error.args
    if len(args) <= 8 and all(isinstance(arg, SIMPLE) for arg in args):
        return args
    try:
        return (str(error),)
    except Exception as raised:
        return (f"<a text that cannot be made: {type(raised).__name__}>",)


def _plain(arg: Any) -> nodes.Node:
    if isinstance(arg, str):
        return arg[:TEXT].encode("utf-8", "replace").decode()
    if isinstance(arg, int) and not isinstance(arg, bool) and not -(1 << 63) <= arg < 1 << 63:
        return nodes.Big(hex(arg)[:TEXT])
    return arg  # type: ignore[no-any-return]


def _traceback(
    error: BaseException, frames: Sequence[tuple[Path, nodes.Frame]]
) -> TracebackType | None:
    """As if the lines had run here. (A frame can only be made by running a piece of code.)"""
    chain: TracebackType | None = None
    for path, frame in reversed(frames):
        line = min(max(frame.line, 1), 100_000)
        code = compile("\n" * (line - 1) + "raise llmgrind_error", str(path), "exec")
        name = frame.function if frame.function.isprintable() else "?"
        made = _ran(code.replace(co_name=name, co_qualname=name), error)
        chain = TracebackType(chain, made.tb_frame, made.tb_lasti, line)
    return chain


def _ran(code: CodeType, error: BaseException) -> TracebackType:
    try:
        exec(code, {"llmgrind_error": error, "__builtins__": {}})
    except BaseException as raised:
        own = raised.__traceback__.tb_next if raised.__traceback__ else None
        assert own is not None
        raised.__traceback__ = None
        return own
    raise AssertionError("the code raises")
