"""Imports a file or package anew, from its text, under rules for what it may import itself.

Knows nothing about pytest.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind import guard
from pytest_llmgrind.manifest import Imports

PREFIX = "llmgrind_solution_"


def import_fresh(path: Path, rules: Imports | None) -> ModuleType:
    """Import a file, or the package of an ``__init__.py``, under a name that clashes with nothing.

    Never from bytecode, never what was imported before. With ``rules``, its ``import`` statements
    are guarded.
    """
    package = path.name == "__init__.py"
    stem = path.parent.name if package else path.stem
    name = f"{PREFIX}{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    _forget(name)
    places = [str(path.parent)] if package else None
    loader = _Loader(name, str(path), rules)
    spec = importlib.util.spec_from_file_location(
        name, path, loader=loader, submodule_search_locations=places
    )
    assert spec is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.meta_path.insert(0, _Finder(name, rules))  # stays: a package may import its parts late
    try:
        loader.exec_module(module)
    except BaseException:
        _forget(name)
        raise
    return module


def forget_all() -> None:
    """Drop what earlier sessions of this process imported."""
    _forget(PREFIX)


def _forget(prefix: str) -> None:
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        del sys.modules[name]
    sys.meta_path[:] = [
        f for f in sys.meta_path if not (isinstance(f, _Finder) and f.package.startswith(prefix))
    ]


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles from the text each time: a stale ``.pyc`` would grade an earlier version."""

    def __init__(self, name: str, path: str, rules: Imports | None) -> None:
        super().__init__(name, path)
        self.rules = rules

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        if self.rules is not None:
            own = module.__name__.partition(".")[0]
            module.__dict__["__builtins__"] = guard.guarded_builtins(self.rules, own)
        module.__file__ = None  # Hypothesis draws constants from the files of local modules
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Gives the modules inside a package the same loader."""

    def __init__(self, package: str, rules: Imports | None) -> None:
        self.package, self.rules = package, rules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(self.package + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            spec.loader = _Loader(fullname, spec.origin, self.rules)
            spec.cached = None
        return spec
