"""Names the misconception when a wrong answer is exactly what a planted bug gives."""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pytest_llmgrind import bugs
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.check import RuleBroken, tolerance
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.replay import call_of
from pytest_llmgrind.solution import import_fresh

TIME_S = 2.0
"""Time for all diagnoses of a session: a failing run must stay a quick one."""
KNOWN = {"solution", "reference", "baseline", "rng"}


@dataclass(eq=False)
class Diagnosis:
    """Runs a failed test again with planted bugs in the solution's place.

    The same test, the same drawn example, the same seed. A bug matches if the check that broke
    saw the same value from it and wanted the same. Two matches that differ in meaning say nothing.
    """

    spent_s: float = 0.0
    _modules: dict[tuple[Path, str], ModuleType | None] = field(default_factory=dict)

    def looks_like(
        self, item: pytest.Function, broken: RuleBroken, manifest: Manifest, rule_id: str
    ) -> str:
        """The misconception, or an empty text where it is not certain."""
        names = set(item._fixtureinfo.argnames)
        if broken.value is None or "solution" not in names or not names <= KNOWN | _fixed(item):
            return ""
        found = set()
        for bug in self._candidates(manifest, rule_id):
            began = time.perf_counter()
            module = self._module(manifest, bug)
            if module is not None and _same_break(broken, _run(item, broken, module)):
                found.add(bug.misconception)
            self.spent_s += time.perf_counter() - began
            if self.spent_s > TIME_S:
                return ""
        return found.pop() if len(found) == 1 else ""

    def _candidates(self, manifest: Manifest, rule_id: str) -> list[Bug]:
        try:
            return [bug for bug in bugs.load(manifest) if bug.rule == rule_id]
        except ManifestError:
            return []  # the gate tells the author

    def _module(self, manifest: Manifest, bug: Bug) -> ModuleType | None:
        key = (manifest.root, bug.name)
        if key not in self._modules:
            self._modules[key] = _load(manifest, bug)
        return self._modules[key]


def _load(manifest: Manifest, bug: Bug) -> ModuleType | None:
    try:
        source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / f"{manifest.id}.py"
            path.write_text(bug.patched(source), "utf-8")
            return import_fresh(path, None)
    except Exception:
        return None  # the gate tells the author


def _fixed(item: pytest.Function) -> set[str]:
    """Arguments that ``parametrize`` set."""
    callspec = getattr(item, "callspec", None)
    return set(callspec.params) if callspec else set()


def _run(item: pytest.Function, broken: RuleBroken, module: ModuleType) -> RuleBroken | None:
    """What the same test says of a planted bug; None where no check broke."""
    call = call_of(item, broken, solution=module)
    try:
        with warnings.catch_warnings(), np.errstate():
            warnings.simplefilter("ignore")
            call()
    except RuleBroken as seen:
        return seen
    except Exception:
        return None
    return None


def _same_break(broken: RuleBroken, seen: RuleBroken | None) -> bool:
    if seen is None or seen.where != broken.where:
        return False
    return _same(broken.value, seen.value) and _same(broken.want, seen.want)


def _same(left: Any, right: Any) -> bool:
    """Equal up to the rounding that another order of summation leaves."""
    if type(left) is not type(right):
        return False
    if not isinstance(left, np.ndarray):
        return bool(np.all(left == right))
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind not in "fc":
        return bool(np.array_equal(left, right))
    finite = left[np.isfinite(left)]
    if left.size > 1 and not finite.any():
        return False  # nothing but NaN, infinity and zeros: a hundred mistakes end there
    scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    n = max(left.size, 64) if left.dtype.itemsize > 2 else 1  # in float16 anything would match
    allowed = tolerance(left.dtype, n, scale)
    return bool(np.allclose(left, right, rtol=0, atol=allowed, equal_nan=True))
