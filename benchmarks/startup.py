"""What pytest pays at start-up for an installed plugin that nobody uses.

Starts `pytest -p no:cacheprovider` in an empty project, with the plugin and with `-p no:llmgrind`
by turns, and compares the two starts of each round. Promised: at most 20 ms of processor time,
which a busy machine does not stretch as it does wall time. Then names the modules that only the
start with the plugin imports.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 101
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 0.020
NO_TESTS = 5
QUIET = ("-q", "-p", "no:cacheprovider")
WITHOUT = ("-p", "no:llmgrind")
MODULES = """
import sys, pytest
pytest.main(sys.argv[1:])
print("imported", *sys.modules)
"""


@dataclass(frozen=True)
class Start:
    """Seconds of one process."""

    wall_s: float
    cpu_s: float


def main() -> int:
    options = _options()
    print(f"{platform.machine()}, {_cores()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="startup-") as scratch:
        root = Path(scratch)
        (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
        starts = _starts(root, options.rounds, random.Random(options.seed))
        modules = _only_with_the_plugin(root)
    for name, seconds in (("wall", "wall_s"), ("processor", "cpu_s")):
        used = [getattr(with_, seconds) for with_, _ in starts]
        unused = [getattr(without, seconds) for _, without in starts]
        more = statistics.median(a - b for a, b in zip(used, unused, strict=True))
        print(
            f"{name + ' time':<14} {_ms(statistics.median(used))} with the plugin, "
            f"{_ms(statistics.median(unused))} without, {_ms(more)} more in the middle of "
            f"{len(starts)} pairs"
        )
    print(f"at most {_ms(LIMIT_S)} of processor time are promised")
    print(f"imported for the plugin alone: {', '.join(modules)}")
    return 0 if more <= LIMIT_S else 1


def _starts(root: Path, number: int, rng: random.Random) -> list[tuple[Start, Start]]:
    """Pairs of starts, with and without the plugin, in an order that is drawn for each pair."""
    _start(root), _start(root, *WITHOUT)  # bytecode is there from the second start on
    pairs = []
    for _ in range(number):
        if rng.random() < 0.5:
            used, unused = _start(root), _start(root, *WITHOUT)
        else:
            unused, used = _start(root, *WITHOUT), _start(root)
        pairs.append((used, unused))
    return pairs


def _start(root: Path, *options: str) -> Start:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    _pytest(root, *options)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Start(wall_s, cpu_s)


def _pytest(root: Path, *options: str) -> None:
    command = [sys.executable, "-m", "pytest", *QUIET, *options]
    result = subprocess.run(command, cwd=root, env=_env(), capture_output=True, text=True)
    if result.returncode != NO_TESTS:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr}")


def _env() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}


def _only_with_the_plugin(root: Path) -> list[str]:
    """The modules that are imported with the plugin and not without it."""
    return sorted(_imported(root) - _imported(root, *WITHOUT))


def _imported(root: Path, *options: str) -> set[str]:
    command = [sys.executable, "-c", MODULES, *QUIET, *options]
    result = subprocess.run(command, cwd=root, env=_env(), capture_output=True, text=True)
    last = result.stdout.rstrip().rpartition("\n")[2]
    return set(last.split()[1:])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=31, help="pairs of starts (default: 31)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
