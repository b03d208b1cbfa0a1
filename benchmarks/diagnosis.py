"""How often a planted bug, handed in as a solution, is told its own misconception.

Every bug of every challenge is graded as a learner's solution would be, without what is timed, and
the lines `looks like` of its failure texts are read. A bug is *named* if they say its own
misconception, *silent* if there are none, and *wrong* if one is another's. Promised: 90 % named,
none wrong; tests/test_diagnosis.py holds it.

    python benchmarks/diagnosis.py
    python benchmarks/diagnosis.py 02_attention --jobs 1
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import bugs
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.gate.worker import Worker
from pytest_llmgrind.manifest import Manifest, load

ROOT = Path(__file__).parents[1]
LABEL = "  looks like   "
NAMED = 0.9


@dataclass(frozen=True)
class Verdict:
    """What a wrong solution was told, and in how many failures."""

    bug: Bug
    said: frozenset[str]
    failures: int
    seconds: float

    @property
    def word(self) -> str:
        if self.said - {self.bug.misconception}:
            return "wrong"
        if self.said:
            return "named"
        return "silent" if self.failures else "not failing"


def judge(manifest: Manifest, wrong: Iterable[Bug]) -> Iterator[Verdict]:
    """Grade the reference with each patch, in a process that lives on as long as it can."""
    source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
    scratch = tempfile.TemporaryDirectory()
    with scratch, Worker(manifest, Path(scratch.name) / "lock", threading.Event()) as worker:
        for bug in wrong:
            (worker.solutions / f"{manifest.id}.py").write_text(bug.patched(source), "utf-8")
            began = time.monotonic()
            run = worker.grade(worker.solutions, measured=True, diagnose=True)
            texts = [result.text for result in run.results if result.text]
            lines = [line for text in texts for line in text.splitlines()]
            said = {line.removeprefix(LABEL) for line in lines if line.startswith(LABEL)}
            yield Verdict(bug, frozenset(said), len(texts), time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    ids = options.ids or sorted(path.parent.name for path in ROOT.glob("challenges/*/spec.md"))
    work = []
    for id in ids:
        manifest = load(ROOT / "challenges" / id)
        work += [(manifest, bug) for bug in bugs.load(manifest)]
    count: Counter[str] = Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for (manifest, bug), found in zip(
            work, pool.map(lambda each: list(judge(each[0], [each[1]])), work), strict=True
        ):
            count[found[0].word] += 1
            if found[0].word != "named":
                others = "; ".join(found[0].said - {bug.misconception})
                print(f"{manifest.id}  {bug.name}  {found[0].word}  {others}", flush=True)
    share = count["named"] / count.total()
    print(f"{count.total()} bugs: {dict(count)}, {share:.0%} named")
    return int(share < NAMED or count["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
