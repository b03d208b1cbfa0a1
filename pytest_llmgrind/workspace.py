"""Where challenges, references and solutions are. Knows nothing about pytest.

A workspace is a directory that holds ``challenges/``: a checkout, or what ``llmgrind init`` laid
out. An installed wheel carries the suite itself as ``pytest_llmgrind/suite``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_llmgrind.manifest import MANIFEST

NEAREST = 3


class WorkspaceError(Exception):
    """There is no workspace, or no such challenge; one text: what is wrong and what to do."""


@dataclass(frozen=True)
class Workspace:
    """A directory with ``challenges/`` and ``reference/``; ``packaged`` if nobody works in it."""

    root: Path
    packaged: bool = False

    @property
    def challenges(self) -> Path:
        return self.root / "challenges"

    @property
    def reference(self) -> Path:
        return self.root / "reference"

    @cached_property
    def solutions(self) -> Path:
        """The directory that pytest grades: the ini setting ``llmgrind_solutions``."""
        for directory in (self.root, *self.root.parents):
            table = _pytest_table(directory / "pyproject.toml")
            if table is not None:
                return directory / str(table.get("llmgrind_solutions", "solutions"))
        return self.root / "solutions"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Every directory of ``challenges/``, with a challenge.toml or still without one."""
        if not self.challenges.is_dir():
            return ()
        found = (path for path in self.challenges.iterdir() if path.is_dir())
        return tuple(sorted(path.name for path in found if path.name[0] not in "._"))

    def resolve(self, text: str) -> Path:
        """The directory of the challenge that a user means.

        That is its id, its number, its slug or a path at or in it, as far as one challenge alone
        answers to it.

        Raises
        ------
        WorkspaceError
            None or several do; the nearest ids are named.
        """
        if text in self.ids:
            return self.challenges / text
        path = Path(text).resolve()
        if self.challenges in path.parents and path.exists():
            text = path.relative_to(self.challenges).parts[0]
        meant = [id for id in self.ids if text in (id, *_parts(id))]
        if len(meant) == 1:
            return self.challenges / meant[0]
        raise WorkspaceError(f"unknown challenge {text!r}; {self._nearest(text, meant)}")

    def _nearest(self, text: str, meant: list[str]) -> str:
        if not self.ids:
            return f"{self.challenges} holds none"
        near = meant or difflib.get_close_matches(text, self.ids, n=NEAREST)
        slugs = {_parts(id)[-1]: id for id in self.ids}
        near = near or [slugs[s] for s in difflib.get_close_matches(text, slugs, n=NEAREST)]
        label = "nearest" if near else "there are"
        return f"{label}: {', '.join(near or self.ids[:NEAREST])}"


def find(start: Path) -> Workspace:
    """The workspace that ``start`` is or lies in.

    Raises
    ------
    WorkspaceError
        There is none.
    """
    start = start.resolve()
    for root in (start, *start.parents):
        if any(root.glob(f"challenges/*/{MANIFEST}")):
            return Workspace(root)
    raise WorkspaceError(
        f"no challenges/ in {start} or above; `llmgrind init DIR` lays out a workspace"
    )


def suite() -> Workspace:
    """The suite that is installed: packaged in a wheel, or the checkout itself.

    Raises
    ------
    WorkspaceError
        The installation is not complete.
    """
    package = Path(__file__).resolve().parent
    for root, packaged in ((package / "suite", True), (package.parent, False)):
        if any(root.glob(f"challenges/*/{MANIFEST}")):
            return Workspace(root, packaged=packaged)
    raise WorkspaceError(f"{package} has no suite; reinstall pytest-llmgrind")


def _parts(id: str) -> tuple[str, ...]:
    """``04_kv_cache`` answers to ``04``, ``4`` and ``kv_cache`` as well."""
    number, _, slug = id.partition("_")
    return number, number.lstrip("0"), slug


def _pytest_table(file: Path) -> Mapping[str, Any] | None:
    try:
        tool = tomllib.loads(file.read_text("utf-8")).get("tool", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    table = tool.get("pytest")
    if not isinstance(table, dict):
        return None
    found = table.get("ini_options", table)
    return found if isinstance(found, dict) else None
