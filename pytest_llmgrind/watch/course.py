"""Which stages to run next, from the words that they had. No terminal, no pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_llmgrind.history import Attempt
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.practice import FINISHED, stage_words
from pytest_llmgrind.verdicts import NOT_RUN, WORDS

OVER_BUDGET = WORDS["over budget"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to run: one stage by its index, or all of them; ``budgets`` are measured or not."""

    stage: int | None = None
    budgets: bool = False


@dataclass(frozen=True, kw_only=True)
class Course:
    """How far the stages of a challenge are.

    ``words`` are the last that a run had for each stage, ``at`` is the index of the stage that is
    worked at. ``measured`` says that all are green with their budgets, in the code as it was run.
    """

    names: tuple[str, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    at: int = 0
    has_budgets: bool = True
    measured: bool = False

    @classmethod
    def of(cls, manifest: Manifest, attempt: Attempt | None) -> Course:
        """As the runs of an attempt left it; those of another version of the challenge say nothing.

        A word may be out of date: the run of all stages, with which each course ends, corrects it.
        """
        names = tuple(stage.name for stage in manifest.stages)
        runs = [run for run in (attempt.runs if attempt else ()) if run.version == manifest.version]
        words = _known(stage_words(runs), names)
        course = cls(names=names, words=words, has_budgets=bool(manifest.budgets))
        return replace(course, at=course.unfinished(0) or 0)

    def unfinished(self, start: int) -> int | None:
        """The first stage from ``start`` on, around the end, that is not finished."""
        order = [*range(start, len(self.names)), *range(start)]
        return next((i for i in order if self.words.get(self.names[i]) not in FINISHED), None)

    def task(self) -> Task:
        """What a save runs: the stage that is worked at, or all where none is left."""
        if self.unfinished(0) is None:
            return Task()
        return Task(stage=self.at, budgets=self.words.get(self.names[self.at]) == OVER_BUDGET)

    def first(self) -> Task:
        """What is run to begin with; what was green before has to be shown once more."""
        return self.task() if self.unfinished(0) is not None else Task(budgets=True)

    def skip(self) -> Course:
        """Go on to the next stage though this one is not green."""
        return replace(self, at=(self.at + 1) % len(self.names))

    def seen(self, task: Task, words: Mapping[str, str]) -> Course:
        """After a run: the words that it found, and the stage to work at from now on."""
        if not words:  # it graded nothing
            return replace(self, measured=False)
        course = replace(self, words={**self.words, **_known(words, self.names)})
        green = course.unfinished(0) is None
        whole = task.stage is None and (task.budgets or not self.has_budgets)
        at = course.unfinished(self.at if task.stage is not None else 0)
        return replace(course, at=self.at if at is None else at, measured=green and whole)

    def then(self, task: Task, words: Mapping[str, str]) -> Task | None:
        """What goes on by itself after ``task``: a green stage is followed by the next."""
        if task.stage is None or words.get(self.names[task.stage]) not in FINISHED:
            return None
        return self.first()


def _known(words: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: word for name, word in words.items() if name in names and word != NOT_RUN}
