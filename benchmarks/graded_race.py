"""What a race is worth in graded mode on a busy machine: two equal functions, each in a worker.

Keeps four processes busy and races a function against itself, as `pytest --graded` does: three
workers behind walls, their CPU time by the kernel's clock, the way to them measured and taken off.
Promised: the ratio is within 5 % of 1 in every run.

    python benchmarks/graded_race.py
    python benchmarks/graded_race.py --runs 50 --busy 8
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pytest_llmgrind import manifest
from pytest_llmgrind.contenders import Contenders
from pytest_llmgrind.graded import limits, source, timing
from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.graded.sandbox import walls
from pytest_llmgrind.race import race

REPOSITORY = Path(__file__).resolve().parent.parent
EQUAL_WITHIN = 0.05
ROLES = ("candidate", "reference", "baseline")
WORK = """
import numpy as np


def work(x, times):
    for _ in range(times):
        y = np.tanh(x)
    return y
"""
NUMBERS, TIMES = 10_000, 40
"""A millisecond of work: challenges that race are to declare no shorter calls than half of that."""


def main() -> int:
    options = _options()
    print(f"{platform.machine()}, {os.cpu_count()} cores, walls: {walls().level}")
    print(f"{options.busy} processes are busy, {options.runs} runs")
    ratios, seconds = [], []
    with _busy(options.busy), _carriers() as carriers:
        for _ in range(options.runs):
            began = time.perf_counter()
            ratios.append(_race(carriers))
            seconds.append(time.perf_counter() - began)
    off = [ratio for ratio in ratios if abs(ratio - 1) > EQUAL_WITHIN]
    print(f"equal functions: {min(ratios):.3f} to {max(ratios):.3f}, {len(off)} beyond 5 %")
    print(f"a race took {statistics.median(seconds):.1f} s in the middle")
    return 1 if off else 0


def _race(carriers: dict[str, Carrier]) -> float:
    modules: dict[str, Any] = {role: carrier.module() for role, carrier in carriers.items()}
    for carrier in carriers.values():
        carrier.begin()
    contenders = Contenders(
        modules,
        lambda impl, x: impl.work(x, TIMES),
        lambda rng: (rng.standard_normal(NUMBERS),),
        lambda result, *_: np.testing.assert_array_equal(result.shape, (NUMBERS,)),
        [0, 1],
    )
    with timing.on_one_core(carriers):
        found = race(
            contenders.cells(),
            limit=2.0,
            verify=contenders.check,
            during=contenders.blamed,
            watch=contenders.watch(),
            plan=contenders.plan(),
        )
    return found.figure


@contextlib.contextmanager
def _carriers() -> Iterator[dict[str, Carrier]]:
    challenge = manifest.load(REPOSITORY / "challenges/01_mlp")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "01_mlp.py")
        file.write_text(WORK, "utf-8")

        def make(home: Path) -> source.Source:
            return source.of_grader(challenge, file, home)

        carriers = {role: Carrier(make, walls(), limits.NUMPY, 600.0) for role in ROLES}
        try:
            yield carriers
        finally:
            for carrier in carriers.values():
                carrier.close()


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    hogs = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(count)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()


def _burn() -> None:
    x = np.random.default_rng(0).standard_normal((200, 200))
    while True:
        x = np.tanh(x @ x)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, metavar="N")
    parser.add_argument("--busy", type=int, default=4, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
