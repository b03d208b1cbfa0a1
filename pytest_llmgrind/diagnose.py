"""Names the misconception when a wrong answer is exactly what a planted bug gives."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest

from pytest_llmgrind import bugs, evidence
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.solution import import_fresh
from pytest_llmgrind.verdicts import hidden_tests

TIME_S = 2.0
"""Processor time for all diagnoses of a session: a failing run must stay a quick one, and what it
is told must not depend on how busy the machine is."""


@dataclass(eq=False)
class Diagnosis:
    """Runs a failed test again with planted bugs in the solution's place.

    The same test, the same drawn example, the same seed. A bug of the test's rule that gives the
    same is what it looks like, unless a bug that means something else gives the same too: of
    another rule as well, where that rule has not been kept in this session.
    """

    spent_s: float = 0.0
    _passed: dict[Path, set[str]] = field(default_factory=dict)
    _rules: dict[Path, dict[str, str]] = field(default_factory=dict)

    def looks_like(
        self,
        item: pytest.Function,
        error: BaseException,
        manifest: Manifest,
        rule_id: str,
        *,
        is_theirs: bool,
    ) -> str:
        """The misconception, or an empty text where it is not certain.

        ``is_theirs``: the solution's own code raised ``error``.
        """
        same = evidence.of(item, error, is_theirs=is_theirs)
        if same is None or self.spent_s > TIME_S:
            return ""
        began = time.process_time()
        try:
            return self._certain(manifest, rule_id, same)
        finally:
            self.spent_s += time.process_time() - began

    def passed(self, manifest: Manifest, test: str) -> None:
        """A test that the solution passes: no bug that this test catches is what it looks like."""
        self._passed.setdefault(manifest.root, set()).add(test)

    def _kept(self, manifest: Manifest) -> set[str]:
        """The rules of which all tests have passed."""
        if manifest.root not in self._rules:
            files = [manifest.root / stage.file for stage in manifest.stages]
            found = [pair for file in files for pair in hidden_tests(file).items()]
            self._rules[manifest.root] = dict(found)
        passed = self._passed.get(manifest.root, set())
        tests = self._rules[manifest.root]
        return set(tests.values()) - {rule for name, rule in tests.items() if name not in passed}

    def _certain(self, manifest: Manifest, rule_id: str, same: evidence.Evidence) -> str:
        planted, until = bugs.known(manifest), time.process_time() + TIME_S - self.spent_s
        found, kept = "", self._kept(manifest)
        # The rule's own first: where none of them fits, the others need not be tried.
        for bug in sorted(planted, key=lambda bug: bug.rule != rule_id):
            if bug.rule != rule_id and not found:
                return ""
            others = bug.rule in kept or evidence.is_exclusive(same)
            if bug.misconception == found or (bug.rule != rule_id and others):
                continue
            if time.process_time() > until:
                return ""
            module = _module(manifest, bug)
            if module is not None and same(module):
                if found or bug.rule != rule_id:
                    return ""
                found = bug.misconception
        return found


def _module(manifest: Manifest, bug: Bug) -> ModuleType | None:
    """The reference with the bug planted; None where that cannot be imported."""
    try:
        source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
        return _imported(f"{manifest.id}.py", bug.patched(source))
    except Exception:
        return None  # the gate tells the author


@lru_cache(maxsize=200)
def _imported(name: str, source: str) -> ModuleType:
    """A module of this text, for all sessions of the process."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_text(source, "utf-8")
        return import_fresh(path, None)
