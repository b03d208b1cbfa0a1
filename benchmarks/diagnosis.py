"""How often a planted bug, handed in as a solution, is told its own misconception.

    python benchmarks/diagnosis.py [ID ...] [--jobs 2]

For each bug of each challenge: the patched reference is graded as a learner's solution would be,
and the lines `looks like` of its failure texts are read. A bug is *named* if one of them is its
own misconception, *silent* if there is none, and *wrong* if one is another bug's. The last line
counts; tests/test_diagnosis.py holds it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import bugs, workspace
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.manifest import Manifest, load

LABEL = "  looks like   "
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")


@dataclass(frozen=True)
class Verdict:
    """What a bug was told. ``seconds`` are those of all diagnoses of its run."""

    challenge: str
    bug: Bug
    said: tuple[str, ...]
    failed: int

    @property
    def word(self) -> str:
        if any(text != self.bug.misconception for text in self.said):
            return "wrong"
        return "named" if self.said else "silent"


def judge(manifest: Manifest, bug: Bug, source: str) -> Verdict:
    """Grade one bug as a solution."""
    text = grade(manifest, bug.patched(source))
    said = [line.removeprefix(LABEL) for line in text.splitlines() if line.startswith(LABEL)]
    failed = sum(line.startswith("  saw    ") for line in text.splitlines())
    return Verdict(manifest.id, bug, tuple(sorted(set(said))), failed)


def grade(manifest: Manifest, solution: str) -> str:
    """What pytest prints of a solution."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, f"{manifest.id}.py").write_text(solution, "utf-8")
        command = [sys.executable, "-m", "pytest", str(manifest.root), "--solutions", scratch]
        command += ["--benchmark-disable", "-p", "no:cacheprovider", "-p", "no:randomly"]
        environment = {**os.environ, **{f"{name}_NUM_THREADS": "1" for name in THREADS}}
        environment |= {"COLUMNS": "100"}
        found = subprocess.run(
            command,
            cwd=manifest.root.parent.parent,
            env=environment,
            capture_output=True,
            text=True,
        )
    return found.stdout


def verdicts(challenges: list[Path], jobs: int) -> Iterator[Verdict]:
    work = []
    for root in challenges:
        manifest = load(root)
        source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
        work += [(manifest, bug, source) for bug in bugs.load(manifest)]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda each: judge(*each), work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    suite = workspace.find(Path.cwd())
    chosen = [suite.resolve(id) for id in options.ids or suite.ids]
    count = dict.fromkeys(("named", "silent", "wrong", "not run"), 0)
    for verdict in verdicts(chosen, options.jobs):
        word = verdict.word if verdict.failed else "not run"
        count[word] += 1
        told = [text for text in verdict.said if text != verdict.bug.misconception]
        print(f"{verdict.challenge}  {word:7}  {verdict.bug.name}  {'; '.join(told)}", flush=True)
    print(json.dumps(count))


if __name__ == "__main__":
    main()
