"""The hooks that show and write the leaderboard when a session has graded something."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmgrind import board as boards
from pytest_llmgrind.bench_bridge import ratios_before
from pytest_llmgrind.board import Board
from pytest_llmgrind.candidates import is_practice
from pytest_llmgrind.record import record
from pytest_llmgrind.report import json, markdown, result
from pytest_llmgrind.standing import Outside
from pytest_llmgrind.verdicts import by_challenge

if TYPE_CHECKING:
    from pytest_llmgrind.grading import Grading

ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


class Leaderboard:
    """Shows the board once, where a terminal is; writes the files that were asked for."""

    def __init__(self, config: pytest.Config, grading: Grading) -> None:
        self.config = config
        self.grading = grading
        self.finished = False
        self.began = time.monotonic()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> Generator[None]:
        """Last of all, and also when --benchmark-compare-fail raises out of this hook."""
        try:
            return (yield)
        finally:
            shown = not self.config.getoption("no_summary", False)
            self.finish(exitstatus, terminalreporter, shown=shown)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None]:
        """Files are written though there is no terminal, or no summary of it."""
        try:
            return (yield)
        finally:
            terminal = self.config.pluginmanager.getplugin("terminalreporter")
            self.finish(exitstatus, terminal, shown=False)

    def finish(self, exit_code: int, terminal: Any, *, shown: bool) -> None:
        """Show and write the board, the first time that this is called."""
        if self.finished or self.config.option.collectonly:
            return
        self.finished = True
        board = self.board(exit_code, terminal)
        if shown and not board.is_empty:
            show(board, terminal)
        for complaint in self._written(board, exit_code):
            if terminal is not None:
                terminal.write_line(complaint, red=True)

    def board(self, exit_code: int, terminal: Any) -> Board:
        """What this session graded, and what others reached where it was not interrupted."""
        outside: list[Outside] = []
        remarks: list[str] = []
        directory = self.config.getoption("entrants")
        if directory and self.grading.results and exit_code not in ENDED:
            remarks.append("--entrants: not graded, since the run was interrupted")
        elif directory and self.grading.results:
            from pytest_llmgrind import entrants

            outside, remarks = entrants.grade_all(self.config, self.grading, directory, terminal)
        board = boards.build(
            self.grading.results,
            start=self.config.invocation_params.dir,
            before=ratios_before(self.config),
            outside=outside,
            remarks=remarks,
        )
        return record(board, self._practised(), self.seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def _practised(self) -> dict[str, Path]:
        """The challenges whose solution is the workspace's own."""
        roots = by_challenge(self.grading.results)
        return {root.name: root for root in roots if is_practice(self.config, root)}

    def _written(self, board: Board, exit_code: int) -> Generator[str]:
        if option := self.config.getoption("result"):
            file = self.config.invocation_params.dir / option
            try:
                json.save(file, result.document(self.grading, exit_code, self.seconds))
            except OSError as error:
                yield f"--result: {file} cannot be written: {error.strerror}"
        if option := self.config.getoption("leaderboard_json"):
            file = self.config.invocation_params.dir / option
            try:
                json.write(file, board, exit_code=int(exit_code))
            except OSError as error:
                yield f"--leaderboard-json: {file} cannot be written: {error.strerror}"
        if (summary := os.environ.get(STEP_SUMMARY)) and board.challenges:
            try:
                with Path(summary).open("a", encoding="utf-8") as stream:
                    stream.write(markdown.render(board))
            except OSError as error:
                yield f"{STEP_SUMMARY}: {summary} cannot be written: {error.strerror}"


def show(board: Board, terminal: Any) -> None:
    """Print the board; with ``-q`` a line for each challenge, with ``-qq`` nothing."""
    verbosity = terminal.config.get_verbosity()
    if verbosity < -1:
        return
    from pytest_llmgrind.report.tables import Look
    from pytest_llmgrind.report.terminal import render

    writer = terminal.config.get_terminal_writer()
    look = Look(
        width=writer.fullwidth,
        colour=writer.hasmarkup,
        lines=terminal.isatty,
        encoding=getattr(writer._file, "encoding", None) or "utf-8",
    )
    text = render(board, look, brief=verbosity < 0)
    if not text:
        return
    terminal.ensure_newline()
    if verbosity >= 0:
        terminal.section("leaderboard")
    for line in text.splitlines():
        terminal.write_line(line)


def register(config: pytest.Config, grading: Grading) -> None:
    """Where the reports arrive: not on a worker of xdist."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leaderboard(config, grading), "llmgrind-leaderboard")
