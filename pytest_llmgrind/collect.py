"""Challenge directories as pytest nodes; node ids are real paths."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import tiers
from pytest_llmgrind.manifest import Manifest, ManifestError


class Challenge(pytest.Directory):
    """A directory that holds a challenge.toml."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            manifest = manifests.load(self.path)
        except ManifestError as error:
            yield BrokenManifest.from_parent(self, name=manifests.MANIFEST, text=str(error))
            return
        if not _ignored(self, manifest.hidden, with_parents=True):
            yield HiddenDir.from_parent(self, path=manifest.hidden)


class HiddenDir(pytest.Directory):
    """The hidden tests of a challenge: the stages that the manifest lists, in its order."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            manifest = manifests.load(self.path.parent)
        except ManifestError as error:
            yield BrokenManifest.from_parent(self, name=manifests.MANIFEST, text=str(error))
            return
        for stage in manifest.stages:
            path = manifest.root / stage.file
            if not _ignored(self, path, with_parents=False):
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
        if node.config.pluginmanager.hasplugin("timeout"):
            node.add_marker(pytest.mark.timeout(manifest.timeout))
        return node

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        if reason := tiers.missing_kit(self.challenge.kit):
            return tiers.without_kit(self, reason)
        return super().collect()

    def funcnamefilter(self, name: str) -> bool:
        """Whatever ``python_functions`` says in the user's ini file."""
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False

    def _getobj(self) -> ModuleType:
        return import_hidden(self.path, self.config)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """A hidden file that does not load is its author's mistake; none of its lines is shown."""
        error = excinfo.value
        if isinstance(error, self.CollectError):
            return str(error)
        name = f"{self.challenge.id}, stage {self.stage.name}"
        return f"{name}: its tests did not load: {type(error).__name__}: {error}"


class BrokenManifest(pytest.Item):
    """Stands for a challenge whose challenge.toml cannot be used; fails with one line."""

    def __init__(self, *, text: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.text = text

    def runtest(self) -> None:
        pytest.fail(self.text, pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: challenge.toml"


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


def meant(argument: str, config: pytest.Config) -> str:
    """What a command-line argument means: a file of a challenge stands for the challenge.

    ``challenges/04_kv_cache/spec.md`` and ``solutions/04_kv_cache.py`` are what an editor has
    open when it runs pytest on "this file".
    """
    path = config.invocation_params.dir / argument
    if "::" in argument or not path.is_file():
        return argument
    if (path.parent / manifests.MANIFEST).is_file():
        return str(path.parent)
    challenge = config.rootpath / "challenges" / path.stem
    if path.parent.name != "hidden" and (challenge / manifests.MANIFEST).is_file():
        return str(challenge)
    return argument


def import_hidden(path: Path, config: pytest.Config) -> ModuleType:
    """Import a hidden file with rewritten asserts, under a name that clashes with nothing.

    The directory becomes a package of its own, so that ``from . import common`` works.
    """
    digest = hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]
    package = f"llmgrind_hidden_{path.parent.parent.name}_{digest}"
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
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def forget_hidden() -> None:
    """Drop what earlier sessions of this process imported."""
    for name in [name for name in sys.modules if name.startswith("llmgrind_hidden_")]:
        del sys.modules[name]


def challenges_below(directory: Path) -> Iterator[Path]:
    """The challenge directories in ``directory``, in order of their ids."""
    yield from sorted(p.parent for p in directory.glob(f"*/{manifests.MANIFEST}"))


def _ignored(node: pytest.Collector, path: Path, *, with_parents: bool) -> bool:
    if node.session.isinitpath(path, with_parents=with_parents):
        return False
    return bool(node.ihook.pytest_ignore_collect(collection_path=path, config=node.config))
