"""Graded mode: the same hidden tests, with the solution in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmgrind.graded.sandbox import BUBBLEWRAP, walls

ROOT = Path(__file__).parents[1]
ID = "03_rope"

needs_walls = pytest.mark.skipif(
    walls().level != BUBBLEWRAP and not os.environ.get("CI"), reason=walls().why
)


def grade(
    solutions: Path, result: Path, file: str = f"{ID}/hidden/1_rotate.py"
) -> tuple[int, str, dict[str, str]]:
    """Exit code, output and the verdicts on the tests of a file, a first stage."""
    command = [sys.executable, "-m", "pytest", f"challenges/{file}", "--graded"]
    command += [f"--solutions={solutions}", f"--result={result}", "-q", "--benchmark-disable"]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (challenge,) = json.loads(result.read_text("utf-8"))["challenges"]
    first = challenge["tests"][0]["stage"]
    tests = {t["name"]: t["verdict"] for t in challenge["tests"] if t["stage"] == first}
    return run.returncode, run.stdout + run.stderr, tests


@needs_walls
def test_the_reference_passes_behind_walls(tmp_path: Path) -> None:
    """What is right in practice is right in graded mode."""
    code, output, tests = grade(ROOT / "reference", tmp_path / "result.json")

    assert code == 0, output
    assert set(tests.values()) <= {"passed", "not measured"}
    assert "passed" in tests.values()


@needs_walls
def test_what_is_not_begun_is_todo(tmp_path: Path) -> None:
    """An exception of the solution's process keeps its type, and whose line raised it."""
    stub = (ROOT / "challenges" / ID / "stub.py").read_text("utf-8")
    (tmp_path / f"{ID}.py").write_text(stub + "\n\nBEGUN = 1\n", "utf-8")

    code, output, tests = grade(tmp_path, tmp_path / "result.json")

    assert code == 1, output
    assert set(tests.values()) == {"todo"}


@needs_walls
def test_a_memory_error_may_be_meant(tmp_path: Path) -> None:
    """A pool that is out of blocks raises one, which is not the worker's memory limit."""
    file = "10_paged_attention/hidden/1_allocator.py"

    code, output, tests = grade(ROOT / "reference", tmp_path / "result.json", file)

    assert code == 0, output
    assert set(tests.values()) == {"passed"}
