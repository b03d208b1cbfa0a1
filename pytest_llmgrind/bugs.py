"""Planted bugs: one-place patches of the reference, from hidden/bugs.toml. No pytest.

One list serves the gate (each is caught), the diagnosis (your answer is what this mistake gives)
and the debug mode (repair this program).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pytest_llmgrind.manifest import Manifest, ManifestError, Reader


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A mistake that people make. ``find`` matches exactly one place of the reference."""

    name: str
    rule: str
    misconception: str
    find: str
    replace: str

    def places(self, source: str) -> list[int]:
        """The lines (from 1) where ``find`` begins in the reference."""
        starts, at = [], source.find(self.find)
        while at >= 0:
            starts.append(source.count("\n", 0, at) + 1)
            at = source.find(self.find, at + 1)
        return starts

    def patched(self, source: str) -> str:
        """The reference with the mistake in it.

        Raises
        ------
        ManifestError
            ``find`` matches nowhere, or in several places, which are named.
        """
        places = self.places(source)
        if len(places) != 1:
            lines = " and ".join(f"line {line}" for line in places) or "nowhere"
            raise ManifestError(f"bug {self.name}: find matches {lines}, wanted exactly one place")
        return source.replace(self.find, self.replace)


def load(manifest: Manifest) -> tuple[Bug, ...]:
    """The planted bugs of a challenge; none where there is no bugs.toml.

    Raises
    ------
    ManifestError
        In one line: the file, the key, and what was wanted there.
    """
    return read(manifest.bugs)


def known(manifest: Manifest) -> tuple[Bug, ...]:
    """As ``load``; none where the file cannot be used, which is the gate's to tell its author."""
    try:
        return load(manifest)
    except ManifestError:
        return ()


def read(file: Path) -> tuple[Bug, ...]:
    """The bugs of any file of that form; the same errors."""
    try:
        stat = file.stat()
    except OSError:
        return ()
    return _load(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _load(file: Path, _mtime_ns: int, _size: int) -> tuple[Bug, ...]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: not TOML: {error}") from error
    reader = Reader(file)
    if unknown := sorted(table.keys() - {"bug"}):
        raise reader.fail(unknown[0], "unknown key; known is [[bug]]")
    return tuple(reader.each(Bug, table.get("bug", []), "bug"))
