"""The text of a failure: the rule, what was seen, where to read, the learner's own frames.

Nothing else of a traceback is ever shown: no hidden line, no expected value, no reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from pytest_llmgrind import spec as specs
from pytest_llmgrind.check import RuleBroken
from pytest_llmgrind.guard import Forbidden
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.properties import Unfinished
from pytest_llmgrind.solution import Candidate, SolutionError
from pytest_llmgrind.timeout import TimedOut

FRAMES = 3
Excinfo = pytest.ExceptionInfo[BaseException]


@dataclass(frozen=True)
class Failure:
    """What happened: a word of design §3, one sentence, and the learner's frames."""

    outcome: str
    saw: str
    frames: tuple[str, ...] = ()


def classify(excinfo: Excinfo, candidate: Candidate) -> Failure:
    """What an exception that ended a hidden test means for the learner."""
    error = excinfo.value
    if isinstance(error, Unfinished) and error.__cause__ is not None:
        error = error.__cause__
    frames = _frames_of(error, candidate)
    if isinstance(error, SolutionError):
        return Failure("blocked", str(error))
    if isinstance(error, RuleBroken):
        cause = error.__cause__ or error.__context__
        return Failure("failed", error.saw, _frames_of(cause, candidate))
    if type(error).__name__ == "OverBudget":
        return Failure("over budget", str(getattr(error, "saw", error)))
    if isinstance(error, TimedOut):
        return Failure("timed out", f"{error} (timeout in challenge.toml)", frames)
    if isinstance(error, pytest.fail.Exception):
        return Failure("failed", str(error), frames)
    if isinstance(error, Forbidden):
        return Failure("failed", str(error), frames)
    if isinstance(error, NotImplementedError) and frames:
        return Failure("todo", str(error) or "not implemented", frames)
    what = f"{type(error).__name__}: {_line(error)}" if str(error) else type(error).__name__
    if frames:
        return Failure("failed", f"{_example(error)}raised {what}", frames)
    return Failure("failed", f"{_example(error)}what came back cannot be used: {_bare(error)}")


def render(
    failure: Failure, manifest: Manifest, rule_id: str, *, start: Path, looks_like: str = ""
) -> str:
    """The failure text of design §4; paths are relative to ``start`` where that is shorter."""
    spec = shown(manifest.spec, start)
    if failure.outcome == "blocked":
        return "\n".join(
            [f"{manifest.id}  cannot be graded", *_indent("saw    ", failure.saw), f"  read   {spec}"]
        )
    rule = specs.load(manifest.spec).rule(rule_id)
    lines = [f"{rule.id}  {rule.sentence}" if rule else f"{manifest.id}  {rule_id}".rstrip()]
    lines += _indent("saw    ", failure.saw)
    if looks_like:
        lines.append(f"  looks like   {looks_like}")
    lines.append(f"  read   {spec}{rule.anchor if rule else ''}")
    if failure.frames:
        lines += ["", *failure.frames]
    return "\n".join(lines)


def own_excinfo(excinfo: Excinfo, candidate: Candidate) -> Excinfo | None:
    """The exception with the learner's frames alone: what a debugger may walk. None without any."""
    error = excinfo.value
    if isinstance(error, Unfinished) and error.__cause__ is not None:
        error = error.__cause__
    own, tb = [], error.__traceback__
    while tb is not None:
        if candidate.owns(tb.tb_frame.f_code.co_filename):
            own.append(tb)
        tb = tb.tb_next
    if not own:
        return None
    chain: TracebackType | None = None
    for tb in reversed(own):
        chain = TracebackType(chain, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    error = error.with_traceback(chain)
    error.__cause__ = error.__context__ = None
    return pytest.ExceptionInfo.from_exception(error)


def shown(path: Path, start: Path) -> str:
    """A path as the user would type it from ``start``."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def _frames_of(error: BaseException | None, candidate: Candidate) -> tuple[str, ...]:
    if error is None or error.__traceback__ is None:
        return ()
    entries = pytest.ExceptionInfo.from_exception(error).traceback
    own = [entry for entry in entries if candidate.owns(str(entry.path))]
    lines: list[str] = []
    for entry in own[-FRAMES:]:
        where = shown(Path(entry.path), candidate.home.parent.parent)
        lines += [f"  {where}:{entry.lineno + 1}: in {entry.name}", f"      {_source(entry)}"]
    return tuple(lines)


def _source(entry: pytest.TracebackEntry) -> str:  # type: ignore[name-defined]
    return str(entry.statement).strip().split("\n")[0]


def _line(error: BaseException) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _bare(error: BaseException) -> str:
    """Without the text of an AssertionError: pytest writes both sides into it."""
    name = type(error).__name__
    return name if isinstance(error, AssertionError) else f"{name}: {_line(error)}"


def _example(error: BaseException) -> str:
    """The arguments that Hypothesis drew (see ``properties.given``)."""
    drawn = [f"{k}={v!r}"[:60] for k, v in getattr(error, "llmgrind_drawn", {}).items()]
    return f"{', '.join(drawn)}: " if drawn else ""


def _indent(label: str, text: str) -> list[str]:
    first, *rest = text.split("\n")
    return [f"  {label}{first}", *(f"         {line}" for line in rest)]
