"""Makes the .ipynb of a challenge. Imports nbformat: load it only to write one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.notebook.parts import Label, split

make: Any = nbformat.v4
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
HOW = """\
Cells whose first line is a comment like `# stage 1` are your solution; `# given` is for imports and
helpers. Run them, then the check below them: it grades what you ran last, in a process of its own.
For another cell of a stage begin it with `# stage 1, part 2`. All other cells are for trying things
out."""
ABOVE = "No function of the stub begins here: this stage goes on in the cells above."
SET_UP = """\
from pytest_llmgrind.notebook import grader

check_stage, check_all = grader("{id}")"""


def write(manifest: Manifest, file: Path) -> None:
    """Write the notebook of a challenge to ``file``, which must not exist yet.

    Raises
    ------
    OSError
        It exists, or cannot be written.
    SyntaxError, ValueError
        The stub is not Python.
    """
    text = make.writes(make.new_notebook(cells=list(cells(manifest)), metadata=KERNEL))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as out:
        out.write(f"{text}\n")


def cells(manifest: Manifest) -> Iterator[Any]:
    """The spec by section, what is given, and for each stage its code and its check."""
    for number, section in enumerate(sections(manifest.spec.read_text("utf-8-sig"))):
        yield _markdown(f"spec-{number}", section)
    yield _markdown("how", f"## Your solution\n\n{HOW}")
    yield _code("set-up", SET_UP.format(id=manifest.id))
    parts = split(manifest.stub.read_text("utf-8-sig"))
    if Label(0) in parts:
        yield _code("given", f"# given\n{parts[Label(0)]}")
    for number, stage in enumerate(manifest.stages, start=1):
        yield _markdown(f"stage-{number}", f"### Stage {number}, {stage.name}: {stage.title}")
        own = sorted(label for label in parts if label.stage == number)
        if not own:
            yield _markdown(f"stage-{number}-above", ABOVE)
        for label in own:
            mark = f"# {label}: yours\n"
            yield _code(f"stage-{number}-part-{label.part}", mark + parts[label])
        yield _code(f"check-{number}", f"check_stage({number})")
    yield _markdown("all", "### All stages, with budgets")
    yield _code("check-all", "check_all()")


def sections(spec: str) -> list[str]:
    """A spec cut before each heading of the second level that stands outside of a code block."""
    found = [""]
    fence = ""
    for line in spec.splitlines(keepends=True):
        if mark := re.match(r"```|~~~", line):
            fence = "" if fence == mark[0] else fence or mark[0]
        if not fence and line.startswith("## "):
            found.append("")
        found[-1] += line
    return [section.strip("\n") for section in found if section.strip()]


def _markdown(id: str, text: str) -> Any:
    return make.new_markdown_cell(text, id=id)


def _code(id: str, text: str) -> Any:
    return make.new_code_cell(text, id=id)
