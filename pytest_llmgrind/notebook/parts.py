"""A solution in parts: what is given, and each stage's code. Text alone, no IPython, no pytest.

A cell that belongs to the solution begins with a comment that names its part: ``# given``,
``# stage 2``, or ``# stage 2, part 2`` where a stage has several. The solution is the text of all
parts, in the order in which the stub has them.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

WRITTEN = re.compile(r"# Written by notebooks/(\S+)\.ipynb: change it there\. ([0-9a-f]{16})\n")
_LABEL = re.compile(r"# *(given|stage (\d+)(?:, part (\d+))?)\b")
_PART = re.compile(r"^# %% (given|stage \d+(?:, part \d+)?)\n", re.MULTILINE)
_TODO = re.compile(r"stage (\d+)")


@dataclass(frozen=True, order=True)
class Label:
    """Which part a text is; stage 0 is what is given."""

    stage: int
    part: int = 1

    def __str__(self) -> str:
        if not self.stage:
            return "given"
        return f"stage {self.stage}" + (f", part {self.part}" if self.part > 1 else "")


Parts = dict[Label, str]


def label_of(cell: str) -> Label | None:
    """The part that a cell is; None where its first line names none.

    >>> label_of("# stage 2, part 3: helpers"), label_of("x = 1")
    (Label(stage=2, part=3), None)
    """
    found = _LABEL.match(cell.lstrip())
    return _label(found[1]) if found else None


def split(stub: str) -> Parts:
    """The parts of a stub in its own order; each line of it is in one, but for blank lines around.

    A function or class belongs to the first stage that it is to do in. What stands between two of
    them belongs to the one behind it, what stands before the first is given.
    """
    lines = stub.splitlines(keepends=True)
    chunks: list[tuple[int | None, int]] = []  # stage, and the line behind it
    for node in ast.parse(stub).body:
        end = node.end_lineno or node.lineno
        chunks.append((_stage(node), max(end, chunks[-1][1] if chunks else 0)))
    stages = _owners([stage for stage, _ in chunks])
    ends = [end for _, end in chunks]
    found: Parts = {}
    last: Label | None = None
    for stage, (start, end) in zip(stages, pairwise([0, *ends]), strict=True):
        text = "".join(lines[start:end])
        if last is not None and last.stage == stage:
            found[last] += text
            continue
        last = Label(stage, 1 + sum(label.stage == stage for label in found))
        found[last] = text
    if last is not None:
        found[last] += "".join(lines[ends[-1] :])
    return {label: text.strip("\n") for label, text in found.items()}


def join(template: Parts, given: Mapping[Label, str]) -> str:
    """A whole solution: the template's parts, with those that are given in their place.

    A part that the template does not have follows the last one of its stage.
    """
    order = list(template)
    for label in sorted(given.keys() - template.keys()):
        before = [i for i, other in enumerate(order) if other.stage <= label.stage]
        order.insert(max(before, default=-1) + 1, label)
    texts = {**template, **given}
    return "\n\n\n".join(f"# %% {label}\n{texts[label].strip(chr(10))}" for label in order) + "\n"


def signed(body: str, id: str) -> str:
    """A solution with a first line by which ``unsigned`` knows it for a notebook's."""
    return f"# Written by notebooks/{id}.ipynb: change it there. {_digest(body)}\n{body}"


def unsigned(text: str) -> str | None:
    """The body of a solution that a notebook wrote and nobody changed since; else None."""
    found = WRITTEN.match(text)
    body = text[found.end() :] if found else ""
    return body if found and found[2] == _digest(body) else None


def parts_of(body: str) -> Parts:
    """The parts that ``join`` put together."""
    _, *rest = _PART.split(body)
    return {
        _label(name): text.strip("\n") for name, text in zip(rest[::2], rest[1::2], strict=True)
    }


def _label(name: str) -> Label:
    if name == "given":
        return Label(0)
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return Label(*numbers)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _stage(node: ast.stmt) -> int | None:
    """The first stage that something is to do for in a statement; None where nothing is."""
    found = [
        int(number)
        for raised in ast.walk(node)
        if isinstance(raised, ast.Raise) and raised.exc is not None
        if "NotImplementedError" in ast.unparse(raised.exc)
        for number in _TODO.findall(ast.unparse(raised.exc))
    ]
    return min(found, default=None)


def _owners(stages: list[int | None]) -> list[int]:
    """For each chunk a stage: 0 before the first, then that of the next, behind the last its."""
    begun = next((i for i, stage in enumerate(stages) if stage is not None), len(stages))
    found: list[int] = []
    for i, stage in enumerate(stages):
        later = next((s for s in stages[i:] if s is not None), None)
        found.append(0 if i < begun else later or stage or found[-1])
    return found
