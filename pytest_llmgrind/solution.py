"""Finds and checks the code that is graded. Knows nothing about pytest."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pytest_llmgrind import guard, interface
from pytest_llmgrind.fence import fence, is_below
from pytest_llmgrind.loader import import_fresh as import_fresh
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.plain import text_of
from pytest_llmgrind.timeout import TimedOut


class SolutionError(Exception):
    """The code cannot be graded at all; one text for the whole challenge.

    ``forbidden`` says that it uses what the challenge does not allow.
    """

    def __init__(self, text: str, *, forbidden: bool = False) -> None:
        super().__init__(text)
        self.forbidden = forbidden


class ChallengeBroken(Exception):
    """A reference or a hidden file cannot be used: its author's mistake, not the learner's."""


@dataclass(frozen=True)
class Candidate:
    """The code that is graded: a file, or the ``__init__.py`` of a package.

    ``wrong`` says why what stands there cannot be it.
    """

    path: Path
    is_stub: bool = False
    wrong: str = ""

    @property
    def home(self) -> Path:
        """The file, or the directory of the package."""
        return self.path.parent if self.path.name == "__init__.py" else self.path

    @property
    def files(self) -> list[Path]:
        """All files of its text."""
        return [self.path] if self.home == self.path else sorted(self.home.rglob("*.py"))

    def owns(self, filename: str) -> bool:
        """Whether a code object's file is part of it."""
        return is_below(filename, str(self.home))

    def name(self, file: Path) -> str:
        """``04_kv_cache.py``, or ``04_kv_cache/cache.py`` in a package."""
        return str(file.relative_to(self.home.parent))


def find(manifest: Manifest, directory: Path) -> Candidate:
    """``<directory>/<id>.py``, else the package ``<directory>/<id>/``, else the stub."""
    file, package = directory / f"{manifest.id}.py", directory / manifest.id / "__init__.py"
    for path in (file, package):
        if path.is_file():
            return Candidate(path)
    if file.is_symlink() or file.exists():
        kind = "a link to nothing" if file.is_symlink() else "not a file"
        return Candidate(file, wrong=f"{file.name} is {kind}")
    if any(package.parent.glob("*.py")):
        return Candidate(package, wrong=f"{manifest.id}/ has no __init__.py, so it is no package")
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
    if not is_reference(manifest, candidate):
        fence(candidate.home, manifest.hidden, manifest.reference)
    module = _import(manifest, candidate)
    if entry := guard.forbidden_value(module, manifest.solution):
        name = candidate.name(candidate.path)
        raise SolutionError(f"{name}: {entry} is not allowed in this challenge", forbidden=True)
    if wrong := interface.mismatch(module, _wanted(manifest)):
        raise SolutionError(f"{candidate.name(candidate.path)}: {wrong}")
    return module


def load_reference(manifest: Manifest) -> ModuleType:
    """The model solution, without a guard: it belongs to the grader.

    Raises
    ------
    ChallengeBroken
        With no line of its text.
    """
    found = find(manifest, manifest.reference)
    if found.is_stub or found.wrong:
        raise ChallengeBroken(f"there is no reference/{manifest.id}.py")
    try:
        return import_fresh(found.path, None)
    except (Exception, SystemExit) as error:
        name = f"reference/{found.name(found.path)}"
        raise ChallengeBroken(f"{name} does not load: {type(error).__name__}") from None


def is_reference(manifest: Manifest, candidate: Candidate) -> bool:
    """Whether the reference itself is graded (``--solutions reference``)."""
    return candidate.home.parent.resolve() == manifest.reference.resolve()


def _import(manifest: Manifest, candidate: Candidate) -> ModuleType:
    try:
        return import_fresh(candidate.path, manifest.solution)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        what = f"the import raised {text_of(error)}"
        if isinstance(error, guard.Forbidden):
            what = str(error)
        elif isinstance(error, TimedOut):
            what = f"the import gave {error}"
        forbidden = isinstance(error, guard.Forbidden)
        raise SolutionError(f"{_at(candidate, error)}: {what}", forbidden=forbidden) from error


def _check_text(manifest: Manifest, candidate: Candidate) -> None:
    if candidate.wrong:
        raise SolutionError(candidate.wrong)
    for file in candidate.files:
        name = candidate.name(file)
        try:
            found = guard.violations(file.read_bytes(), file, manifest.solution)
        except SyntaxError as error:
            raise SolutionError(_not_python(name, error)) from error
        except OSError as error:
            raise SolutionError(f"{name}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise SolutionError(f"{name}: not Python: {text_of(error)}") from error
        if found:
            text = "\n".join(f"{name}:{line}: {what}" for line, what in found)
            raise SolutionError(text, forbidden=True)


def _wanted(manifest: Manifest) -> tuple[interface.Name, ...]:
    try:
        return interface.names(manifest.stub)
    except (SyntaxError, ValueError, OSError) as error:
        raise SolutionError(f"{manifest.id}/stub.py cannot be read: {text_of(error)}") from error


def _not_python(name: str, error: SyntaxError) -> str:
    """With the line and the caret, as Python prints them."""
    lines = "".join(traceback.format_exception_only(error)).rstrip().split("\n")
    caret = [line for line in lines[1:-1] if line.strip()]
    where = f"{name}:{error.lineno}" if error.lineno else name
    return "\n".join([f"{where}: not Python: {error.msg}", *caret])


def _at(candidate: Candidate, error: BaseException) -> str:
    """``file.py:12``: the last line of the candidate's own code that took part."""
    own = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if candidate.owns(frame.f_code.co_filename)
    ]
    if not own:
        return candidate.name(candidate.path)
    filename, line = own[-1]
    return f"{candidate.name(Path(filename))}:{line}"
