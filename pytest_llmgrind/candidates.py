"""Which code a session grades for each challenge, and whether the challenge is in play."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from pytest_llmgrind import interface, loader
from pytest_llmgrind import solution as solutions
from pytest_llmgrind.collect import import_hidden
from pytest_llmgrind.fence import unfence
from pytest_llmgrind.isolate import isolated, unwarned
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.solution import Candidate, SolutionError
from pytest_llmgrind.workspace import Workspace

_WORD = re.compile(r"(not\s+)?([\w.-]+)")


@dataclass(eq=False)
class Candidates:
    """The code of a session: found once, imported once."""

    config: pytest.Config
    _found: dict[Path, Candidate] = field(default_factory=dict)
    _in_play: dict[Path, bool] = field(default_factory=dict)
    _loaded: dict[Path, ModuleType | Exception] = field(default_factory=dict)

    sandbox = "none"
    """What stands around the code."""

    def __post_init__(self) -> None:
        loader.forget_all()
        unfence()

    def of(self, manifest: Manifest) -> Candidate:
        if manifest.root not in self._found:
            directory = directory_of(self.config, manifest.root)
            self._found[manifest.root] = solutions.find(manifest, directory)
        return self._found[manifest.root]

    def solution(self, manifest: Manifest) -> ModuleType:
        """The code that is graded, imported. Raises SolutionError, the same each time."""
        candidate = self.of(manifest)
        if candidate.path not in self._loaded:
            self._loaded[candidate.path] = _load(manifest, candidate)
        return _given(self._loaded[candidate.path])

    def reference(self, manifest: Manifest) -> ModuleType:
        """The model solution, imported. Raises ChallengeBroken."""
        if solutions.is_reference(manifest, self.of(manifest)):
            return self.solution(manifest)
        key = manifest.reference / f"{manifest.id}.py"
        if key not in self._loaded:
            self._loaded[key] = _load_reference(manifest)
        return _given(self._loaded[key])

    def baseline(self, manifest: Manifest) -> ModuleType:
        """``hidden/baseline.py``."""
        return import_hidden(manifest.baseline, self.config)

    def around(self, manifest: Manifest) -> AbstractContextManager[None]:
        """What goes around a test function."""
        return nullcontext()

    def in_play(self, manifest: Manifest) -> bool:
        """A solution exists, the stub was edited, or the command line names the challenge."""
        if manifest.root not in self._in_play:
            self._in_play[manifest.root] = self._is_in_play(manifest)
        return self._in_play[manifest.root]

    def _is_in_play(self, manifest: Manifest) -> bool:
        if not self.of(manifest).is_stub or is_named(self.config, manifest):
            return True
        with unwarned():
            reference = manifest.reference / f"{manifest.id}.py"
            return not interface.untouched(manifest.stub, reference)


def directory_of(config: pytest.Config, challenge: Path) -> Path:
    """Where the solution of a challenge is looked for.

    ``--solutions`` is relative to where pytest was called, the ini setting to the ini file.
    Without either it is ``solutions`` beside the directory of the challenges, so that it is found
    from anywhere, and two workspaces in one session keep apart.
    """
    if option := config.getoption("solutions"):
        return Path(config.invocation_params.dir / option).resolve()
    if setting := str(config.getini("llmgrind_solutions")):
        home = config.inipath.parent if config.inipath else config.rootpath
        return home / setting
    return challenge.parent.parent / "solutions"


def is_practice(config: pytest.Config, challenge: Path) -> bool:
    """Whether the solution of a challenge is the workspace's own, and its runs are recorded."""
    own = Workspace(challenge.parent.parent).solutions
    return directory_of(config, challenge).resolve() == own.resolve()


def is_named(config: pytest.Config, manifest: Manifest) -> bool:
    """Whether the command line names this challenge: a path at or in it, or ``-k`` with its id."""
    root = manifest.root.resolve()
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path == root or root in path.parents:
            return True
    words = _WORD.findall(str(config.getoption("keyword", "") or ""))
    return any(word.lower() in manifest.id for negated, word in words if not negated)


def _load(manifest: Manifest, candidate: Candidate) -> ModuleType | SolutionError:
    try:
        with isolated(lambda text: None):
            return solutions.load(manifest, candidate)
    except SolutionError as error:
        return error


def _load_reference(manifest: Manifest) -> ModuleType | Exception:
    try:
        with isolated(lambda text: None):
            return solutions.load_reference(manifest)
    except solutions.ChallengeBroken as error:
        return error


def _given(known: ModuleType | Exception) -> ModuleType:
    if isinstance(known, Exception):
        raise known.with_traceback(None)
    return known
