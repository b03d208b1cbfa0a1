"""What a race is worth on a busy machine: two equal functions, and one 10 % beside its limit.

Keeps four processes busy on two cores and races attention in NumPy. Promised:

- the ratio of two equal functions is within 3 % of 1 in every run;
- a candidate 10 % over its limit fails, and one 10 % under it passes, in 199 of 200 runs;
- a race takes 1.5 s or less in the middle of all runs;
- the exponent of work that grows linearly is within 0.1 of 1, also where calls are so long that
  every one of them is interrupted.

Every run counts; none is repeated.

    python benchmarks/race_under_load.py
    python benchmarks/race_under_load.py --runs 20 --busy 8
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import functools
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from busy import busy

from pytest_llmgrind.race import Result, race, scaling
from pytest_llmgrind.rounds import Cell

EQUAL_WITHIN = 0.03
EXPONENT_WITHIN = 0.1
RIGHT_OF_200 = 199
MEDIAN_S = 1.5
LIMIT = 0.5
BASELINE_REPEATS = 20
SIZES = {"short": (4, 8, 16, 32), "long": (500, 1_000, 2_000)}


@dataclass(frozen=True)
class Run:
    """One measurement and how long it took."""

    result: Result
    seconds: float


def main() -> int:
    options = _options()
    cores = _take_cores(options.cores)
    print(
        f"{platform.machine()}, {cores} cores, {options.busy} busy processes, load of the last "
        f"minute {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    with busy(options.busy):
        kept = [
            _equal(options.runs),
            _beside_the_limit("10 % over", 11, "over", options.runs),
            _beside_the_limit("10 % under", 9, "met", options.runs),
            *(_linear(name, sizes, max(1, options.runs // 10)) for name, sizes in SIZES.items()),
        ]
    return 0 if all(kept) else 1


def _equal(runs: int) -> bool:
    """Two functions that do the same, far from a limit that does not matter."""
    seen = _repeat(runs, lambda: _race(1, 1, limit=2.0))
    ratios = [run.result.figure for run in seen]
    worst = max(abs(ratio - 1) for ratio in ratios)
    middle_s = statistics.median(run.seconds for run in seen)
    missed = sum(not _holds(run.result, 1.0) for run in seen)
    details = f"{_spread(ratios)}, worst {worst:.2%} off, {missed} intervals of {runs} miss 1"
    kept = worst <= EQUAL_WITHIN and middle_s <= MEDIAN_S
    return _say("equal", details, seen, kept)


def _beside_the_limit(name: str, repeats: int, wanted: str, runs: int) -> bool:
    """A candidate that repeats the baseline's work 11 or 9 times for 20, at a limit of 0.5."""
    seen = _repeat(runs, lambda: _race(repeats, BASELINE_REPEATS, limit=LIMIT))
    right = sum(run.result.verdict == wanted for run in seen)
    details = f"{_spread([run.result.figure for run in seen])}, {right} of {runs} are {wanted}"
    return _say(name, details, seen, right >= runs - runs * (200 - RIGHT_OF_200) // 200)


def _linear(name: str, sizes: tuple[int, ...], runs: int) -> bool:
    """Work that grows linearly, at a limit of 1.5."""
    cells = [_cell("candidate", size, size=size) for size in sizes]
    seen = _repeat(runs, lambda: scaling(cells, limit=1.5, verify=_verify))
    exponents = [run.result.figure for run in seen]
    longest_ms = 1e3 * statistics.median(seen[-1].result.laps[-1].seconds)
    right = sum(run.result.verdict == "met" for run in seen)
    worst = max(abs(exponent - 1) for exponent in exponents)
    details = f"{_spread(exponents)}, {right} of {runs} are met, calls of up to {longest_ms:.1f} ms"
    return _say(f"linear, {name}", details, seen, worst <= EXPONENT_WITHIN and right == runs)


# -- what is raced --------------------------------------------------------------------------


def _attention(x: Any) -> Any:
    """Softmax attention of x (32, 64) float32 with itself."""
    scores = x @ x.T  # (32, 32)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores @ x


def _repeated(repeats: int, x: Any) -> Any:
    for _ in range(repeats):
        out = _attention(x)
    return out


def _make(number: int) -> tuple[Any, ...]:
    return (np.random.default_rng([7, number]).standard_normal((32, 64), dtype=np.float32),)


def _verify(_contender: str, result: Any, arguments: tuple[Any, ...]) -> None:
    if not np.array_equal(result, _attention(*arguments)):
        raise AssertionError("a timed call returned something else")


def _cell(contender: str, repeats: int, *, size: int = 0) -> Cell:
    call = functools.partial(_repeated, repeats)
    return Cell(contender=contender, call=call, make=_make, size=size)


def _race(candidate: int, baseline: int, *, limit: float) -> Result:
    """As a budget does it, with the reference as a third contender."""
    repeats = {"candidate": candidate, "reference": candidate, "baseline": baseline}
    cells = [_cell(contender, number) for contender, number in repeats.items()]
    return race(cells, limit=limit, verify=_verify)


def _repeat(runs: int, measure: Callable[[], Result]) -> list[Run]:
    seen = []
    for _ in range(runs):
        start = time.perf_counter()
        result = measure()
        seen.append(Run(result, time.perf_counter() - start))
    return seen


# -- words ----------------------------------------------------------------------------------


def _say(name: str, details: str, seen: list[Run], kept: bool) -> bool:
    seconds = sorted(run.seconds for run in seen)
    rounds = statistics.median(len(run.result.laps[0].seconds) for run in seen)
    word = "kept" if kept else "BROKEN"
    print(
        f"{name:<14} {word:<6} {details}; {rounds:.0f} rounds and "
        f"{statistics.median(seconds):.2f} s in the middle, {seconds[-1]:.2f} s at most",
        flush=True,
    )
    return kept


def _spread(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def _holds(result: Result, true: float) -> bool:
    return result.interval.low <= true <= result.interval.high


def _take_cores(number: int) -> int:
    """Keep this process and its children to so many cores, where the system lets us."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    mine = sorted(os.sched_getaffinity(0))[:number]
    os.sched_setaffinity(0, mine)
    return len(mine)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="races of each kind (200)")
    parser.add_argument("--busy", type=int, default=4, help="busy processes beside the race (4)")
    parser.add_argument("--cores", type=int, default=2, help="cores for all of them (2)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
