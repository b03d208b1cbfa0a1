"""How far every timed budget is from its limit: what the gate's timed verdicts rest on.

For each budget of kind race or scaling the gate's own worker measures the reference, the baseline,
the right solutions in other styles (tests/styles) and the planted bugs of its rule, some times
each. Printed are the figures as shares of the limit. Promised, in every run:

- reference and baseline keep the room that the gate demands, 0.5 and 1.5 of a race, 0.75 and 1.25
  of an exponent;
- other styles meet the limit, but for those that are right and slow, and planted bugs miss it,
  by 1.2 times, of an exponent 1.1.

    python benchmarks/budget_room.py
    python benchmarks/budget_room.py 10_paged_attention 11_prefix_cache --runs 10 --busy 4
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from busy import busy

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.gate import figures, planted
from pytest_llmgrind.gate.files import reference_file
from pytest_llmgrind.gate.worker import Worker
from pytest_llmgrind.manifest import TIMED, Budget, Manifest

CHALLENGES = Path(__file__).parents[1] / "challenges"
STYLES = CHALLENGES.parent / "tests" / "styles"
ROOM = {"scaling": 1.1, "race": 1.2}
SLOW = {
    ("rows_apart", "a_batch_beats_its_rows_one_by_one"),
    ("loops_over_heads", "a_step_beats_repeated_heads"),
    ("folded_weights", "absorbed_decode_beats_expansion"),
}
"""Right styles that do what the budget is there to see."""


@dataclass(frozen=True)
class Survey:
    """One timed budget, with the rule of its test."""

    manifest: Manifest
    worker: Worker
    budget: Budget
    rule: str
    runs: int

    def keeps(self) -> bool:
        """Measure and print everything; whether every promise is kept."""
        source = reference_file(self.manifest).read_text("utf-8")
        most, least = figures.ROOM.get(self.budget.kind, figures.HALF)
        room = ROOM[self.budget.kind]
        seen = self.measured(source)
        kept = [
            self.say("reference", [data["figure"] for data in seen], most=most),
            self.say("baseline", [data["baseline"] for data in seen], least=least),
        ]
        for style in sorted(STYLES.glob(f"{self.manifest.id}/*.py")):
            seen = self.measured(source + "\n\n" + style.read_text("utf-8"))
            slow = (style.stem, self.budget.name) in SLOW
            most = math.inf if slow else 1 / room
            kept.append(self.say(style.stem, [data["figure"] for data in seen], most=most))
        for bug in (bug for bug in planted.usable(self.manifest) if bug.rule == self.rule):
            if seen := self.measured(bug.patched(source)):  # else it fails before it is timed
                kept.append(self.say(bug.name, [data["figure"] for data in seen], least=room))
        return all(kept)

    def measured(self, text: str) -> list[dict[str, float]]:
        """The figures of a solution, of each run in which its test came to measure."""
        (self.worker.solutions / f"{self.manifest.id}.py").write_text(text, "utf-8")
        found = []
        for _ in range(self.runs):
            run = self.worker.grade(self.worker.solutions, rule=self.rule, measured=True)
            found += [r.budget for r in run.results if r.test.name == self.budget.test]
        return [data for data in found if data]

    def say(
        self, who: str, values: list[float], *, most: float = math.inf, least: float = 0.0
    ) -> bool:
        """Print them as shares of the limit; whether there are any, and all are in between."""
        shares = sorted(value / self.budget.limit for value in values)
        kept = bool(shares) and least <= shares[0] and shares[-1] <= most
        missed = f"  MISSED: {least:.2f} to {most:.2f}"
        row = f"{self.manifest.id:24} {self.budget.name:42} {who:26}"
        print(row, *(f"{share:.2f}" for share in shares), "" if kept else missed, flush=True)
        return kept


def main() -> int:
    options = _options()
    print(f"{options.runs} runs, {options.busy} busy processes; shares of the limit")
    kept = []
    with busy(options.busy), tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch) / "lock"
        lock.touch()
        for root in options.challenges or sorted(CHALLENGES.glob("[0-9][0-9]_*")):
            manifest = manifests.load(CHALLENGES / root)
            with Worker(manifest, lock, threading.Event()) as worker:
                tests = worker.grade(worker.solutions).tests.values()  # of the stub, so in no time
                rules = {test.name: test.rules[0] for test in tests}
                kept += [
                    Survey(manifest, worker, budget, rules[budget.test], options.runs).keeps()
                    for budget in manifest.budgets
                    if budget.kind in TIMED
                ]
    return 0 if all(kept) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("challenges", nargs="*", help="all by default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
