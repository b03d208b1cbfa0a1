"""The hooks of a session that grades challenges; registered when the first challenge is met."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import redact, tiers, timeout
from pytest_llmgrind import solution as solutions
from pytest_llmgrind.budget import MEASURED
from pytest_llmgrind.check import RuleBroken
from pytest_llmgrind.collect import Challenge, Stage, forget_hidden, stage_of
from pytest_llmgrind.interface import untouched
from pytest_llmgrind.isolate import isolated
from pytest_llmgrind.manifest import TIMED, Manifest
from pytest_llmgrind.redact import Failure
from pytest_llmgrind.rules import rule_of
from pytest_llmgrind.solution import Candidate, SolutionError

if TYPE_CHECKING:
    from pytest_llmgrind.diagnose import Diagnosis

NOTES = pytest.StashKey[list[str]]()
WORDS = {
    "todo": ("todo", "t", "TODO", "yellow"),
    "over budget": ("failed", "B", "OVER BUDGET", "red"),
    "timed out": ("failed", "T", "TIMED OUT", "red"),
    "blocked": ("failed", "F", "CANNOT BE GRADED", "red"),
    "no hardware": ("failed", "F", "NO HARDWARE", "red"),
    "failed": ("failed", "F", "FAILED", "red"),
}
SAID_ONCE = ("blocked", "no hardware")


@dataclass(eq=False)
class Grading:
    """What one session knows: the code that is graded, and what became of each test."""

    config: pytest.Config
    directory: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    _loaded: dict[Path, ModuleType | SolutionError] = field(default_factory=dict)
    _said: set[tuple[str, str]] = field(default_factory=set)
    _diagnosis: Diagnosis | None = None

    # -- the code that is graded ------------------------------------------------------------

    def candidate(self, manifest: Manifest) -> Candidate:
        return solutions.find(manifest, self.directory)

    def solution(self, manifest: Manifest) -> ModuleType:
        return self._load(manifest, self.candidate(manifest))

    def reference(self, manifest: Manifest) -> ModuleType:
        found = solutions.find(manifest, manifest.reference)
        if found.is_stub:
            raise SolutionError(f"there is no {manifest.reference / manifest.id}.py")
        return self._load(manifest, found)

    def _load(self, manifest: Manifest, candidate: Candidate) -> ModuleType:
        known = self._loaded.get(candidate.path)
        if known is None:
            known = self._loaded[candidate.path] = self._import(manifest, candidate)
        if isinstance(known, SolutionError):
            raise known.with_traceback(None)
        return known

    def _import(self, manifest: Manifest, candidate: Candidate) -> ModuleType | SolutionError:
        try:
            with isolated(lambda text: None):
                return solutions.load(manifest, candidate)
        except SolutionError as error:
            return error
        except timeout.TimedOut as error:
            return SolutionError(f"{candidate.path.name}: its import gave {error}")

    def in_play(self, manifest: Manifest) -> bool:
        """A solution exists, the stub was edited, or the command line names the challenge."""
        if not self.candidate(manifest).is_stub or named(self.config, manifest):
            return True
        return not untouched(manifest.stub, manifest.reference / f"{manifest.id}.py")

    # -- selection --------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Timed tests last: under xdist they would hold up the others."""
        items.sort(key=is_timed)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if stage_of(item) is not None:
            tiers.admit(item)

    # -- running ----------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        if stage_of(item) is None:
            return (yield)
        notes = item.stash.setdefault(NOTES, [])
        with isolated(notes.append):
            return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        stage = stage_of(item)
        if stage is None:
            return None
        candidate, hidden = self.candidate(stage.challenge), f"{stage.path.parent}/"
        return timeout.start(
            item,
            settings.timeout,
            lambda filename: candidate.owns(filename) or filename.startswith(hidden),
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        report: pytest.TestReport = yield
        stage = stage_of(item)
        if stage is not None and (report.when == "call" or not report.passed):
            self._describe(report, item, stage, call)
        return report

    def _describe(
        self, report: Any, item: pytest.Item, stage: Stage, call: pytest.CallInfo[None]
    ) -> None:
        manifest, candidate = stage.challenge, self.candidate(stage.challenge)
        failure = Failure("passed", "")
        if report.skipped:
            word = "no hardware" if tiers.LACKING in item.stash else "skipped"
            failure = Failure(word, str(report.longrepr[2]))
            report.longrepr = (str(manifest.root.parent), None, report.longrepr[2])
        elif report.failed and call.excinfo is not None:
            failure = self._failure(report, item, call, stage)
        start = self.config.invocation_params.dir
        report.llmgrind = {  # builtins only: anything else ends an xdist run
            "challenge": manifest.id,
            "root": str(manifest.root),
            "stage": stage.stage.name,
            "rule": rule_of(item),
            "outcome": failure.outcome,
            "saw": failure.saw,
            "budget": item.stash.get(MEASURED, None),
            "notes": _notes(report, item),
            "solution": redact.shown(candidate.home, start),
            "is_stub": candidate.is_stub,
            "in_play": self.in_play(manifest),
        }

    def _failure(
        self, report: Any, item: pytest.Item, call: pytest.CallInfo[None], stage: Stage
    ) -> Failure:
        manifest, candidate = stage.challenge, self.candidate(stage.challenge)
        assert call.excinfo is not None
        error = call.excinfo.value
        if isinstance(error, tiers.NoHardware):
            report.longrepr = f"{manifest.id}  {error}"
            return Failure("no hardware", str(error))
        failure = redact.classify(call.excinfo, candidate)
        if failure.outcome == "todo" and not self.in_play(manifest):
            report.outcome = "skipped"
            reason = f"Skipped: not begun: llmgrind start {manifest.id}"
            report.longrepr = (str(manifest.root), 0, reason)
            return failure
        if not self.config.getoption("show_hidden"):
            report.longrepr = redact.render(
                failure,
                manifest,
                rule_of(item),
                start=self.config.invocation_params.dir,
                looks_like=self._looks_like(item, error, manifest),
            )
            call.excinfo = redact.own_excinfo(call.excinfo, candidate)
        return failure

    def _looks_like(self, item: pytest.Item, error: BaseException, manifest: Manifest) -> str:
        if not isinstance(error, RuleBroken) or not isinstance(item, pytest.Function):
            return ""
        if self._diagnosis is None:
            from pytest_llmgrind.diagnose import Diagnosis

            self._diagnosis = Diagnosis()
        return self._diagnosis.looks_like(item, error, manifest, rule_of(item))

    # -- telling ----------------------------------------------------------------------------

    def see(self, report: Any) -> None:
        """Keep what a report says; called where the terminal is, before it prints."""
        data = report.llmgrind
        key = (data["challenge"], data["saw"])
        data["repeat"] = data["outcome"] in SAID_ONCE and key in self._said
        self._said.add(key)
        about = {"nodeid": report.nodeid, "duration": report.duration, "status": report.outcome}
        self.results.append({**data, **about})

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Any:
        data = getattr(report, "llmgrind", None)
        if data is None or not report.failed:
            return None
        category, letter, word, colour = WORDS[data["outcome"]]
        if data.get("repeat"):
            category, letter, colour = data["outcome"], letter.lower(), "yellow"
        return category, letter, (word, {colour: True})


GRADING = pytest.StashKey[Grading]()


def activate(config: pytest.Config) -> Grading:
    """Register what a grading session needs, once."""
    if GRADING not in config.stash:
        solutions.forget_all()
        forget_hidden()
        config.stash[GRADING] = Grading(config, solutions_directory(config))
        config.pluginmanager.register(config.stash[GRADING], "llmgrind-grading")
        from pytest_llmgrind import alone, bench_bridge
        from pytest_llmgrind.report import session

        alone.register(config)
        bench_bridge.register(config)
        session.register(config, config.stash[GRADING])
        if not config.pluginmanager.hasplugin("llmgrind-fixtures"):
            from pytest_llmgrind import fixtures

            config.pluginmanager.register(fixtures, "llmgrind-fixtures")
    return config.stash[GRADING]


def solutions_directory(config: pytest.Config) -> Path:
    """``--solutions`` is relative to where pytest was called, the ini setting to the rootdir."""
    option = config.getoption("solutions")
    if option:
        return Path(config.invocation_params.dir / option).resolve()
    return config.rootpath / str(config.getini("llmgrind_solutions"))


def named(config: pytest.Config, manifest: Manifest) -> bool:
    """Whether the command line names this challenge: a path at or in it, or ``-k <id>``."""
    if manifest.id in str(config.getoption("keyword", "") or ""):
        return True
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path == manifest.root or manifest.root in path.parents:
            return True
    return False


def is_timed(item: pytest.Item) -> bool:
    stage = stage_of(item)
    if stage is None:
        return False
    budget = stage.challenge.budget_of(getattr(item, "originalname", item.name))
    return budget is not None and budget.kind in TIMED


def crashed(config: pytest.Config, nodeid: str) -> dict[str, Any] | None:
    """What a report holds for a test of ours whose worker died under it."""
    path = config.rootpath / nodeid.partition("::")[0]
    try:
        manifest = manifests.load(path.parent.parent)
    except manifests.ManifestError:
        return None
    stage = manifest.stage_at(path)
    return {
        "challenge": manifest.id, "root": str(manifest.root),
        "stage": stage.name if stage else "", "rule": "", "outcome": "failed",
        "saw": "the process that ran this test died", "budget": None, "notes": [],
        "solution": "", "is_stub": False, "in_play": True,
    }


def _notes(report: Any, item: pytest.Item) -> list[str]:
    noted: list[str] = item.stash.setdefault(NOTES, [])
    notes = list(dict.fromkeys(noted))
    if any(name.startswith("Captured std") and "call" in name for name, _ in report.sections):
        notes.append("printed")
    return notes


__all__ = ["GRADING", "Challenge", "Grading", "activate"]
