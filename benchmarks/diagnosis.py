"""How often a planted bug, handed in as a solution, is told its own misconception.

Every bug of every challenge is graded as a learner's solution would be, without what is timed, and
the lines `looks like` of its failure texts are read. A bug is *named* if they say its own
misconception, *silent* if there are none, and *wrong* if one is another's; it is *not run* where
all that could fail is skipped here. The solutions of tests/wrong are mistakes of another kind, and
are to stay silent. Promised: 90 % named, none wrong. tests/test_diagnosis.py holds it with the
tests of each bug's own rule, which takes a quarter of the time.

    python benchmarks/diagnosis.py
    python benchmarks/diagnosis.py 02_attention --jobs 1
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import bugs
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.gate.worker import Worker
from pytest_llmgrind.manifest import Manifest, load
from pytest_llmgrind.redact import LOOKS_LIKE

ROOT = Path(__file__).parents[1]
NAMED = 0.9
SKIPPED = {"skipped", "no hardware"}


@dataclass(frozen=True)
class Verdict:
    """What a wrong solution was told, and in how many failures."""

    bug: Bug
    said: frozenset[str]
    failures: int
    skipped: int

    @property
    def word(self) -> str:
        if self.said - {self.bug.misconception}:
            return "wrong"
        if self.said:
            return "named"
        return "not run" if self.skipped and not self.failures else "silent"


def unrelated(manifest: Manifest) -> tuple[Bug, ...]:
    """The mistakes of tests/wrong, which no planted bug makes."""
    return bugs.read(ROOT / "tests" / "wrong" / f"{manifest.id}.toml")


def judge(manifest: Manifest, wrong: Iterable[Bug], *, whole: bool = True) -> Iterator[Verdict]:
    """Grade the reference with each patch, in a process that lives on as long as it can.

    ``whole``: by all tests, not only by those of the patch's rule up to the first that is told.
    """
    source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
    scratch = tempfile.TemporaryDirectory()
    with scratch, Worker(manifest, Path(scratch.name) / "lock", threading.Event()) as worker:
        for bug in wrong:
            (worker.solutions / f"{manifest.id}.py").write_text(bug.patched(source), "utf-8")
            rule = "" if whole else bug.rule
            run = worker.grade(worker.solutions, rule=rule, measured=True, diagnose=True)
            texts = [result.text for result in run.results if result.text]
            lines = [line for text in texts for line in text.splitlines()]
            said = {line.removeprefix(LOOKS_LIKE) for line in lines if line.startswith(LOOKS_LIKE)}
            skipped = sum(result.outcome in SKIPPED for result in run.results)
            yield Verdict(bug, frozenset(said), len(texts) + bool(run.died), skipped)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    ids = options.ids or sorted(path.parent.name for path in ROOT.glob("challenges/*/spec.md"))
    manifests = [load(ROOT / "challenges" / id) for id in ids]
    planted = [(manifest, bug) for manifest in manifests for bug in bugs.load(manifest)]
    others = [(manifest, bug) for manifest in manifests for bug in unrelated(manifest)]
    with ThreadPoolExecutor(options.jobs) as pool:
        count = Counter(pool.map(tell, planted))
        strays = Counter(pool.map(tell, others))
    share = count["named"] / (count.total() - count["not run"])
    print(f"{count.total()} planted bugs: {dict(count)}, {share:.0%} named")
    print(f"{strays.total()} unrelated mistakes: {dict(strays)}")
    return int(share < NAMED or count["wrong"] + strays["named"] + strays["wrong"] > 0)


def tell(case: tuple[Manifest, Bug]) -> str:
    """The word for one wrong solution; a line for each that is not named."""
    manifest, bug = case
    (verdict,) = judge(manifest, [bug])
    if verdict.word != "named":
        others = "; ".join(verdict.said - {bug.misconception})
        print(f"{manifest.id}  {bug.name}  {verdict.word}  {others}", flush=True)
    return verdict.word


if __name__ == "__main__":
    sys.exit(main())
