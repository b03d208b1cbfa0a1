"""pytest in a process of its own, on one stage or on all; it can be ended at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.report import json
from pytest_llmgrind.watch.course import Task

END_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found: words of stages and the board's next step; empty if it graded nothing."""

    exit_code: int
    words: dict[str, str] = field(default_factory=dict)
    next_kind: str = ""
    next_text: str = ""


@dataclass(eq=False)
class Run:
    """One run of pytest that writes to our own standard output; ``ended`` is called from a thread.

    It has a session of its own: Ctrl-C ends us, and we end it with all that it started.
    """

    manifest: Manifest
    task: Task
    scratch: Path
    ended: Callable[[Run], None]

    def __post_init__(self) -> None:
        self.board = self.scratch / "board.json"
        self.board.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, start_new_session=True
        )
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def command(self) -> list[str]:
        """Failure texts first, then the board; no list of names that repeats them.

        The board is brief but for the run with budgets, whose figures it shows.
        """
        target = self.manifest.root
        if self.task.stage is not None:
            target /= self.manifest.stages[self.task.stage].file
        whole = self.task.budgets and self.task.stage is None
        show = ["-rN", "--no-header"] if whole else ["-rN", "-q"]
        timing = [] if self.task.budgets else ["--benchmark-disable"]
        board = ["--leaderboard-json", str(self.board)]
        return [sys.executable, "-m", "pytest", str(target), *show, *timing, *board]

    def outcome(self) -> Outcome:
        """To be asked for when it has ended."""
        code = self.process.wait()
        try:
            found: Any = json.read(self.board).get(self.manifest.id)
        except ValueError:
            found = None
        if not found:
            return Outcome(exit_code=code)
        words = {stage["name"]: stage["word"] for stage in found["stages"]}
        step = found["next"]
        return Outcome(exit_code=code, words=words, next_kind=step["kind"], next_text=step["text"])

    def end(self) -> None:
        """End it, and wait until it has ended."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
                return

    def _wait(self) -> None:
        self.process.wait()
        self.ended(self)
