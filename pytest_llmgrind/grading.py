"""The hooks of a session that grades challenges; registered when the first challenge is met."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_llmgrind import redact, tiers, timeout
from pytest_llmgrind.candidates import Candidates, directory_of
from pytest_llmgrind.collect import Stage, forget_hidden, stage_of
from pytest_llmgrind.debugger import Debugger
from pytest_llmgrind.diagnose import Diagnosis
from pytest_llmgrind.fence import is_below
from pytest_llmgrind.isolate import isolated, unwarned
from pytest_llmgrind.manifest import TIMED, Manifest
from pytest_llmgrind.outcomes import NOTES, Describer, status_of


@dataclass(eq=False)
class Grading:
    """What one session knows: the code that is graded, and what became of each test."""

    config: pytest.Config
    candidates: Candidates
    results: list[dict[str, Any]] = field(default_factory=list)
    deselected: list[str] = field(default_factory=list)
    """Names of tests that somebody left out of this session."""
    _said: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.describer = Describer(self.config, self.candidates, Diagnosis())
        self.debugger = Debugger(self.config, self.candidates)

    @property
    def directory(self) -> Path:
        """Where your solutions are: of the first challenge that was graded."""
        roots = [Path(result["root"]) for result in self.results]
        anywhere = self.config.rootpath / "challenges" / "any"
        return directory_of(self.config, roots[0] if roots else anywhere)

    def solution(self, manifest: Manifest) -> ModuleType:
        return self.candidates.solution(manifest)

    def reference(self, manifest: Manifest) -> ModuleType:
        return self.candidates.reference(manifest)

    def baseline(self, manifest: Manifest) -> ModuleType:
        return self.candidates.baseline(manifest)

    # -- selection --------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Timed tests last: under xdist they would hold up the others."""
        items.sort(key=is_timed)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.deselected += (item.name for item in items if stage_of(item) is not None)

    # -- running ----------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if stage_of(item) is None:
            return (yield)
        with unwarned():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Around the test function alone: pytest-randomly, say, seeds around that."""
        stage = stage_of(pyfuncitem)
        if stage is None:
            return (yield)
        notes = pyfuncitem.stash.setdefault(NOTES, [])
        candidates, challenge = self.candidates, stage.challenge
        no_escape = redact.no_escape(candidates.of(challenge))
        with isolated(notes.append), no_escape, candidates.around(challenge):
            return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        stage = stage_of(item)
        if stage is None:
            return None
        candidate, hidden = self.candidates.of(stage.challenge), str(stage.path.parent)
        return timeout.start(
            item,
            settings,
            ours=lambda filename: candidate.owns(filename) or is_below(filename, hidden),
            give_up=lambda limit_s: self._give_up(item, stage, limit_s),
        )

    def _give_up(self, item: pytest.Item, stage: Stage, limit_s: float) -> None:
        """In another thread, before the process ends: say where the main thread hangs."""
        candidate = self.candidates.of(stage.challenge)
        frames = redact.frame_lines(redact.frames_now(candidate), self.describer.start)
        text = f"no answer within {limit_s:g} s, and it cannot be ended: the session ends here"
        lines = ["", f"TIMED OUT {item.nodeid}", f"  saw    {text}", *frames]
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        timeout.last_words("\n".join(lines))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        stage = stage_of(item)
        if stage is None:
            return (yield)
        seen = call.excinfo
        call.excinfo = self.describer.veiled(seen)  # pytest itself would write all of it out
        report = yield
        if report.when == "call" or not report.passed:
            self.describer.describe(report, item, stage, seen.value if seen else None)
        if call.excinfo is not seen:
            assert seen is not None
            call.excinfo = redact.own_excinfo(seen.value, self.candidates.of(stage.challenge))
            if call.excinfo is None and report.failed and call.when == "call":
                self.debugger.failed(item, seen.value, report)
        return report

    # -- telling ----------------------------------------------------------------------------

    def see(self, report: Any) -> None:
        """Keep what a report says; called where the terminal is, before it prints."""
        data = report.llmgrind
        key = (data["root"], data["saw"])
        data["repeat"] = data["blocks"] and key in self._said
        if data["repeat"] and data["outcome"] == "timed out":
            data["outcome"] = "blocked"
        self._said.add(key)
        about = {"nodeid": report.nodeid, "duration": report.duration, "status": report.outcome}
        self.results.append({**data, **about})

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Any:
        return status_of(report)


class Admission:
    """Whether a test can run here. No wrapper: pytest 8 cannot tear down a test whose set-up a
    wrapper ended before it began."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if stage_of(item) is not None:
            tiers.admit(item)


GRADING = pytest.StashKey[Grading]()


def activate(config: pytest.Config) -> Grading:
    """Register what a grading session needs, once."""
    if GRADING not in config.stash:
        forget_hidden()
        config.stash[GRADING] = Grading(config, _candidates(config))
        config.pluginmanager.register(config.stash[GRADING], "llmgrind-grading")
        config.pluginmanager.register(config.stash[GRADING].debugger, "llmgrind-debugger")
        config.pluginmanager.register(Admission(), "llmgrind-admission")
        from pytest_llmgrind import alone, bench_bridge
        from pytest_llmgrind.report import session

        alone.register(config)
        bench_bridge.register(config)
        session.register(config, config.stash[GRADING])
    return config.stash[GRADING]


def _candidates(config: pytest.Config) -> Candidates:
    """Those of ``--graded`` run in processes of their own."""
    if not config.getoption("graded"):
        return Candidates(config)
    from pytest_llmgrind.graded.session import Graded

    candidates = Graded(config)
    config.add_cleanup(candidates.close)
    return candidates


def is_timed(item: pytest.Item) -> bool:
    stage = stage_of(item)
    if stage is None:
        return False
    budget = stage.challenge.budget_of(getattr(item, "originalname", item.name))
    return budget is not None and budget.kind in TIMED
