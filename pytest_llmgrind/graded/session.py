"""Graded mode in a pytest session: whose code runs where, and what a test left behind."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import solution as solutions
from pytest_llmgrind.candidates import Candidates
from pytest_llmgrind.graded import limits, source
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.graded.sandbox import Walls, walls
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.solution import ChallengeBroken, SolutionError


@dataclass(eq=False)
class Graded(Candidates):
    """Candidates of which none is ever imported here."""

    _carriers: dict[tuple[Path, str], Carrier] = field(default_factory=dict)
    _wrong: dict[Path, BaseException] = field(default_factory=dict)

    @property
    def sandbox(self) -> str:  # type: ignore[override]
        return str(self._walls.level)

    @property
    def _walls(self) -> Walls:
        return walls(self.config.getoption("sandbox"))

    def solution(self, manifest: Manifest) -> Any:
        """Raises SolutionError or Breach, the same each time, where it cannot be graded."""
        candidate = self.of(manifest)
        if candidate.wrong:
            raise SolutionError(candidate.wrong)
        if solutions.is_reference(manifest, candidate):
            return self.reference(manifest)
        if wrong := self._wrong.get(candidate.path):
            raise wrong.with_traceback(None)
        carrier = self._carrier(
            manifest,
            "solution",
            lambda scratch: source.of_solution(manifest, candidate, scratch),
            files=candidate.files if candidate.home.is_dir() else [candidate.path],
        )
        carrier.begin()
        try:
            carrier.attribute("__name__")
        except (SolutionError, Breach) as error:
            self._wrong[candidate.path] = error
            if isinstance(error, Breach):
                error.blocks = True
            raise
        return carrier.module()

    def reference(self, manifest: Manifest) -> Any:
        found = solutions.find(manifest, manifest.reference)
        if found.is_stub or found.wrong:
            raise ChallengeBroken(f"there is no reference/{manifest.id}.py")
        return self._trusted(manifest, "reference", found.path)

    def baseline(self, manifest: Manifest) -> Any:
        return self._trusted(manifest, "baseline", manifest.baseline)

    def carriers(self, manifest: Manifest) -> list[Carrier]:
        return [c for (root, _), c in self._carriers.items() if root == manifest.root]

    def close(self) -> None:
        for carrier in self._carriers.values():
            carrier.close()
        self._carriers.clear()

    @contextlib.contextmanager
    def around(self, manifest: Manifest) -> Iterator[None]:
        """Around a test function: its limits, and what it leaves behind."""
        for carrier in self.carriers(manifest):
            carrier.begin()
        try:
            yield
        finally:
            left = [carrier.finish() for carrier in self.carriers(manifest)]
            for carrier in self.carriers(manifest):
                sys.stdout.write(carrier.output())
        if broken := next((why for why in left if why), None):
            raise broken

    def _trusted(self, manifest: Manifest, role: str, file: Path) -> Any:
        carrier = self._carrier(
            manifest,
            role,
            lambda scratch: source.of_grader(manifest, file, scratch),
            trusted=True,
        )
        carrier.begin()
        return carrier.module()

    def _carrier(self, manifest: Manifest, role: str, make: Any, **options: Any) -> Carrier:
        key = (manifest.root, role)
        if key not in self._carriers:
            kits = {manifest.kit, *(stage.kit for stage in manifest.stages)}
            of = limits.NUMPY if kits <= {"np", ""} else limits.TORCH
            self._carriers[key] = Carrier(make, self._walls, of, manifest.timeout, **options)
        return self._carriers[key]


GRADED = pytest.StashKey[Graded]()
