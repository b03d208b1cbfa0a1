"""Real ranks in graded mode: the same hidden tests, and the solution behind walls on every rank."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_llmgrind import bugs, manifest
from pytest_llmgrind.graded.sandbox import BUBBLEWRAP, walls

ROOT = Path(__file__).parents[2]
ID = "05_parallelism"
REFERENCE = (ROOT / f"reference/{ID}.py").read_text("utf-8")
SUM = "        self._dist.all_reduce(total)\n"
CHALLENGE = manifest.load(ROOT / "challenges" / ID)
STAGE = (CHALLENGE.root / "hidden/5_processes.py").read_text("utf-8")
NAMES = {
    rule: re.findall(rf'@rule\("{rule}"\)\ndef (\w+)', STAGE)
    for rule in ("R28", "R29", "R30", "R31", "R32")
}
BUGS = [bug for bug in bugs.load(CHALLENGE) if bug.rule in NAMES]

pytestmark = pytest.mark.skipif(walls().level != BUBBLEWRAP, reason=walls().why)


@dataclass(frozen=True)
class Graded:
    """Rules and verdicts of stage 5's tests by name, and what was printed."""

    tests: dict[str, tuple[str, str]]
    output: str

    def verdicts(self, rule: str = "") -> set[str]:
        return {verdict for its, verdict in self.tests.values() if rule in ("", its)}


def grade(text: str, home: Path, only: str = "") -> Graded:
    """Stage 5 of a solution that somebody hands in."""
    (home / f"{ID}.py").write_text(f"{text}\n# handed in\n", "utf-8")
    command = [sys.executable, "-m", "pytest", f"challenges/{ID}/hidden/5_processes.py"]
    command += ["--graded", f"--solutions={home}", f"--result={home}/result.json", "-q"]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider", f"-k={only}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (challenge,) = json.loads((home / "result.json").read_text("utf-8"))["challenges"]
    tests = {
        test["name"]: (test["rule"], test["verdict"])
        for test in challenge["tests"]
        if test["stage"] == "processes" and test["verdict"] != "not run"
    }
    return Graded(tests, run.stdout + run.stderr)


def on_rank_1(statement: str) -> str:
    """The reference, in which rank 1 does something else before it adds up."""
    lines = f"        import torch\n\n        if self.rank == 1:\n            {statement}\n"
    assert REFERENCE.count(SUM) == 1
    return REFERENCE.replace(SUM, lines + SUM)


def test_what_is_right_passes(tmp_path: Path) -> None:
    """Twelve of thirteen tests; nccl wants GPUs, and its test does not count as passed."""
    graded = grade(REFERENCE, tmp_path)

    skipped = [name for name, (_, verdict) in graded.tests.items() if verdict == "skipped"]
    assert skipped == ["test_sums_and_messages_over_nccl"], graded.output
    assert graded.verdicts() == {"passed", "skipped"}, graded.output
    assert len(graded.tests) == 13


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bugs_are_caught(bug: bugs.Bug, tmp_path: Path) -> None:
    """Each by its rule, as in practice."""
    graded = grade(bug.patched(REFERENCE), tmp_path, " or ".join(NAMES[bug.rule]))

    assert graded.verdicts(bug.rule) & {"failed", "time limit"}, graded.output


CHEATS = {
    "ends": ("torch.os._exit(0)", "failed", "rank 1 of 2 ended before it returned"),
    "crashes": ("torch.ctypes.string_at(0)", "failed", "rank 1 of 2 ended before it returned"),
    "raises": ("raise KeyError('oh')", "failed", "raised KeyError: 'oh'"),
    "hangs": ("torch.os.read(torch.os.pipe()[0], 1)", "failed", "no answer from rank"),
    "forks": ("torch.os.fork()", "forbidden", "started a process"),
    "floods": ("print('x' * 2_000_000)", "forbidden", "printed more than 1 MiB"),
    "fills memory": ("np.ones(1 << 32)", "memory limit", "needed more than 6,144 MiB of memory"),
    "sends nonsense": (
        "torch.os.write([int(fd) for fd in torch.os.listdir('/proc/self/fd')"
        " if 'socket' in torch.os.path.realpath(f'/proc/self/fd/{fd}')][0], b'llmgrind' * 100)",
        "protocol",
        "a message",
    ),
    "kills the others": (
        "[torch.os.kill(int(pid), 9) for pid in torch.os.listdir('/proc')"
        " if pid.isdigit() and int(pid) not in (1, torch.os.getpid())]",
        "failed",
        "rank 0 of 2 ended before it returned",
    ),
    "looks for the grader": (
        "raise ValueError(torch.os.path.exists('/grader/pytest_llmgrind/suite/hidden')"
        f" or torch.os.path.exists({str(ROOT / 'challenges')!r}))",
        "failed",
        "raised ValueError: False",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_a_rank_does_is_told(cheat: str, tmp_path: Path) -> None:
    """The test fails with a word for it, and none that does not add up is touched."""
    statement, verdict, text = CHEATS[cheat]
    names = "test_views_arrive_as_they_look", "test_ranks_may_swap_arrays_of_different_forms"

    graded = grade(on_rank_1(statement), tmp_path, " or ".join(names))

    assert [graded.tests[name][1] for name in names] == [verdict, "passed"], graded.output
    assert text in graded.output
