"""The verdict on every hidden test, for machines: ``--result FILE``.

``result.schema.json`` is its schema. A test counts as passed where it was run, held, and measured
what it had to measure. Whatever else became of it has a word of its own.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pytest_llmgrind import clock, seeds, tiers
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import verdicts as judged
from pytest_llmgrind.budget import NOT_MEASURED
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.verdicts import Verdict, by_challenge

if TYPE_CHECKING:
    from pytest_llmgrind.grading import Grading

SCHEMA = "llmgrind-result/1"
PASSED = "passed"
PACKAGES = ("pytest-llmgrind", "numpy", "pytest", "hypothesis", "torch")


def document(grading: Grading, exit_code: int, seconds: float) -> dict[str, Any]:
    """All that a session has to say, in JSON values."""
    config = grading.config
    return {
        "schema": SCHEMA,
        "at": clock.now().astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "exit_code": int(exit_code),
        "mode": "graded" if config.getoption("graded") else "practice",
        "sandbox": grading.candidates.sandbox,
        "seed_sha256": seeds.secret_hash(),
        "versions": versions(),
        "machine": machine(),
        "challenges": list(challenges(grading.results, grading.deselected, config)),
    }


def challenges(
    results: Sequence[Mapping[str, Any]], deselected: Iterable[str], config: Any
) -> Iterable[dict[str, Any]]:
    """One entry for each challenge that is in play."""
    left_out = set(deselected)
    for root, its in by_challenge(results).items():
        if not judged.is_in_play(its):
            continue
        try:
            manifest = manifests.load(root)
        except ManifestError:
            continue
        tests = list(_tests(manifest, its, left_out))
        yield {
            "id": manifest.id,
            "version": manifest.version,
            "solution": its[0]["solution"],
            "passed": bool(tests) and all(test["verdict"] == PASSED for test in tests),
            "tests": tests,
        }


def _tests(
    manifest: Manifest, results: Sequence[Mapping[str, Any]], left_out: set[str]
) -> Iterable[dict[str, Any]]:
    for stage, verdicts in judged.verdicts(manifest, results).items():
        for verdict in verdicts:
            yield {
                "name": verdict.name,
                "stage": stage,
                "rule": verdict.rule,
                "verdict": word(manifest, verdict, left_out),
                "saw": verdict.saw,
                "budget": _budget(verdict.budget),
            }


def word(manifest: Manifest, verdict: Verdict, left_out: set[str]) -> str:
    """The verdict's word; ``passed`` is the only one that counts."""
    if verdict.state != PASSED:
        return verdict.state
    if any(name.partition("[")[0] == verdict.name for name in left_out):
        return judged.NOT_RUN  # some of its parameters are
    if manifest.budget_of(verdict.name) is None:
        return PASSED
    measured = verdict.budget is not None and verdict.budget["verdict"] != NOT_MEASURED
    return PASSED if measured else NOT_MEASURED


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    hardware = tiers.hardware()
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cores": hardware.cores,
        "gpus": list(hardware.gpus),
        "byte_order": sys.byteorder,
    }


def _budget(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Without the laps, which pytest-benchmark keeps."""
    return None if found is None else {k: v for k, v in found.items() if k != "laps"}
