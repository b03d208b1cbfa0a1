"""The promise of the diagnosis, over all challenges: named where it is certain, never wrong.

A planted bug is graded by its own rule's tests; `benchmarks/diagnosis.py` takes all of them.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from pytest_llmgrind import bugs
from pytest_llmgrind.manifest import load

ROOT = Path(__file__).parents[1]
NEED_TORCH = {"05_parallelism": {"R28", "R29", "R30", "R32"}}
"""Rules of tests that real processes run, in a stage that few machines have the kit for."""
IDS = sorted(path.parent.name for path in ROOT.glob("challenges/*/challenge.toml"))
SILENT: dict[str, dict[str, str]] = {
    id: tomllib.loads((ROOT / f"tests/silent/{id}.toml").read_text("utf-8")) for id in IDS
}
"""What cannot be told from its failures, and why."""


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagnosis", ROOT / "benchmarks/diagnosis.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["diagnosis"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diagnosis = _benchmark()


@pytest.mark.parametrize("id", IDS)
def test_planted_bugs_are_told_their_own_misconception(id: str) -> None:
    """All that can run here but those of SILENT, and none is told another's."""
    manifest = load(ROOT / "challenges" / id)
    planted = bugs.load(manifest)

    verdicts = {v.bug.name: v for v in diagnosis.judge(manifest, planted, whole=False)}
    late = [v.bug for v in verdicts.values() if v.word == "silent" and v.bug.name not in SILENT[id]]
    # On a machine that has other things to do, time may have run out: once more.
    verdicts |= {v.bug.name: v for v in diagnosis.judge(manifest, late, whole=False)}

    print(f"{id}: {dict(Counter(verdict.word for verdict in verdicts.values()))}")
    words = {"named", "not run"}
    found = {name: (v.word, set(v.said)) for name, v in verdicts.items() if v.word not in words}
    assert found == dict.fromkeys(found.keys() & SILENT[id].keys(), ("silent", set()))


def test_nine_bugs_in_ten_are_told() -> None:
    """SILENT lists planted bugs, and one in ten at most of those that run without torch."""
    planted = {id: bugs.load(load(ROOT / "challenges" / id)) for id in IDS}
    names = {id: {bug.name for bug in planted[id]} for id in IDS}
    run = [bug for id in IDS for bug in planted[id] if bug.rule not in NEED_TORCH.get(id, ())]

    assert all(SILENT[id].keys() <= names[id] for id in IDS)
    assert sum(map(len, SILENT.values())) <= (1 - diagnosis.NAMED) * len(run)


@pytest.mark.parametrize("id", IDS)
def test_other_mistakes_are_told_nothing(id: str) -> None:
    """A solution that is wrong in a way that nobody planted fails, and is given no name for it."""
    manifest = load(ROOT / "challenges" / id)
    assert len(diagnosis.unrelated(manifest)) >= 4

    for verdict in diagnosis.judge(manifest, diagnosis.unrelated(manifest)):
        assert verdict.failures, f"{verdict.bug.name} passes"
        assert not verdict.said, f"{verdict.bug.name} is told {set(verdict.said)}"
