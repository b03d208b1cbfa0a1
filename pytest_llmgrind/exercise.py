"""A program to repair: the reference with planted bugs, and the proof that it is broken.

The same seed draws the same bugs, as long as bugs.toml and the hidden tests are the same and the
machine can run their stages. Comments and names are the reference's.
"""

from __future__ import annotations

import ast
import difflib
import io
import itertools
import re
import tempfile
import threading
import tokenize
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pytest_llmgrind import bugs as planted
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.gate.worker import Result, Run, Worker
from pytest_llmgrind.manifest import Manifest, ManifestError

LIMIT_S = 10.0
"""A program whose tests hang is no exercise."""
LIKE = 0.6
"""How much of a line has to stay for it to keep its comment."""
WIDTH = 100
UNFIT = ("timed out", "blocked")
LACKING = "no hardware"
Functions = ast.FunctionDef | ast.AsyncFunctionDef
_COMMENTED = re.compile(r"(?P<code>.*\S)(?P<comment>  # .*)")


class ExerciseError(Exception):
    """No such program can be made; one line: why."""


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """``text`` is the program.

    ``lacking`` is what kept a bug out that another machine could plant.
    """

    bugs: tuple[Bug, ...]
    text: str
    lacking: str = ""


def plant(manifest: Manifest, *, seed: int, count: int) -> Exercise:
    """The reference with ``count`` planted bugs of different rules, drawn by ``seed``.

    Each bug by itself fails a test that measures no time, and so do all together, in a process of
    its own.

    Raises
    ------
    ExerciseError
        The challenge has not so many bugs that can be planted together.
    """
    try:
        drawn = draw(planted.load(manifest), seed)
        source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
    except (ManifestError, OSError, UnicodeDecodeError) as error:
        raise ExerciseError(str(error)) from error
    chosen: list[Bug] = []
    with _grader(manifest) as proof:
        for bug in drawn:
            if len(chosen) < count and _fits(proof, source, [*chosen, bug], count):
                chosen.append(bug)
    if len(chosen) < count:
        can = f"{len(chosen)} of its bugs can be planted together here"
        raise ExerciseError(f"{manifest.id}: {can}, {count} were asked for")
    return Exercise(bugs=tuple(chosen), text=program(source, chosen), lacking=proof.lacking)


def draw(bugs: Sequence[Bug], seed: int) -> list[Bug]:
    """All bugs in the order of a seed. Another bug in the list leaves the order of these."""
    return sorted(bugs, key=lambda bug: sha256(f"{seed} {bug.name}".encode()).digest())


def program(source: str, bugs: Sequence[Bug]) -> str:
    """The reference with all of these bugs; lines keep the comments that stood behind them.

    Raises
    ------
    ManifestError
        A ``find`` does not match exactly one place, or two change the same lines.
    """
    spans = sorted(((*_lines(source, bug), bug) for bug in bugs), key=lambda span: span[0])
    for (_, end, first), (start, _, second) in itertools.pairwise(spans):
        if start < end:
            raise ManifestError(f"bugs {first.name} and {second.name} change the same lines")
    for start, end, bug in reversed(spans):
        before = source[start:end]
        source = source[:start] + _commented(before, bug.patched(before)) + source[end:]
    return source


def _lines(source: str, bug: Bug) -> tuple[int, int]:
    """Where the lines that a bug changes begin and end."""
    bug.patched(source)  # or it says what is wrong
    at = source.index(bug.find)
    end = at + len(bug.find)
    if not bug.find.endswith("\n"):
        end = source.find("\n", end) + 1 or len(source)
    return source.rfind("\n", 0, at) + 1, end


def _commented(before: str, after: str) -> str:
    """A line without the comment that all lines of its kind have would be a trace."""
    lines = after.split("\n")
    for found in filter(None, map(_COMMENTED.fullmatch, before.split("\n"))):
        bare = {line: _likeness(found["code"], line) for line in lines if "  # " not in line}
        best = max(bare, key=lambda line: bare[line], default="")
        if found["comment"] in after or bare.get(best, 0) < LIKE:
            continue
        if len(best + found["comment"]) <= WIDTH:
            lines[lines.index(best)] += found["comment"]
    return "\n".join(lines)


def _likeness(left: str, right: str) -> float:
    return difflib.SequenceMatcher(None, left.strip(), right.strip(), autojunk=False).ratio()


@contextmanager
def _grader(manifest: Manifest) -> Iterator[Proof]:
    with (
        tempfile.TemporaryDirectory(prefix="llmgrind-debug-") as scratch,
        Worker(manifest, Path(scratch) / "lock", threading.Event()) as worker,
    ):
        yield Proof(manifest, worker)


@dataclass(eq=False)
class Proof:
    """Grades programs in a process of its own. ``lacking`` is why tests could not run here."""

    manifest: Manifest
    worker: Worker
    lacking: str = ""

    def is_broken(self, text: str, bugs: Sequence[Bug]) -> bool:
        """Whether a test of these bugs' rules fails by what the program returns, and none hangs."""
        (self.worker.solutions / f"{self.manifest.id}.py").write_text(text, "utf-8")
        runs = [self._grade(bug) for bug in bugs]
        results = [result for run in runs for result in run.results]
        if any(run.died for run in runs) or any(r.outcome in UNFIT for r in results):
            return False
        return any(_counts(result) for result in results)

    def _grade(self, bug: Bug) -> Run:
        run = self.worker.grade(self.worker.solutions, rule=bug.rule, alone=False, limit_s=LIMIT_S)
        lacking = (r.saw.removeprefix("Skipped: ") for r in run.results if r.outcome == LACKING)
        self.lacking = self.lacking or next(lacking, "")
        return run


def _counts(result: Result) -> bool:
    """Slow tests are not run unless that is asked for."""
    return result.outcome == "failed" and "slow" not in result.test.tiers


def _fits(proof: Proof, source: str, bugs: Sequence[Bug], count: int) -> bool:
    """Whether the last of these bugs can join the others."""
    *others, bug = bugs
    if bug.rule in [other.rule for other in others]:
        return False
    try:
        alone, together = program(source, [bug]), program(source, bugs)
        if traces(together) - traces(source):
            return False
    except (ManifestError, SyntaxError, ValueError):
        return False
    last = len(bugs) == count
    return proof.is_broken(alone, [bug]) and (
        not last or not others or proof.is_broken(together, bugs)
    )


def traces(text: str) -> set[str]:
    """What strikes an editor or a reader of a program, whatever it computes.

    Long lines, other quotes, constant conditions, names that are imported or set and never read.
    """
    tree = ast.parse(text)
    found = {line for line in text.split("\n") if len(line) > WIDTH}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found |= {token.string for token in tokens if token.string.startswith("'")}
    found |= set(_imported(tree)) - _read(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp) and isinstance(node.test, ast.Constant):
            found.add(ast.unparse(node.test))
        if isinstance(node, Functions):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            found |= {f"{node.name}.{name}" for name in names - _read(node)}
    return found


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.asname or name.name for name in node.names)


def _read(tree: ast.AST) -> set[str]:
    loads = (n for n in ast.walk(tree) if isinstance(n, ast.Name))
    return {name.id for name in loads if isinstance(name.ctx, ast.Load)}
