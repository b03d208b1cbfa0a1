"""Other directories of solutions are graded beside yours, and change nothing of yours."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import REFERENCE

from pytest_llmgrind import entrants
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.entrants import Entrant
from pytest_llmgrind.standing import Outside

OPTIONS = ("-q", "-p", "llmgrind", "-p", "timeout", "-p", "no:cacheprovider")
WRONG = "def add(a, b):\n    return a - b\n\n\ndef total(xs):\n    return sum(xs)\n"
HANGS = """
import subprocess
import time

def add(a, b):
    child = subprocess.Popen(["sleep", "60"])
    with open("pid.txt", "w") as file:
        file.write(str(child.pid))
    while True:
        time.sleep(1)

def total(xs):
    return sum(xs)
"""


@pytest.fixture
def course(suite: Any) -> Any:
    """Your solution and ada's package are right, bob's file is wrong."""
    suite.challenge()
    suite.solve()
    suite.write("submissions/ada/01_sums/__init__.py", REFERENCE)
    suite.write("submissions/bob/01_sums.py", WRONG)
    return suite


ENDS = (["next"], ["done"], ["passed"], ["attempt"])


def standing(result: Any) -> list[str]:
    """The table of ranks, and what follows it up to the attempt or the next step."""
    lines = list(result.outlines)
    first = next(n for n, line in enumerate(lines) if line.split()[:2] == ["standing", "rules"])
    last = next(n for n, line in enumerate(lines) if line.split()[:1] in ENDS and n > first)
    return lines[first:last]


def remarks(result: Any) -> list[str]:
    return [line for line in result.outlines if line.startswith("note ")]


def one(suite: Any, text: str, **options: Any) -> Outside:
    """What a single entrant reaches, run in a process of its own."""
    root = suite.path / "challenges/01_sums"
    if not root.exists():
        suite.challenge(imports=("os", "signal", "subprocess"))
    suite.write("submissions/eve/01_sums.py", text)
    entrant = Entrant(directory=suite.path / "submissions/eve", challenges=(manifests.load(root),))
    (reached,) = entrants.grade(entrant, OPTIONS, cwd=suite.path, **options)
    return reached


# -- on the board ---------------------------------------------------------------------------


def test_every_entrant_has_a_row(course: Any) -> None:
    """Ranked by rules kept, with you among them; your exit code is yours."""
    result = course.run("--entrants", "submissions")

    assert standing(result) == [
        "     standing   rules  stages  budgets",
        "  1  you          2/2     2/2        –",
        "  1  reference    2/2     2/2        –",
        "  1  ada          2/2     2/2        –",
        "  4  bob          1/2     1/2        –",
    ]
    assert result.ret == 0


def test_the_success_of_others_does_not_help_you(course: Any) -> None:
    """A wrong solution stays failed, whoever is right; who cannot be graded says why."""
    course.solve(WRONG)
    course.write("submissions/bob/01_sums.py", "def add(a, b):\n    return a b\n")

    result = course.run("--entrants", "submissions", "--leaderboard-json", "board.json")

    (challenge,) = json.loads((course.path / "board.json").read_text())["challenges"]
    ranks = [(entry["rank"], entry["kind"], entry["name"]) for entry in challenge["standing"]]
    assert result.ret == 1
    assert ranks == [
        (1, "reference", "reference"),
        (1, "entrant", "ada"),
        (3, "you", "you"),
        (4, "entrant", "bob"),
    ]
    assert standing(result)[-2:] == [
        "  4  bob          0/2     0/2        –",
        "  bob: 01_sums.py:2: not Python: invalid syntax",
    ]


def test_only_who_has_a_file_takes_part(course: Any) -> None:
    """A directory without a file for the challenge is no row, and neither is a hidden one."""
    course.write("submissions/bob/02_other.py", REFERENCE)
    (course.path / "submissions/bob/01_sums.py").unlink()
    course.write("submissions/.git/01_sums.py", REFERENCE)
    course.write("submissions/__pycache__/01_sums.py", REFERENCE)

    rows = standing(course.run("--entrants", "submissions"))

    assert [row.split()[1] for row in rows[1:]] == ["you", "reference", "ada"]


def test_your_own_directory_is_not_an_entrant(course: Any) -> None:
    """With --solutions submissions/ada you are ada, once."""
    rows = standing(course.run("--solutions", "submissions/ada", "--entrants", "submissions"))

    assert [row.split()[1] for row in rows[1:]] == ["you", "reference", "bob"]


@pytest.mark.parametrize(
    ("directory", "want"),
    [
        ("nowhere", "there is no directory {path}"),
        ("empty", "{path} holds no directory of solutions"),
        ("others", "nobody in {path} has a file for 01_sums"),
    ],
)
def test_a_directory_without_entrants_is_one_line(course: Any, directory: str, want: str) -> None:
    """What is wrong is said, and the board is shown without them."""
    (course.path / "empty").mkdir()
    course.write("others/eve/02_other.py", REFERENCE)

    result = course.run("--entrants", directory, "-q")

    text = " ".join(line[11:] for line in result.outlines if line[:11] in ("note       ", " " * 11))
    path = course.path / directory
    assert text.replace(" ", "") == f"--entrants: {want.format(path=path)}".replace(" ", "")
    assert result.ret == 0


def test_where_nothing_is_in_play_nobody_is_graded(suite: Any) -> None:
    """The line says how to bring a challenge into play."""
    suite.challenge()
    suite.write("submissions/ada/01_sums.py", REFERENCE)

    result = suite.run("--entrants", "submissions")

    assert remarks(result) == [
        "note       --entrants: no challenge is in play; name one: pytest challenges/<id>"
    ]


def test_an_interrupted_run_grades_nobody(course: Any) -> None:
    """Who presses Ctrl-C wants to stop."""
    course.write("test_after.py", "def test_after(): raise KeyboardInterrupt")

    result = course.run_process("challenges", "test_after.py", "--entrants", "submissions")

    assert remarks(result) == ["note       --entrants: not graded, since the run was interrupted"]


def test_an_interruption_while_others_are_graded_keeps_the_board(
    course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is left is named; what is known is shown."""
    plain = entrants.grade

    def grade(entrant: Entrant, *args: Any, **options: Any) -> Any:
        if entrant.name == "bob":
            raise KeyboardInterrupt
        return plain(entrant, *args, **options)

    monkeypatch.setattr(entrants, "grade", grade)

    result = course.run("--entrants", "submissions")

    assert remarks(result) == ["note       --entrants: interrupted; not graded: bob"]
    assert "  1  ada          2/2     2/2        –" in standing(result)


def test_options_of_the_ini_file_do_not_reach_entrants(
    course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--entrants in addopts grades everyone once; caches and summaries are those of your run."""
    summary = course.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    course.write(
        "pyproject.toml",
        '[tool.pytest.ini_options]\naddopts = "--entrants submissions --junitxml j.xml"\n',
    )

    result = course.run()

    assert len(standing(result)) == 5
    assert summary.read_text("utf-8").count("## Leaderboard") == 1
    assert 'tests="2"' in (course.path / "j.xml").read_text()


# -- a process of one's own -----------------------------------------------------------------


def test_who_hangs_is_ended_with_all_that_was_started(suite: Any) -> None:
    """After the limit the entrant's processes are gone, and the row says why it has no result."""
    begin = time.monotonic()

    reached = one(suite, HANGS, limit_s=3)

    assert reached == Outside(
        name="eve", challenge="01_sums", reason="no result: not done after 3 s"
    )
    assert time.monotonic() - begin < 15
    assert not is_running(int((suite.path / "pid.txt").read_text()))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import os\nos._exit(0)\n", "no result: its process ended before its tests did"),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
            "its process died of SIGKILL",
        ),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_who_dies_has_no_result(suite: Any, text: str, reason: str) -> None:
    """A process that ends early has passed nothing, whatever its exit code."""
    assert one(suite, text) == Outside(name="eve", challenge="01_sums", reason=reason)


def test_what_an_entrant_prints_and_breaks_stays_there(suite: Any, capfd: Any) -> None:
    """Its output is not shown, and its verdict is read from its own run."""
    noisy = "print('x' * 9999)\n" + WRONG

    reached = one(suite, noisy)

    assert (reached.kept, reached.stages, reached.reason) == (1, 1, "")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"rules": {"kept": 3}, "stages": [], "budgets": [], "next": {"kind": "done"}},
        {"rules": {"kept": []}, "stages": [{}], "budgets": [], "next": {"kind": "done"}},
        {"rules": {"kept": []}, "stages": [], "budgets": ["x"], "next": {"kind": "done"}},
        {"rules": {"kept": []}, "stages": [], "budgets": [], "next": {"kind": "mend"}},
        {
            "rules": {"kept": []},
            "stages": [],
            "budgets": [{"name": "b", "figure": "fast", "reference": None, "baseline": None}],
            "next": {"kind": "done"},
        },
    ],
)
def test_a_leaderboard_of_another_layout_is_no_result(suite: Any, found: Any) -> None:
    """An entrant's process may have written anything."""
    manifest = manifests.load(suite.challenge())

    reached = entrants.read(found, "eve", manifest)

    assert reached == Outside(
        name="eve", challenge="01_sums", reason="no result: what it wrote is no leaderboard"
    )


def test_entrants_run_the_tests_that_you_ran(suite: Any) -> None:
    """Selections and tiers are passed on; plugins that are off stay off."""
    suite.write("pyproject.toml", "[tool.pytest.ini_options]\n")
    more = ["-k", "pairs or lists", "-m", "not gpu", "--slow", "--require-tier", "gpu"]
    config = suite.pytester.parseconfigure("-p", "llmgrind", "-p", "timeout", *more)

    assert entrants.arguments(config) == [
        "-q",
        "--rootdir",
        str(suite.path),
        "--entrants=",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "-c",
        str(suite.path / "pyproject.toml"),
        "-p",
        "llmgrind",
        "-p",
        "timeout",
        "-p",
        "no:benchmark",
        "--slow",
        "--require-tier",
        "gpu",
        "-k",
        "pairs or lists",
        "-m",
        "not gpu",
    ]
