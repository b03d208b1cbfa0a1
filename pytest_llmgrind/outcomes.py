"""What became of a graded test: its word, its text, and what its report carries to the terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import (
    ReprEntryNative,
    ReprExceptionInfo,
    ReprFileLocation,
    ReprTraceback,
)

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import redact, tiers
from pytest_llmgrind.candidates import Candidates, is_practice
from pytest_llmgrind.collect import Stage
from pytest_llmgrind.diagnose import Diagnosis
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.redact import Excinfo, Failure, Frame
from pytest_llmgrind.rules import rule_of
from pytest_llmgrind.solution import Candidate
from pytest_llmgrind.timeout import TimedOut

NOTES = pytest.StashKey[list[str]]()
WORDS = {
    "todo": ("todo", "t", "TODO", "yellow"),
    "over budget": ("failed", "B", "OVER BUDGET", "red"),
    "timed out": ("failed", "T", "TIMED OUT", "red"),
    "blocked": ("failed", "F", "CANNOT BE GRADED", "red"),
    "no hardware": ("failed", "F", "NO HARDWARE", "red"),
    "time limit": ("failed", "T", "TIME LIMIT", "red"),
    "memory limit": ("failed", "M", "MEMORY LIMIT", "red"),
    "crashed": ("failed", "C", "CRASHED", "red"),
    "protocol": ("failed", "P", "PROTOCOL", "red"),
    "forbidden": ("failed", "X", "FORBIDDEN", "red"),
    "failed": ("failed", "F", "FAILED", "red"),
}
"""Of each outcome that counts as failed: pytest's category, letter, word and colour."""


@dataclass(frozen=True)
class Describer:
    """Writes reports of graded tests: a text for people, builtins for the board."""

    config: pytest.Config
    candidates: Candidates
    diagnosis: Diagnosis

    def veiled(self, seen: Excinfo | None) -> Excinfo | None:
        """What pytest gets to make its own text of, which is not shown."""
        if seen is None or isinstance(seen.value, pytest.skip.Exception | pytest.xfail.Exception):
            return seen
        if self.config.getoption("show_hidden"):
            redact.show_traceback(seen.value)
            return seen
        return redact.veil()

    def describe(
        self, report: Any, item: pytest.Item, stage: Stage, error: BaseException | None
    ) -> None:
        """Replace the text of a report and add ``report.llmgrind``."""
        from pytest_llmgrind.budget import MEASURED  # which needs a session's grading

        failure = Failure("passed", "")
        if report.skipped:
            failure = self._skipped(report, item, stage)
        elif report.failed and error is not None:
            failure = self._failed(report, item, stage, error)
        manifest, candidate = stage.challenge, self.candidates.of(stage.challenge)
        if report.passed:
            self.diagnosis.passed(manifest, getattr(item, "originalname", item.name))
        report.llmgrind = {  # builtins only: anything else ends an xdist run
            "challenge": manifest.id,
            "root": str(manifest.root),
            "stage": stage.stage.name,
            "rule": rule_of(item),
            "outcome": failure.outcome,
            "saw": failure.saw,
            "blocks": failure.blocks or failure.outcome == "no hardware",
            "budget": item.stash.get(MEASURED, None),
            "notes": _notes(report, item),
            "solution": redact.shown(candidate.home, self.start),
            "is_stub": candidate.is_stub,
            "in_play": self.candidates.in_play(manifest),
        }

    @property
    def start(self) -> Path:
        """What paths are shown relative to: where pytest was called."""
        return self.config.invocation_params.dir

    def _skipped(self, report: Any, item: pytest.Item, stage: Stage) -> Failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        word = "no hardware" if tiers.LACKING in item.stash else "skipped"
        report.longrepr = (str(stage.challenge.root.parent), None, reason)
        return Failure(word, reason.removeprefix("Skipped: "))

    def _failed(
        self, report: Any, item: pytest.Item, stage: Stage, error: BaseException
    ) -> Failure:
        manifest, candidate = stage.challenge, self.candidates.of(stage.challenge)
        if isinstance(error, tiers.NoHardware):
            report.longrepr = self._told(f"{manifest.id}  {error}", candidate)
            return Failure("no hardware", str(error))
        failure = redact.classify(error, candidate, manifest)
        if failure.outcome == "timed out" and self.config.getoption("graded"):
            failure = replace(failure, outcome="time limit")
        if failure.outcome == "todo" and not self.candidates.in_play(manifest):
            report.outcome = "skipped"
            reason = f"Skipped: not begun: llmgrind start {manifest.id}"
            report.longrepr = (str(manifest.root), 0, reason)
        elif not self.config.getoption("show_hidden"):
            looks_like = self._looks_like(item, error, manifest, failure)
            text = redact.render(
                failure, manifest, rule_of(item), start=self.start, looks_like=looks_like
            )
            report.longrepr = self._told(text, candidate, failure.frames)
        return failure

    def _told(
        self, text: str, candidate: Candidate, frames: tuple[Frame, ...] = ()
    ) -> ReprExceptionInfo:
        """A text whose first line alone stands in summaries: a plain one stands there whole in CI.

        Its place is where the learner's code was last, or the top of it.
        """
        path, line = (frames[-1].path, frames[-1].line) if frames else (candidate.home, 1)
        place = ReprFileLocation(redact.shown(path, self.start), line, text.partition("\n")[0])
        return ReprExceptionInfo(
            reprtraceback=ReprTraceback([ReprEntryNative([text + "\n"])], None, "native"),
            reprcrash=place,
        )

    def _looks_like(
        self, item: pytest.Item, error: BaseException, manifest: Manifest, failure: Failure
    ) -> str:
        diagnosed = failure.outcome in ("failed", "over budget")
        if not diagnosed or not isinstance(item, pytest.Function):
            return ""
        if self._is_exercise(manifest):
            return ""
        try:
            return self.diagnosis.looks_like(
                item, error, manifest, rule_of(item), is_theirs=bool(failure.frames)
            )
        except TimedOut:  # of a planted bug
            return ""

    def _is_exercise(self, manifest: Manifest) -> bool:
        """To name the planted bug would be to solve it."""
        from pytest_llmgrind.history import glance
        from pytest_llmgrind.practice import is_exercise

        if not is_practice(self.config, manifest.root):
            return False
        return is_exercise(glance(manifest.root.parent.parent, manifest.id))


def status_of(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Category, letter and word of a failed report; None where pytest's own will do.

    What was said at the first test of a challenge is not said again at the others: they get a
    category of their own, which pytest counts and does not print.
    """
    data = getattr(report, "llmgrind", None)
    if data is None or not report.failed:
        return None
    category, letter, word, colour = WORDS[data["outcome"]]
    if data.get("repeat"):
        category, letter, colour = data["outcome"], letter.lower(), "yellow"
    return category, letter, (word, {colour: True})


def crashed(config: pytest.Config, nodeid: str) -> dict[str, Any] | None:
    """What a report holds for a test of ours whose worker died under it."""
    path = config.rootpath / nodeid.partition("::")[0]
    try:
        manifest = manifests.load(path.parent.parent)
    except manifests.ManifestError:
        return None
    stage = manifest.stage_at(path)
    return {
        "challenge": manifest.id,
        "root": str(manifest.root),
        "stage": stage.name if stage else "",
        "rule": "",
        "outcome": "failed",
        "saw": "the process that ran this test died",
        "blocks": False,
        "budget": None,
        "notes": [],
        "solution": "",
        "is_stub": False,
        "in_play": True,
    }


def _notes(report: Any, item: pytest.Item) -> list[str]:
    noted: list[str] = item.stash.setdefault(NOTES, [])
    notes = list(dict.fromkeys(noted))
    if any(name.startswith("Captured std") and "call" in name for name, _ in report.sections):
        notes.append("printed")
    return notes
