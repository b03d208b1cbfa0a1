"""How far every timed budget is from its limit: what the gate's timed verdicts rest on.

For each budget of kind race or scaling the gate's own worker measures the reference, the baseline,
the right solutions in other styles (tests/styles) and the planted bugs of its rule, some times
each. Printed are the figures as shares of the limit. Promised, in every run:

- reference and baseline keep the room that the gate demands, 0.5 and 1.5 of a race, 0.75 and 1.25
  of an exponent;
- other styles meet the limit, and planted bugs miss it, by 1.2 times.

    python benchmarks/budget_room.py
    python benchmarks/budget_room.py 10_paged_attention 11_prefix_cache --runs 10 --busy 4
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.gate import figures, planted
from pytest_llmgrind.gate.coverage import budget_rules
from pytest_llmgrind.gate.files import reference_file
from pytest_llmgrind.gate.worker import Run, Worker
from pytest_llmgrind.manifest import TIMED, Budget, Manifest

CHALLENGES = Path(__file__).parents[1] / "challenges"
STYLES = CHALLENGES.parent / "tests" / "styles"
ROOM = 1.2


def main() -> int:
    options = _options()
    print(f"{options.runs} runs, {options.busy} busy processes; shares of the limit, worst first")
    kept = True
    with _busy(options.busy), tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch) / "lock"
        lock.touch()
        for root in options.challenges or sorted(CHALLENGES.glob("[0-9][0-9]_*")):
            manifest = manifests.load(CHALLENGES / root)
            with Worker(manifest, lock, threading.Event()) as worker:
                kept &= _survey(manifest, worker, options.runs)
    return 0 if kept else 1


def _survey(manifest: Manifest, worker: Worker, runs: int) -> bool:
    kept = True
    source = reference_file(manifest).read_text("utf-8")
    for budget in (budget for budget in manifest.budgets if budget.kind in TIMED):
        rules = _rules(manifest, worker, budget)

        def measured(
            text: str, rules: tuple[str, ...] = rules, budget: Budget = budget
        ) -> list[dict[str, float]]:
            (worker.solutions / f"{manifest.id}.py").write_text(text, "utf-8")
            found = (
                worker.grade(worker.solutions, rule=rules[0], measured=True) for _ in range(runs)
            )
            return [data for run in found if (data := _data(run, budget))]

        say = partial(_line, manifest, budget)
        most, least = figures.ROOM.get(budget.kind, figures.HALF)
        seen = measured(source)
        kept &= say("reference", [data["figure"] for data in seen], most=most)
        kept &= say("baseline", [data["baseline"] for data in seen], least=least)
        for style in sorted(STYLES.glob(f"{manifest.id}/*.py")):
            text = source + "\n\n" + style.read_text("utf-8")
            kept &= say(style.stem, [data["figure"] for data in measured(text)], most=1 / ROOM)
        for bug in (bug for bug in planted.usable(manifest) if bug.rule in rules):
            if seen := measured(bug.patched(source)):  # else it fails before it is timed
                kept &= say(bug.name, [data["figure"] for data in seen], least=ROOM)
    return kept


def _rules(manifest: Manifest, worker: Worker, budget: Budget) -> tuple[str, ...]:
    """Of the test of this budget."""
    tests = worker.grade(worker.solutions).tests.values()
    rules = budget_rules(manifest, list(tests))
    return next(tuple(set(t.rules) & rules) for t in tests if t.name == budget.test)


def _data(run: Run, budget: Budget) -> dict[str, float]:
    return next((r.budget or {} for r in run.results if r.test.name == budget.test), {})


def _line(
    manifest: Manifest,
    budget: Budget,
    who: str,
    figures: list[float],
    *,
    most: float = np.inf,
    least: float = 0.0,
) -> bool:
    shares = sorted((figure / budget.limit for figure in figures), reverse=most < np.inf)
    kept = least <= shares[0] <= most
    word = (
        ""
        if kept
        else f"  MISSED: {'at most' if most < np.inf else 'at least'} "
        + (f"{most if most < np.inf else least:g}")
    )
    values = " ".join(f"{share:.2f}" for share in shares)
    print(f"{manifest.id:24} {budget.name:42} {who:32} {values}{word}", flush=True)
    return kept


@contextlib.contextmanager
def _busy(number: int) -> Iterator[None]:
    """Processes that compute, and that go through more memory than the caches hold."""
    kinds = (_compute, _copy)
    workers = [multiprocessing.Process(target=kinds[i % 2], daemon=True) for i in range(number)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()


def _compute() -> None:
    while True:
        sum(range(100_000))


def _copy() -> None:
    here, there = np.zeros(2**25), np.zeros(2**25)
    while True:
        np.copyto(there, here)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("challenges", nargs="*", help="all by default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
