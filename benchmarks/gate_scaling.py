"""How collection and the gate grow with the number of challenges.

Copies one challenge N times into a temporary workspace. Times `pytest --co -q` over all copies, and
by turns what pytest takes for the same files without the plugin (promised: at most 1.25 times as
long), then `llmgrind check` over some of them with each number of jobs.

    python benchmarks/gate_scaling.py
    python benchmarks/gate_scaling.py --challenge 02_attention --subset 8 --jobs 1 2 4
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECT_RATIO = 1.25


def main() -> int:
    options = _options()
    print(f"{platform.machine()}, {_cores()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="gate-scaling-") as scratch:
        root = Path(scratch)
        ids = _lay_out(root, options.challenge, options.copies)
        _collect(root), _collect_plain(root)  # bytecode is there from now on
        pairs = [(_collect(root), _collect_plain(root)) for _ in range(options.rounds)]
        ratio = statistics.median(own.cpu_s / plain.cpu_s for own, plain in pairs)
        ours, plains = zip(*pairs, strict=True)
        print(
            f"pytest --co -q, {options.copies} copies of {options.challenge}: {min(ours).shown}, "
            f"without the plugin {min(plains).shown}, at best of {options.rounds}; "
            f"ratio {ratio:.2f}, at most {COLLECT_RATIO} is promised"
        )
        _gate(root, ids[: options.subset], options.jobs)
    return 0 if ratio <= COLLECT_RATIO else 1


@dataclass(frozen=True, order=True)
class Time:
    """What a command took. On a busy machine the processor time is what can be compared."""

    wall_s: float
    cpu_s: float

    @property
    def shown(self) -> str:
        return f"{self.wall_s:.2f} s ({self.cpu_s:.2f} s of processors)"


def _gate(root: Path, ids: list[str], jobs: list[int]) -> None:
    command = [sys.executable, "-m", "pytest_llmgrind.cli", "check", *ids, "--jobs"]
    first = 0.0
    for number in jobs:
        took = _time(root, [*command, str(number)], allowed=(0, 1))
        first = first or took.wall_s
        print(
            f"llmgrind check, {len(ids)} copies, --jobs {number}: {took.shown}, "
            f"{first / took.wall_s:.2f} times as fast as --jobs {jobs[0]}"
        )


def _lay_out(root: Path, challenge: str, copies: int) -> list[str]:
    """A workspace with copies that differ in their ids alone."""
    slug = challenge.partition("_")[2]
    ids = [f"{number:03d}_{slug}" for number in range(100, 100 + copies)]
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / "reference").mkdir()
    for id in ids:
        source = REPOSITORY / "challenges" / challenge
        target = root / "challenges" / id
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for file in target.rglob("*.*"):
            file.write_text(file.read_text("utf-8").replace(challenge, id), "utf-8")
        text = (REPOSITORY / f"reference/{challenge}.py").read_text("utf-8")
        (root / f"reference/{id}.py").write_text(text.replace(challenge, id), "utf-8")
    return ids


def _collect(root: Path) -> Time:
    """A collection in a fresh process."""
    return _time(root, [sys.executable, "-m", "pytest", "--co", "-q"], allowed=(0,))


def _collect_plain(root: Path) -> Time:
    """The same functions as ordinary tests."""
    options = ["-p", "no:llmgrind", "--import-mode=importlib", "-o", "python_files=[0-9]_*.py"]
    return _time(root, [sys.executable, "-m", "pytest", "--co", "-q", *options], allowed=(0,))


def _time(root: Path, command: list[str], *, allowed: tuple[int, ...]) -> Time:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start, before = time.perf_counter(), _children_s()
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    wall_s = time.perf_counter() - start
    if done.returncode not in allowed:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return Time(wall_s, _children_s() - before)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cores() -> int:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--challenge", default="04_kv_cache", metavar="ID")
    parser.add_argument("--copies", type=int, default=100, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="collections to time")
    parser.add_argument("--subset", type=int, default=4, metavar="N", help="copies for the gate")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
