"""The text that a worker runs: copied out of reach of whoever handed it in."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind.graded import breach
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.limits import MIB, SOLUTION_BYTES, TREE_FILES
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.solution import Candidate


@dataclass(frozen=True, kw_only=True)
class Source:
    """``home`` holds the solution as ``file``, ``stub`` the challenge's stub as ``<id>/stub.py``.

    ``imports`` is None for what belongs to the grader: the reference, a baseline.
    """

    challenge: str
    home: Path
    file: str
    stub: Path
    imports: list[str] | None
    forbid: Sequence[str] = ()


def of_solution(manifest: Manifest, candidate: Candidate, scratch: Path) -> Source:
    """Copy a solution: regular files only, of bounded size.

    Raises
    ------
    Breach
        FORBIDDEN: a link, a device, too many files, too many bytes.
    """
    home = scratch / "solution"
    home.mkdir()
    if candidate.home == candidate.path:
        name = f"{manifest.id}.py" if candidate.is_stub else candidate.path.name
        _copy(candidate.path, home / name, SOLUTION_BYTES, name)
        return _source(manifest, home, name, scratch)
    if candidate.home.is_symlink():
        raise Breach(breach.FORBIDDEN, f"{candidate.home.name} is a link", blocks=True)
    left = SOLUTION_BYTES
    for number, file in enumerate(_tree(candidate.home)):
        if number == TREE_FILES:
            text = f"{candidate.home.name}/ holds more than {TREE_FILES} files"
            raise Breach(breach.FORBIDDEN, text, blocks=True)
        target = home / candidate.home.name / file.relative_to(candidate.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        left -= _copy(file, target, left, candidate.name(file))
    return _source(manifest, home, f"{candidate.home.name}/__init__.py", scratch)


def of_grader(manifest: Manifest, file: Path, scratch: Path) -> Source:
    """Copy a reference or a baseline."""
    home = scratch / "solution"
    home.mkdir()
    name = file.name
    if file.name == "__init__.py":
        name = f"{file.parent.name}/__init__.py"
        shutil.copytree(file.parent, home / file.parent.name)
    else:
        shutil.copyfile(file, home / name)
    return _source(manifest, home, name, scratch, trusted=True)


def _source(
    manifest: Manifest, home: Path, file: str, scratch: Path, *, trusted: bool = False
) -> Source:
    stub = scratch / "challenge"
    (stub / manifest.id).mkdir(parents=True)
    shutil.copyfile(manifest.stub, stub / manifest.id / "stub.py")
    _open_up(scratch)
    return Source(
        challenge=manifest.id,
        home=home,
        file=file,
        stub=stub,
        imports=None if trusted else list(manifest.solution.imports),
        forbid=manifest.solution.forbid,
    )


def _tree(home: Path) -> list[Path]:
    """All that a package holds, except what Python leaves behind."""
    found = []
    for folder, folders, files in os.walk(home):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        found += [Path(folder) / name for name in sorted(files)]
        found += [Path(folder) / f for f in folders if (Path(folder) / f).is_symlink()]
        if len(found) > TREE_FILES:
            break
    return found


def _copy(file: Path, target: Path, most: int, name: str) -> int:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is a link" if file.is_symlink() else f"cannot be read ({error.strerror})"
        raise Breach(breach.FORBIDDEN, f"{name} {what}", blocks=True) from None
    with os.fdopen(fd, "rb") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise Breach(breach.FORBIDDEN, f"{name} is no regular file", blocks=True)
        data = source.read(most + 1)
    if len(data) > most:
        text = f"{name}: a solution may have {SOLUTION_BYTES // MIB} MiB, this one has more"
        raise Breach(breach.FORBIDDEN, text, blocks=True)
    target.write_bytes(data)
    return len(data)


def _open_up(scratch: Path) -> None:
    """The worker may have another user's number."""
    for path in scratch.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
