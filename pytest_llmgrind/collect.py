"""Challenge directories as pytest nodes; node ids are real paths."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from traceback import walk_tb
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import tiers
from pytest_llmgrind.isolate import unwarned
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.plain import text_of
from pytest_llmgrind.solution import ChallengeBroken

OURS = ("challenge.toml", "spec.md", "stub.py")
"""The files of a challenge that hold no tests, whatever other plugins would make of them."""
PACKAGE = "llmgrind_hidden_"


class Challenge(pytest.Directory):
    """A directory that holds a challenge.toml."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            manifest = manifests.load(self.path)
        except ManifestError as error:
            yield BrokenManifest.of(self, error)
            return
        if not _ignored(self, manifest.hidden, with_parents=True):
            yield HiddenDir.from_parent(self, path=manifest.hidden)
        for file in sorted(self.path.iterdir()):  # tests that a learner wrote
            if file.is_file() and file.name not in OURS and not _ignored(self, file):
                yield from self.ihook.pytest_collect_file(file_path=file, parent=self)


class HiddenDir(pytest.Directory):
    """The hidden tests of a challenge: the stages that the manifest lists, in its order."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            manifest = manifests.load(self.path.parent)
        except ManifestError as error:
            yield BrokenManifest.of(self, error)
            return
        for stage in manifest.stages:
            path = manifest.root / stage.file
            if not _ignored(self, path):
                yield Stage.from_parent(self, path=path)


class Stage(pytest.Module):
    """One hidden test file, of any name."""

    challenge: Manifest
    stage: manifests.Stage

    @classmethod
    def from_parent(cls, parent: pytest.Collector, *, path: Path) -> Stage:  # type: ignore[override]
        node: Stage = super().from_parent(parent=parent, path=path)
        manifest = manifests.load(path.parent.parent)
        stage = manifest.stage_at(path)
        assert stage is not None, path
        node.challenge, node.stage = manifest, stage
        node.extra_keyword_matches.update({manifest.id, stage.name})
        for tier in stage.tiers:
            node.add_marker(tier)
        if node.config.hook.pytest_timeout_set_timer.has_spec():  # pytest-timeout is there
            node.add_marker(pytest.mark.timeout(manifest.timeout))
        return node

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        if reason := tiers.missing_kit(self.stage.kit or self.challenge.kit):
            return tiers.without_kit(self, reason)
        if self._broken and not _asks_for_a_test(self.config, self.path):
            return [BrokenStage.from_parent(self, name="tests", text=self._broken)]
        return super().collect()

    @cached_property
    def _broken(self) -> str:
        """Why the file cannot be imported, without a line of it; empty if it can."""
        if self.config.getoption("show_hidden"):
            return ""
        try:
            _ = self.obj
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            lines = [line for f, line in walk_tb(error.__traceback__) if _is(f, self.path)]
            where = f"{self.stage.file}:{lines[-1]}" if lines else self.stage.file
            return f"{where} does not load: {_kind(error)}"
        return ""

    def funcnamefilter(self, name: str) -> bool:
        """Whatever ``python_functions`` says in the user's ini file."""
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False

    def _getobj(self) -> ModuleType:
        """The module, with our fixtures in it: nearer than a conftest.py, and nowhere else."""
        from pytest_llmgrind import fixtures

        module = import_hidden(self.path, self.config)
        for name in fixtures.__all__:
            vars(module).setdefault(name, getattr(fixtures, name))
        return module

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """A hidden file that does not load is its author's mistake; none of its lines is shown."""
        if self.config.getoption("show_hidden"):
            return super().repr_failure(excinfo)  # type: ignore[return-value]
        return f"{self.challenge.id}: {self._broken or _kind(excinfo.value)}"


class BrokenManifest(pytest.Item):
    """Stands for a challenge whose challenge.toml cannot be used; fails with one line."""

    def __init__(self, *, text: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text

    @classmethod
    def of(cls, parent: pytest.Directory, error: ManifestError) -> BrokenManifest:
        file = (parent.path if isinstance(parent, Challenge) else parent.path.parent) / OURS[0]
        nodeid = f"{parent.nodeid}/{OURS[0]}".removeprefix("./")
        text = str(error).removeprefix(f"{parent.config.invocation_params.dir}/")
        node: BrokenManifest = cls.from_parent(
            parent, name=OURS[0], path=file, nodeid=nodeid, text=text
        )
        return node

    def runtest(self) -> None:
        pytest.fail(self.text, pytrace=False)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        return self.text

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.nodeid


class BrokenStage(BrokenManifest):
    """Stands for the tests of a hidden file that does not import."""

    def runtest(self) -> None:
        raise ChallengeBroken(self.text)


def stage_of(item: pytest.Item) -> Stage | None:
    """The stage that a test belongs to; None for every test that is not ours."""
    return item.getparent(Stage)


def directory_node(path: Path, parent: pytest.Collector) -> pytest.Directory | None:
    """The node for a challenge or its hidden directory, None for any other directory."""
    if (path / manifests.MANIFEST).is_file():
        return Challenge.from_parent(parent, path=path)
    if path.name == "hidden" and (path.parent / manifests.MANIFEST).is_file():
        return HiddenDir.from_parent(parent, path=path)
    return None


def module_node(path: Path, parent: pytest.Collector) -> Stage | None:
    """The stage of a hidden file that is run from inside ``hidden/``."""
    if not (path.parent.parent / manifests.MANIFEST).is_file():
        return None
    try:
        stage = manifests.load(path.parent.parent).stage_at(path)
    except ManifestError:
        return None
    return Stage.from_parent(parent, path=path) if stage else None


def import_hidden(path: Path, config: pytest.Config) -> ModuleType:
    """Import a hidden file with rewritten asserts, under a name that clashes with nothing.

    The directory becomes a package of its own, so that ``from . import common`` works. Docstrings
    of functions are dropped, where ``--show-hidden`` is not given: ``--co -v`` would print them.
    """
    digest = hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]
    package = f"{PACKAGE}{path.parent.parent.name}_{digest}"
    name = f"{package}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if package not in sys.modules:
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    loader: Any = config.pluginmanager.rewrite_hook
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    module.__file__ = None  # Hypothesis draws constants from the files of local modules
    sys.modules[name] = module
    try:
        with unwarned():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # its traceback would show lines of the file
    except BaseException:
        del sys.modules[name]
        raise
    if not config.getoption("show_hidden"):
        _drop_docstrings(module)
    return module


def forget_hidden() -> None:
    """Drop what earlier sessions of this process imported."""
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def challenges_below(directory: Path) -> Iterator[Path]:
    """The challenge directories in ``directory``, in order of their ids."""
    yield from sorted(p.parent for p in directory.glob(f"*/{manifests.MANIFEST}"))


def _is(frame: FrameType, path: Path) -> bool:
    return frame.f_code.co_filename == str(path)


def _kind(error: BaseException) -> str:
    """Without the text of an AssertionError: pytest writes both sides into it."""
    return type(error).__name__ if isinstance(error, AssertionError) else text_of(error)


def _drop_docstrings(module: ModuleType) -> None:
    module.__doc__ = None
    for value in vars(module).values():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            value.__doc__ = None


def _asks_for_a_test(config: pytest.Config, path: Path) -> bool:
    """Whether the command line names a test of this file."""
    asked = (a.partition("::")[0] for a in config.args if "::" in a)
    return any(Path(os.path.abspath(config.invocation_params.dir / a)) == path for a in asked)


def _ignored(node: pytest.Collector, path: Path, *, with_parents: bool = False) -> bool:
    if node.session.isinitpath(path, with_parents=with_parents):
        return False
    return bool(node.ihook.pytest_ignore_collect(collection_path=path, config=node.config))
