"""Where you are in a challenge, and the hints of that stage. Knows nothing about pytest."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmgrind import interface
from pytest_llmgrind.history import Attempt
from pytest_llmgrind.manifest import Manifest, Stage
from pytest_llmgrind.practice import FINISHED, stage_words
from pytest_llmgrind.solution import find

_STAGE = re.compile(r"\bstage (\d+)")


def stage_of(manifest: Manifest, attempt: Attempt | None, solutions: Path) -> Stage | None:
    """The first stage that was not ok when it was last run; None if all were.

    Before any run, the first of which a function is still to do.
    """
    if attempt is None or not attempt.runs:
        return _unwritten(manifest, solutions) or manifest.stages[0]
    words = stage_words(attempt.runs)
    return next((s for s in manifest.stages if words.get(s.name) not in FINISHED), None)


def given(attempt: Attempt | None, stage: Stage) -> int:
    """How many hints of a stage were shown in this attempt."""
    hints = attempt.hints if attempt else ()
    return max((hint.step for hint in hints if hint.stage == stage.name), default=0)


def _unwritten(manifest: Manifest, solutions: Path) -> Stage | None:
    """The first stage that a TODO of the solution names."""
    numbers = set()
    for file in find(manifest, solutions).files:
        try:
            todos = [name.todo for name in interface.names(file)]
        except (SyntaxError, ValueError, RecursionError, OSError):
            continue
        numbers |= {int(found[1]) for todo in todos if (found := _STAGE.search(todo))}
    return next((s for s in manifest.stages if manifest.stage_number(s) in numbers), None)
