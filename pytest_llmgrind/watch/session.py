"""The loop of ``llmgrind watch``: saves, keys and ends of runs, one after another."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from pytest_llmgrind import clock
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.history import Attempt, HistoryError, open_history
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.watch import status
from pytest_llmgrind.watch.course import Course, Task
from pytest_llmgrind.watch.runs import Outcome, Run
from pytest_llmgrind.watch.saves import Saves, last_changed, solution_files
from pytest_llmgrind.watch.terminal import Terminal
from pytest_llmgrind.workspace import Workspace

REFRESH_S = 15.0
"""How old the minutes on the screen may be."""


def missing() -> bool:
    """Whether the extra ``watch`` is not installed."""
    return find_spec("watchfiles") is None


def latest(workspace: Workspace, attempts: list[Attempt]) -> str | None:
    """Whose solution was changed last, else which attempt that is open was heard of last."""
    if found := last_changed(workspace):
        return found
    known = [each for each in attempts if each.is_open and each.challenge in workspace.ids]
    return max(known, key=_heard).challenge if known else None


def _heard(attempt: Attempt) -> str:
    moments = [attempt.started, *(run.at for run in attempt.runs), *(h.at for h in attempt.hints)]
    return max(clock.text(moment) for moment in moments)


@dataclass(eq=False)
class Session:
    """Watches a workspace, beginning with the challenge ``id``; with ``alone`` no other.

    ``remark`` is called with what the history has to say.
    """

    workspace: Workspace
    id: str
    alone: bool = False
    remark: Callable[[str], None] = print
    terminal: Terminal = field(default_factory=Terminal)

    def __post_init__(self) -> None:
        self.running: Run | None = None
        self.manifest: Manifest | None = None
        self.attempt: Attempt | None = None
        self.course = Course(names=("",))
        self.outcome: Outcome | None = None
        self.wants_hint = False

    def watch(self) -> None:
        """Until q, Ctrl-C or a signal; the terminal is then as it was, and no run is left."""
        with (
            contextlib.suppress(KeyboardInterrupt),
            tempfile.TemporaryDirectory(prefix="llmgrind-watch-") as scratch,
            self.terminal.taken(),
            Saves(self.workspace, self.id, self.terminal.post, alone=self.alone) as self.saves,
        ):
            self.scratch = Path(scratch)
            try:
                self._open(self.id)
                while self._handle(self.terminal.next(REFRESH_S)):
                    pass
            finally:
                self._end_run()
                self.terminal.free()

    # -- events -----------------------------------------------------------------------------

    def _handle(self, event: object) -> bool:
        """Act on an event; False is the end."""
        if isinstance(event, frozenset):
            self._saved(event)
        elif isinstance(event, Run):
            self._ended(event)
        elif event is None and not self.terminal.is_plain:
            self._show_status()  # minutes pass
        elif event == "q":
            return False
        elif event == "h":
            self.wants_hint = True
            self._hint()
        elif event == "n" and self.manifest:
            self.course = self.course.skip()
            self._start(Task(stage=self.course.at))
        elif event == "r" and self.manifest:
            self._start(Task(budgets=True))
        return True

    def _saved(self, ids: frozenset[str]) -> None:
        if self.id not in ids:
            self._open(max(ids, key=self._changed))
        elif self._reload():
            self._start(self.running.task if self.running else self.course.task())

    def _ended(self, run: Run) -> None:
        if run is not self.running:
            return  # it was ended for another
        self.running = None
        self.outcome = run.outcome()
        self.course = self.course.seen(run.task, self.outcome.words)
        self.attempt = self._attempt()
        if task := self.course.then(run.task, self.outcome.words):
            self._start(task, clear=False)
            return
        self._show_status()
        self._hint()

    # -- acts -------------------------------------------------------------------------------

    def _open(self, id: str) -> None:
        """Work at another challenge from now on."""
        self._end_run()
        self.id = self.saves.id = id
        self.attempt = self._attempt()
        if self._reload():
            assert self.manifest
            self.course = Course.of(self.manifest, self.attempt)
            self._start(self.course.first())

    def _reload(self) -> bool:
        """Read challenge.toml again: its author may be at work."""
        try:
            manifest = manifests.load(self.workspace.challenges / self.id)
        except ManifestError as error:
            self._end_run()
            self.manifest = self.outcome = None
            self.terminal.say(str(error))
            return False
        if self.manifest is None or self.manifest.stages != manifest.stages:
            self._end_run()  # its stage may be gone
            self.course = Course.of(manifest, self.attempt)
        self.manifest = manifest
        return True

    def _start(self, task: Task, *, clear: bool = True) -> None:
        assert self.manifest
        if self.running and self.terminal.is_plain:
            self.terminal.say("ended, to begin anew")
        self._end_run()
        if clear:
            self.terminal.clear()
        self.outcome = None
        self.terminal.say(self.terminal.bold(status.heading(self.manifest, task)))
        self.running = Run(self.manifest, task, self.scratch, self.terminal.post)

    def _end_run(self) -> None:
        if self.running:
            running, self.running = self.running, None
            running.end()

    def _hint(self) -> None:
        """Between two runs, so that their texts do not mix."""
        if self.running or not self.wants_hint:
            return
        self.wants_hint = False
        self.terminal.free()
        command = [sys.executable, "-m", "pytest_llmgrind.cli", "hint", self.id]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        self.attempt = self._attempt()
        self._show_status()

    def _show_status(self) -> None:
        if self.running or self.manifest is None or self.outcome is None:
            return
        shown = status.lines(
            self.manifest,
            self.course,
            self.outcome,
            self._effort(),
            keys=self.terminal.has_keys,
            width=self.terminal.width,
        )
        self.terminal.status(shown)

    # -- what is known ----------------------------------------------------------------------

    def _changed(self, id: str) -> int:
        files = solution_files(self.workspace.solutions, id)
        return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)

    def _attempt(self) -> Attempt | None:
        """None also where the history cannot be used: pytest's board says so at each run."""
        try:
            with open_history(self.workspace.root) as history:
                for text in history.remarks:
                    self.remark(text)
                return history.current(self.id)
        except (HistoryError, ValueError):
            return None

    def _effort(self) -> str:
        try:
            return status.effort(self.attempt, clock.now())
        except ValueError:
            return ""
