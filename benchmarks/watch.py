"""What `llmgrind watch` adds to pytest: from a save to pytest's start, and in all.

Watches a challenge in a temporary workspace and saves its solution again and again. By turns the
same pytest command runs by itself. A sitecustomize.py notes when each interpreter starts, so that
first figure includes the start of Python. Promised: at most 0.5 s for it, in the middle of all.

    python benchmarks/watch.py
    python benchmarks/watch.py 02_attention --rounds 20
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_llmgrind.manifest import load

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_S = 0.5
STARTED = """
import os, sys, time
if "--leaderboard-json" in sys.orig_argv:
    with open(os.environ["STARTED"], "a") as log:
        print(time.time(), file=log)
"""


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="watch-") as scratch:
        root = Path(scratch)
        solution = _lay_out(root, options.challenge)
        hidden = load(root / "challenges" / options.challenge).stages[0].file
        log = root / "started"
        starts, watched, alone = [], [], []
        with _watching(root, options.challenge, log) as lines:
            _until_status(lines, options.challenge)
            for number in range(options.rounds):
                log.write_text("")
                saved = time.time()
                solution.write_text(solution.read_text("utf-8") + f"# {number}\n", "utf-8")
                _until_status(lines, options.challenge)
                watched.append(time.time() - saved)
                starts.append(float(log.read_text().split()[0]) - saved)
                alone.append(_alone(root / "challenges" / options.challenge / hidden, root))
    start = statistics.median(starts)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"save to pytest's start: {start:.3f} s, at most {max(starts):.3f} s")
    print(f"save to status line:    {statistics.median(watched):.3f} s")
    print(f"pytest by itself:       {statistics.median(alone):.3f} s")
    print(f"medians of {options.rounds}; at most {LIMIT_S} s to pytest's start are promised")
    return 0 if start <= LIMIT_S else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("challenge", nargs="?", default="01_mlp")
    parser.add_argument("--rounds", type=int, default=10)
    return parser.parse_args()


def _lay_out(root: Path, id: str) -> Path:
    """A workspace with one challenge and its stub as the solution."""
    shutil.copytree(REPOSITORY / "challenges" / id, root / "challenges" / id)
    (root / "reference").mkdir()
    shutil.copy(REPOSITORY / "reference" / f"{id}.py", root / "reference")
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / "sitecustomize.py").write_text(STARTED)
    (root / "solutions").mkdir()
    return Path(shutil.copy(root / "challenges" / id / "stub.py", root / f"solutions/{id}.py"))


@contextmanager
def _watching(root: Path, id: str, log: Path) -> Iterator[Iterator[str]]:
    command = [sys.executable, "-m", "pytest_llmgrind.cli", "watch", id]
    env = {**os.environ, "PYTHONPATH": str(root), "STARTED": str(log)}
    process = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield iter(process.stdout)
    finally:
        process.terminate()
        process.wait()


def _until_status(lines: Iterator[str], id: str) -> None:
    """The heading of a run, then the status behind it."""
    for wanted in (f"{id} · stage 1", f"{id} · stage 1"):
        next(line for line in lines if line.startswith(wanted))


def _alone(hidden: Path, root: Path) -> float:
    command = [sys.executable, "-m", "pytest", str(hidden), "-q", "-rN", "--benchmark-disable"]
    began = time.time()
    subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, check=False)
    return time.time() - began


if __name__ == "__main__":
    sys.exit(main())
