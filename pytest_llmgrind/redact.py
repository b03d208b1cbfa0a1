"""The text of a failure: the rule, what was seen, where to read, the learner's own frames.

Nothing else of a traceback is ever shown: no hidden line, no expected value, no reference.
"""

from __future__ import annotations

import linecache
import sys
import threading
import traceback
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import hypothesis.errors
import pytest

from pytest_llmgrind import plain
from pytest_llmgrind import spec as specs
from pytest_llmgrind.check import Misused, RuleBroken
from pytest_llmgrind.fence import is_below
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.guard import Forbidden
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.properties import Unfinished, drawn_with
from pytest_llmgrind.solution import Candidate, ChallengeBroken, SolutionError
from pytest_llmgrind.timeout import TimedOut

FRAMES = 3
LOOKS_LIKE = "  looks like   "
"""Begins the line of a failure text that names a misconception."""
GRADERS_FAULT = (
    Misused,
    ChallengeBroken,
    pytest.FixtureLookupError,
    hypothesis.errors.InvalidArgument,
    hypothesis.errors.Unsatisfiable,
    hypothesis.errors.FailedHealthCheck,
)
TELLING = (TypeError, AttributeError, ValueError, IndexError)
"""Exceptions of a hidden test whose text tells what came back, and never what was wanted."""

ESCAPES = (pytest.skip.Exception, pytest.xfail.Exception, unittest.SkipTest)
Excinfo = pytest.ExceptionInfo[BaseException]


class Escape(Exception):
    """Solution code raised (``__cause__``) what pytest takes for a word of the test's own."""


@dataclass(frozen=True)
class Frame:
    """A line of the learner's own code that took part."""

    path: Path
    line: int
    function: str


@dataclass(frozen=True)
class Failure:
    """What happened: a word of design §3, one sentence, and the learner's frames."""

    outcome: str
    saw: str
    frames: tuple[Frame, ...] = ()
    blocks: bool = False
    """Nothing of the challenge can be graded: what is said once holds for all its tests."""


def classify(error: BaseException, candidate: Candidate, manifest: Manifest) -> Failure:
    """What an exception that ended a hidden test means for the learner."""
    if isinstance(error, Unfinished | Escape):
        error = _raised(error)
    frames = frames_of(error, candidate)
    if isinstance(error, Breach):
        return Failure(error.word, str(error), frames, blocks=error.blocks)
    if isinstance(error, SolutionError):
        timed_out = isinstance(error.__cause__, TimedOut)
        return Failure("timed out" if timed_out else "blocked", str(error), frames, blocks=True)
    if isinstance(error, RuleBroken):
        return Failure("failed", error.saw, frames)
    if type(error).__name__ == "OverBudget":
        return Failure("over budget", str(getattr(error, "saw", error)))
    if isinstance(error, TimedOut):
        return Failure("timed out", f"{_example(error)}{error}", frames)
    if isinstance(error, NotImplementedError) and frames:
        return Failure("todo", plain.message_of(error) or "not implemented", frames)
    by = _raiser(error, candidate, manifest)
    return Failure("failed", _example(error) + _what(error, by), frames)


def _what(error: BaseException, by: str) -> str:
    """The sentence for an exception that is no verdict; ``by`` says whose code raised it."""
    if isinstance(error, GRADERS_FAULT):
        return f"nothing of yours: this challenge has a mistake ({_fault(error)})"
    if isinstance(error, hypothesis.errors.Flaky):
        return _unsteady(error)
    if isinstance(error, Forbidden | pytest.fail.Exception):
        return plain.message_of(error)
    if by == "solution":
        return f"raised {plain.text_of(error)}"
    told = plain.text_of(error) if isinstance(error, TELLING) else type(error).__name__
    if by == "callback":
        return f"called a function of the test, which raised {told}"
    return f"what came back cannot be used: {told}"


def _raiser(error: BaseException, candidate: Candidate, manifest: Manifest) -> str:
    """``solution``, ``callback`` (the test's, called by the solution) or ``test``."""
    graders = (str(manifest.hidden), str(manifest.reference))
    found = "test"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if candidate.owns(name):
            found = "solution"
        elif found == "solution" and any(is_below(name, directory) for directory in graders):
            found = "callback"
    return found


def _fault(error: BaseException) -> str:
    if isinstance(error, pytest.FixtureLookupError):
        return f"its test asks for a fixture {error.argname!r}"
    return plain.message_of(error)


def _unsteady(error: BaseException) -> str:
    """Hypothesis ran the same example again and saw something else."""
    seen = next((e for e in getattr(error, "exceptions", ()) if isinstance(e, RuleBroken)), None)
    first = f"{seen.saw}; " if seen else ""
    return f"{first}run again with the same input, it gave another result"


def frames_of(error: BaseException, candidate: Candidate) -> tuple[Frame, ...]:
    """The learner's own frames, outermost first."""
    return tuple(
        Frame(Path(frame.f_code.co_filename), line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(_raised(error).__traceback__)
        if candidate.owns(frame.f_code.co_filename)
    )


def frames_now(candidate: Candidate) -> tuple[Frame, ...]:
    """Where the learner's code is at this moment in the main thread; asked from another one."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    own = [
        Frame(Path(frame.f_code.co_filename), line, frame.f_code.co_name)
        for frame, line in traceback.walk_stack(frame)
        if candidate.owns(frame.f_code.co_filename)
    ]
    return tuple(reversed(own))


def veil() -> Excinfo:
    """An exception without a text: to print a learner's own may raise, flood or show too much."""
    try:
        raise pytest.fail.Exception("", pytrace=False)
    except pytest.fail.Exception as error:
        return pytest.ExceptionInfo.from_exception(error)


def own_excinfo(error: BaseException, candidate: Candidate) -> Excinfo | None:
    """The exception with the learner's frames alone: what a debugger may walk. None without any."""
    error = _raised(error)
    frames = own_traceback(error, candidate)
    if frames is None:
        return None
    error.__cause__ = error.__context__ = None
    return pytest.ExceptionInfo.from_exception(error.with_traceback(frames))


def own_traceback(error: BaseException, candidate: Candidate) -> TracebackType | None:
    """The learner's frames of a traceback."""
    own, tb = [], error.__traceback__
    while tb is not None:
        if candidate.owns(tb.tb_frame.f_code.co_filename):
            own.append(tb)
        tb = tb.tb_next
    chain: TracebackType | None = None
    for tb in reversed(own):
        chain = TracebackType(chain, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return chain


def show_traceback(error: BaseException) -> None:
    """For an author: let pytest print where a check was called."""
    if isinstance(error, RuleBroken):
        error.pytrace = True


@contextmanager
def no_escape(candidate: Candidate) -> Iterator[None]:
    """Solution code can fail a test, and not skip it; an interrupt shows no hidden frame."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt().with_traceback(own_traceback(error, candidate)) from None
    except ESCAPES as error:
        if frames_of(error, candidate):
            raise Escape from error
        raise


def _raised(error: BaseException) -> BaseException:
    """What the learner's code raised, where that was made a verdict."""
    if isinstance(error, SolutionError | RuleBroken | Unfinished | Escape):
        return error.__cause__ or error
    return error


# -- as text ----------------------------------------------------------------------------------


def render(
    failure: Failure, manifest: Manifest, rule_id: str, *, start: Path, looks_like: str = ""
) -> str:
    """The failure text of design §4; paths are relative to ``start`` where they lie below it."""
    spec = shown(manifest.spec, start)
    rule = specs.load(manifest.spec).rule(rule_id)
    if failure.blocks:
        lines = [f"{manifest.id}  cannot be graded"]
    else:
        lines = [f"{rule.id}  {rule.sentence}" if rule else f"{manifest.id}  {rule_id}".rstrip()]
    lines += _labelled("saw    ", failure.saw)
    if looks_like:
        lines.append(f"{LOOKS_LIKE}{looks_like}")
    lines.append(f"  read   {spec}{rule.anchor if rule and not failure.blocks else ''}")
    if failure.frames:
        lines += ["", *frame_lines(failure.frames, start)]
    return "\n".join(lines)


def frame_lines(frames: tuple[Frame, ...], start: Path) -> list[str]:
    """The last frames, two lines each: where, and the line itself."""
    lines = []
    for frame in frames[-FRAMES:]:
        linecache.checkcache(str(frame.path))
        source = plain.line(linecache.getline(str(frame.path), frame.line), 160)
        lines += [f"  {shown(frame.path, start)}:{frame.line}: in {frame.function}"]
        lines += [f"      {source}"] if source else []
    return lines


def shown(path: Path, start: Path) -> str:
    """A path as the user would type it from ``start``."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def _labelled(label: str, text: str) -> list[str]:
    first, *rest = plain.lines(text)
    return [f"  {label}{first}", *(f"         {line}" for line in rest)]


def _example(error: BaseException) -> str:
    """The arguments that Hypothesis drew (see ``properties.given``)."""
    drawn = drawn_with(error)
    shown = [f"{name}={plain.repr_of(value, 60)}" for name, value in drawn.items()]
    return f"{', '.join(shown)}: " if shown else ""
