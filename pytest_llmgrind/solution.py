"""Finds, checks and imports the code that is graded."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind import guard, interface
from pytest_llmgrind.manifest import Imports, Manifest

PREFIX = "llmgrind_solution_"


class SolutionError(Exception):
    """The code cannot be graded at all; one text for the whole challenge."""


@dataclass(frozen=True)
class Candidate:
    """The code that is graded: a file, or the ``__init__.py`` of a package."""

    path: Path
    is_stub: bool = False

    @property
    def home(self) -> Path:
        """The file, or the directory of the package."""
        return self.path.parent if self.path.name == "__init__.py" else self.path

    def owns(self, filename: str) -> bool:
        """Whether a code object's file is part of it."""
        return filename == str(self.home) or filename.startswith(f"{self.home}/")


def find(manifest: Manifest, directory: Path) -> Candidate:
    """``<directory>/<id>.py``, else the package ``<directory>/<id>/``, else the stub."""
    for path in (directory / f"{manifest.id}.py", directory / manifest.id / "__init__.py"):
        if path.is_file():
            return Candidate(path)
    return Candidate(manifest.stub, is_stub=True)


def load(manifest: Manifest, candidate: Candidate) -> ModuleType:
    """A fresh import of the candidate under the challenge's rules.

    Raises
    ------
    SolutionError
        One text that says what is wrong, where, and what to do: a syntax error, a forbidden
        import or name, an error while importing, a missing name, a signature that differs.
    """
    _check_text(manifest, candidate)
    trusted = candidate.home.parent == manifest.reference
    if not trusted:
        guard.fence(candidate.home, manifest.hidden, manifest.reference)
    try:
        module = import_fresh(candidate.path, None if trusted else manifest.solution)
    except guard.Forbidden as error:
        raise SolutionError(f"{_at(candidate, error)}: {error}") from error
    except (Exception, SystemExit) as error:
        text = f"{_at(candidate, error)}: the import failed: {type(error).__name__}: {error}"
        raise SolutionError(text) from error
    if hit := _forbidden_value(module, manifest.solution):
        raise SolutionError(f"{candidate.path.name}: {hit} is not allowed in this challenge")
    if wrong := interface.mismatch(module, interface.names(manifest.stub)):
        raise SolutionError(f"{candidate.path.name}: {wrong}")
    return module


def import_fresh(path: Path, rules: Imports | None) -> ModuleType:
    """Import a file or package anew, never from bytecode, under a name that clashes with nothing.

    With ``rules``, its ``import`` statements are guarded.
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
    with _submodules(name, rules):
        try:
            loader.exec_module(module)
        except BaseException:
            _forget(name)
            raise
    return module


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
    """Gives the modules inside a package solution the same loader."""

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


@contextmanager
def _submodules(name: str, rules: Imports | None) -> Any:
    """While a package is imported, and afterwards: it may import its modules late."""
    sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "package", None) != name]
    sys.meta_path.insert(0, _Finder(name, rules))
    yield


def forget_all() -> None:
    """Drop what earlier sessions of this process imported."""
    _forget(PREFIX)
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Finder)]
    guard.unfence()


def _forget(prefix: str) -> None:
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        del sys.modules[name]


def _check_text(manifest: Manifest, candidate: Candidate) -> None:
    files = [candidate.path] if candidate.home == candidate.path else sorted(
        candidate.home.rglob("*.py")
    )
    for file in files:
        try:
            text = file.read_text("utf-8")
            found = list(guard.violations(text, file, manifest.solution))
        except SyntaxError as error:
            lines = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
            caret = "\n".join(line for line in lines[1:-1] if line.strip())
            where = f"{file.name}:{error.lineno}: not Python: {error.msg}"
            raise SolutionError(f"{where}\n{caret}" if caret else where) from error
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise SolutionError(f"{file.name}: cannot be read: {error}") from error
        if found:
            text = "\n".join(f"{file.name}:{line}: {what}" for line, what in found)
            raise SolutionError(text)


def _at(candidate: Candidate, error: BaseException) -> str:
    """``file.py:12``: the last line of the candidate's own code that took part."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if candidate.owns(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else candidate.path.name


def _forbidden_value(module: ModuleType, rules: Imports) -> str:
    """A forbidden function that came in under another name (``vars(np)["einsum"]``)."""
    values = {id(value) for value in vars(module).values()}
    for entry in rules.forbid:
        top, *rest = entry.split(".")
        target: Any = sys.modules.get(top)
        for part in rest:
            target = getattr(target, part, None)
        if rest and target is not None and id(target) in values:
            return entry
    return ""
