"""What grading costs over running the same test functions under plain pytest.

Runs the hidden tests of a challenge on the reference, once through the plugin and once as ordinary
test files with two fixtures of six lines, by turns, in fresh processes. Tests with a budget are
left out on both sides. Promised: a ratio of at most 1.25.

    python benchmarks/overhead.py
    python benchmarks/overhead.py 02_attention --rounds 15
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_llmgrind.manifest import Manifest, load

ROOT = Path(__file__).parents[1]
LIMIT = 1.25
CONFTEST = """
import importlib.util
import pytest

def module():
    spec = importlib.util.spec_from_file_location("graded", {reference!r})
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded

solution = pytest.fixture(scope="module")(lambda: module())
reference = pytest.fixture(scope="module")(lambda: module())

@pytest.fixture
def rng():
    import numpy as np
    return np.random.default_rng(0)
"""


def main() -> int:
    options = _options()
    manifest = load(ROOT / "challenges" / options.challenge)
    chosen = ["-k", " and ".join(["test"] + [f"not {b.test}" for b in manifest.budgets])]
    with tempfile.TemporaryDirectory() as scratch:
        plain = _plain(manifest, Path(scratch))
        sides = {
            "plugin": [str(manifest.root), "--solutions", str(manifest.reference), *chosen],
            "plain": [str(plain), "-p", "no:llmgrind", *chosen],
        }
        times = _times(sides, options.rounds, random.Random(options.seed))
    for side, seconds in times.items():
        print(f"{side:<7} {statistics.median(seconds):.2f} s in the middle of {options.rounds}")
    pairs = zip(times["plugin"], times["plain"], strict=True)
    ratio = statistics.median(with_ / without for with_, without in pairs)
    print(f"ratio   {ratio:.2f}, at most {LIMIT} is promised")
    return 0 if ratio <= LIMIT else 1


def _plain(manifest: Manifest, scratch: Path) -> Path:
    """The hidden files as a package of ordinary tests."""
    package = scratch / "plain_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    for path in manifest.hidden.glob("*.py"):
        name = f"test_{path.name}" if manifest.stage_at(path) else path.name
        (package / name).write_text(path.read_text("utf-8"), "utf-8")
    reference = manifest.reference / f"{manifest.id}.py"
    (package / "conftest.py").write_text(CONFTEST.format(reference=str(reference)), "utf-8")
    (scratch / "pytest.ini").write_text("[pytest]\nmarkers = rule(id): a rule\n", "utf-8")
    return package


def _times(sides: dict[str, list[str]], rounds: int, rng: random.Random) -> dict[str, list[float]]:
    """Seconds of each side's processes; the order within a pair is drawn anew."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    passed = {side: _run(args)[1] for side, args in sides.items()}
    if len(set(passed.values())) != 1:
        raise SystemExit(f"the sides differ in what passed: {passed}")
    for _ in range(rounds):
        for side in rng.sample(sorted(sides), len(sides)):
            times[side].append(_run(sides[side])[0])
    return times


def _run(args: list[str]) -> tuple[float, str]:
    """Seconds of one process, and how many tests passed."""
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:benchmark"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *args],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT if "no:llmgrind" not in args else Path(args[0]).parent,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    last = done.stdout.strip().splitlines()[-1]
    return seconds, last.partition(" passed")[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("challenge", nargs="?", default="04_kv_cache", help="its id")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs (default 9)")
    parser.add_argument("--seed", type=int, default=0, help="of the order within a pair")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
