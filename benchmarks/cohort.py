"""How many entrants a minute `llmgrind grade` grades, and how close to linear in cores that is.

Hands in the reference of each challenge for every entrant, with a comment of its own, and every
fourth time with a planted bug. Some entrants are graded with --jobs 1 and with --jobs N, and their
verdicts are compared: a budget that is met alone and missed beside others would be a wrong
verdict. Then everyone is graded with --jobs N.

    python benchmarks/cohort.py
    python benchmarks/cohort.py --entrants 16 --subset 8 --jobs 2 --executor ray
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_llmgrind import bugs, manifest

REPOSITORY = Path(__file__).resolve().parent.parent
BUGGY = 4
"""One entrant of so many has a planted bug."""


def main() -> int:
    options = _options()
    print(f"{platform.machine()}, {_cores()} cores, Python {platform.python_version()}")
    print(f"{options.entrants} entrants × {len(options.challenges)} challenges")
    with tempfile.TemporaryDirectory(prefix="cohort-") as scratch:
        few, everyone = Path(scratch, "few"), Path(scratch, "everyone")
        _hand_in(few, options.challenges, options.subset)
        _grade(few, options, jobs=options.jobs)  # files and bytecode are in the cache from now on
        alone, first = _grade(few, options, jobs=1)
        beside, then = _grade(few, options, jobs=options.jobs)
        share = then / first / options.jobs
        print(f"{then / first:.2f} times as fast as --jobs 1, {share:.0%} of linear")
        if options.entrants > options.subset:
            _hand_in(everyone, options.challenges, options.entrants)
            _grade(everyone, options, jobs=options.jobs)
    other = [key for key, verdict in alone.items() if beside[key] != verdict]
    print(f"verdicts that differ from those of --jobs 1: {len(other)} of {len(alone)} tests")
    for key in other:
        print(f"  entrant {', '.join(key)}: {alone[key]}, then {beside[key]}")
    return 0


def _hand_in(home: Path, ids: Sequence[str], entrants: int) -> None:
    """``home/submissions/<number>/<id>.py`` for each."""
    for id in ids:
        challenge = manifest.load(REPOSITORY / "challenges" / id)
        reference = (REPOSITORY / f"reference/{id}.py").read_text("utf-8")
        planted = bugs.load(challenge)
        for number in range(entrants):
            text = reference
            if number % BUGGY == BUGGY - 1:
                text = planted[number // BUGGY % len(planted)].patched(reference)
            file = home / f"submissions/{number:03d}/{id}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n# handed in by {number}\n", "utf-8")


def _grade(
    home: Path, options: argparse.Namespace, *, jobs: int
) -> tuple[dict[tuple[str, str, str], str], float]:
    """The verdict on each test of each entrant, and entrants a minute."""
    command = [sys.executable, "-m", "pytest_llmgrind.cli", "grade", str(home / "submissions")]
    command += [*options.challenges, "--jobs", str(jobs), "--executor", options.executor, "--json"]
    command.append("--again")
    began = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    entrants = len(json.loads(done.stdout)["entrants"])
    rate = entrants * 60 / seconds
    print(
        f"--executor {options.executor} --jobs {jobs}: {entrants} entrants in {seconds:.0f} s, "
        f"{rate:.1f} entrants a minute"
    )
    found: dict[tuple[str, str, str], str] = {}
    for file in sorted((home / ".llmgrind/results/submissions").glob("*/*.json")):
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        for test in record["result"]["challenges"][0]["tests"]:
            found[record["entrant"], record["challenge"], test["name"]] = test["verdict"]
    return found, rate


def _cores() -> int:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entrants", type=int, default=200, metavar="N")
    parser.add_argument("--subset", type=int, default=20, metavar="N", help="with --jobs 1")
    parser.add_argument("--jobs", type=int, default=_cores(), metavar="N")
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--challenges", nargs="+", default=["01_mlp", "03_rope"], metavar="ID")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
