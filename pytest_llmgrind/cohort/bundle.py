"""Files as bytes: what is graded is what was hashed, on this machine or on another."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_llmgrind import solution as solutions
from pytest_llmgrind.graded import source
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.manifest import Manifest


class Refused(Exception):
    """What was handed in is not even run; the text says why."""


@dataclass(frozen=True)
class Bundle:
    """Contents by relative path."""

    files: Mapping[str, bytes]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents, in hexadecimal digits."""
        total = hashlib.sha256()
        for name, data in sorted(self.files.items()):
            total.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
            total.update(hashlib.sha256(data).digest())
        return total.hexdigest()

    def lay_out(self, root: Path) -> None:
        for name, data in self.files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def of_challenge(manifest: Manifest) -> Bundle:
    """The directory of a challenge and its reference, as they lie in a workspace.

    Raises
    ------
    OSError
        One of them cannot be read.
    """
    home = manifest.root.parent.parent
    reference = solutions.find(manifest, manifest.reference)
    files = list(_files(manifest.root))
    if not (reference.is_stub or reference.wrong):
        files += [reference.path] if reference.home == reference.path else _files(reference.home)
    return Bundle({str(file.relative_to(home)): file.read_bytes() for file in files})


def of_solution(manifest: Manifest, home: Path) -> Bundle | None:
    """What an entrant handed in for a challenge; None where that is nothing.

    Raises
    ------
    Refused
        It is none of what ``--graded`` takes: regular files, no link, of bounded size.
    """
    try:
        candidate = solutions.find(manifest, home)
        if candidate.is_stub:
            return None
        if candidate.wrong:
            raise Refused(candidate.wrong)
        with tempfile.TemporaryDirectory(prefix="llmgrind-") as scratch:
            copy = source.of_solution(manifest, candidate, Path(scratch)).home
            return Bundle({str(f.relative_to(copy)): f.read_bytes() for f in _files(copy)})
    except Breach as why:
        raise Refused(str(why)) from None
    except OSError as error:
        raise Refused(f"{manifest.id} cannot be read: {error.strerror}") from None


def _files(root: Path) -> Iterator[Path]:
    """All that lies below, but what Python leaves behind."""
    for file in sorted(root.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file
