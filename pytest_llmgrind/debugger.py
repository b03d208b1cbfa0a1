"""``--pdb``, ``--trace`` and ``breakpoint()`` show the learner's code, and not the grader's."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pytest_llmgrind.candidates import Candidates
from pytest_llmgrind.check import RuleBroken
from pytest_llmgrind.collect import Stage, stage_of
from pytest_llmgrind.fence import is_below
from pytest_llmgrind.isolate import isolated
from pytest_llmgrind.replay import call_of
from pytest_llmgrind.timeout import TimedOut

PLUGIN = str(Path(__file__).parent)


@dataclass(frozen=True)
class Sight:
    """Which frames a debugger may show: the solution's, and what it calls of others' libraries."""

    stage: Stage
    candidates: Candidates

    def owns(self, frame: FrameType) -> bool:
        return self.candidates.of(self.stage.challenge).owns(frame.f_code.co_filename)

    def shows(self, frame: FrameType | None) -> bool:
        manifest = self.stage.challenge
        graders = (str(manifest.hidden), str(manifest.reference), PLUGIN)
        while frame is not None:
            if self.owns(frame):
                return True
            if any(is_below(frame.f_code.co_filename, directory) for directory in graders):
                return False
            frame = frame.f_back
        return False

    def restrict(self, pdb: Any) -> None:
        """Neither stop in other frames, nor list or climb to them."""
        stop_here, get_stack = pdb.stop_here, pdb.get_stack

        def stack_of(frame: Any, traceback: Any) -> tuple[list[Any], int]:
            entries, _ = get_stack(frame, traceback)
            shown = [entry for entry in entries if self.shows(entry[0])]
            return shown or entries[-1:], max(0, len(shown) - 1)

        pdb.stop_here = lambda frame: self.shows(frame) and stop_here(frame)
        pdb.get_stack = stack_of


@dataclass(eq=False)
class Debugger:
    """The hooks around debuggers of a session that grades."""

    config: pytest.Config
    candidates: Candidates
    _sight: Sight | None = None
    _failed: dict[str, tuple[BaseException, Any]] = field(default_factory=dict)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        stage = stage_of(item)
        self._sight = Sight(stage, self.candidates) if stage else None
        try:
            return (yield)
        finally:
            self._sight = None

    def pytest_enter_pdb(self, pdb: Any) -> None:
        if self._sight is not None and not self.config.getoption("show_hidden"):
            self._sight.restrict(pdb)

    def failed(self, item: pytest.Item, error: BaseException, report: Any) -> None:
        """A test failed with no frame of the learner's that ``--pdb`` could stop in."""
        if not self.config.getoption("usepdb"):
            return
        unusable = (RuleBroken, TypeError, AttributeError, ValueError, IndexError)
        if isinstance(error, unusable) and isinstance(item, pytest.Function):
            self._failed[item.nodeid] = (error, report.longrepr)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """While the fixtures are still there: run it again, up to the learner's first line."""
        known = self._failed.pop(item.nodeid, None)
        if known is not None and isinstance(item, pytest.Function) and self._sight is not None:
            self._run_again(item, *known, self._sight)
        return (yield)

    def _run_again(
        self, item: pytest.Function, error: BaseException, text: Any, sight: Sight
    ) -> None:
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_sep(">", item.name)
            terminal.write_line(str(text))
        call = call_of(item, error)

        def stop(frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "call" and sight.owns(frame):
                pytest.set_trace(header="run again: this is where the test calls your code")
                return frame.f_trace
            return None

        sys.settrace(stop)
        try:
            with isolated(lambda text: None):
                call()
        except pytest.exit.Exception:  # "q" at the prompt
            raise
        except (Exception, RuleBroken, TimedOut):
            pass
        finally:
            sys.settrace(None)
