"""`llmgrind grade`: one leaderboard, and a directory of results that a kill does not harm."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import ID, REFERENCE, Suite

from pytest_llmgrind.cli import grade
from pytest_llmgrind.graded.sandbox import NONE, walls
from pytest_llmgrind.report.cohort import UNFENCED

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="graded mode needs POSIX")
WRONG = REFERENCE.replace("a + b", "a - b")
NO_RAY = "Ray is not installed: pip install 'pytest-llmgrind[ray]', or tox -e ray"
UNWALLED = [f"  {UNFENCED}"] if walls().level == NONE else []


@pytest.fixture
def course(suite: Suite) -> Suite:
    """ada is right in both challenges, bob wrong in one."""
    suite.challenge()
    suite.challenge("02_more")
    for id in (ID, "02_more"):
        suite.write(f"submissions/ada/{id}.py", REFERENCE)
    suite.write(f"submissions/bob/{ID}.py", WRONG)
    return suite


@pytest.fixture
def slow(suite: Suite) -> Suite:
    """Six entrants; a line in log.txt when one begins and ends. ``hold``: how many may end."""
    suite.challenge(
        stages={
            "one": f"""
            import os, time
            from pathlib import Path
            from pytest_llmgrind import rule

            HOME = Path({str(suite.path)!r})

            def log(word):
                with (HOME / "log.txt").open("a") as file:
                    file.write(f"{{word}} {{os.getpid()}}\\n")

            @rule("R1")
            def test_it(solution):
                log("begins")
                order = (HOME / "log.txt").read_text().count("begins")
                while order > int((HOME / "hold").read_text() or 9):
                    time.sleep(0.05)
                log("ends")
            """
        }
    )
    for number in range(6):
        suite.write(f"submissions/entrant{number}/{ID}.py", REFERENCE)
    suite.write("hold", "")
    return suite


def said(result: Result) -> list[str]:
    """What is on standard error, with figures of time left out."""
    return [re.sub(r"in \d+ s, [\d.]+ a", "in N s, N a", x) for x in result.stderr.splitlines()]


def until(true: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def logged(suite: Suite, word: str) -> list[int]:
    file = suite.path / "log.txt"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(word)]


def results(suite: Suite) -> list[Path]:
    return sorted((suite.path / ".llmgrind/results/submissions").glob("*/*.json"))


def started(suite: Suite, *args: str) -> subprocess.Popen[str]:
    """The verb in a process of its own, as from a shell."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_llmgrind.cli", "grade", "submissions", *args],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_running(pid: int) -> bool:
    """A zombie is not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").exists()  # it is gone since, or this is no Linux
    return state != "Z"


class TestLeaderboard:
    def test_everyone_is_graded_once(self, course: Suite) -> None:
        """The board is on standard output; the second time nothing is left to do."""
        first = course.llmgrind("grade", "submissions", "--jobs", "1")
        again = course.llmgrind("grade", "submissions")

        assert first.stdout.splitlines() == [
            "     entrant  rules  stages  01_sums  02_more",
            "  1  ada        4/4     4/4      2/2      2/2",
            "  2  bob        1/4     1/4      1/2        –",
            *UNWALLED,
        ]
        assert said(first) == [
            "ada, 01_sums: 2/2 rules",
            "ada, 02_more: 2/2 rules",
            "bob, 01_sums: 1/2 rules",
            "2 entrants, 2 challenges: 3 graded in N s, N a minute",
        ]
        assert again.stdout == first.stdout
        assert said(again) == [
            "2 entrants, 2 challenges: nothing was left to grade; --again grades all"
        ]
        assert (first.exit_code, again.exit_code) == (0, 0)

    def test_what_was_changed_is_graded_again(self, course: Suite) -> None:
        """And nothing else."""
        course.llmgrind("grade", "submissions", ID)
        course.write(f"submissions/bob/{ID}.py", REFERENCE)

        result = course.llmgrind("grade", "submissions", "1")

        assert said(result) == [
            "bob, 01_sums: 2/2 rules",
            "2 entrants, 1 challenge: 1 graded in N s, N a minute, 1 were done before",
        ]
        assert result.stdout.splitlines() == [
            "     entrant  rules  stages",
            "  1  ada        2/2     2/2",
            "  1  bob        2/2     2/2",
            *UNWALLED,
        ]

    def test_again_grades_all(self, course: Suite) -> None:
        """For who wants other timings."""
        course.llmgrind("grade", "submissions", ID)

        result = course.llmgrind("grade", "submissions", ID, "--again")

        assert said(result)[-1] == "2 entrants, 1 challenge: 2 graded in N s, N a minute"

    def test_as_json_and_as_markdown(self, course: Suite) -> None:
        """Standard output holds nothing else."""
        data = json.loads(course.llmgrind("grade", "submissions", ID, "--json").stdout)
        page = course.llmgrind("grade", "submissions", ID, "--markdown").stdout

        assert [(each["rank"], each["name"], each["rules"]) for each in data["entrants"]] == [
            (1, "ada", 2),
            (2, "bob", 1),
        ]
        assert (data["graded"], data["known"]) == (2, 0)
        assert "| 1 | ada | 2/2 | 2/2 |" in page.splitlines()

    def test_who_has_no_result_makes_exit_code_1(self, course: Suite) -> None:
        """It is tried again by the next run; the others are not."""
        dies = "from pytest_llmgrind import rule\n\n@rule('R1')\ndef test_it(solution):\n"
        broken = course.challenge("03_dies", stages={"one": f"{dies}    import os; os._exit(9)\n"})
        course.write("submissions/bob/03_dies.py", REFERENCE)

        first = course.llmgrind("grade", "submissions", "--jobs", "1")
        course.write(f"{broken.relative_to(course.path)}/hidden/1_one.py", f"{dies}    pass\n")
        then = course.llmgrind("grade", "submissions", "--jobs", "1")

        assert first.exit_code == 1
        assert "  bob, 03_dies: pytest ended with exit code 9" in first.stdout.splitlines()
        assert (then.exit_code, said(then)[0]) == (0, "bob, 03_dies: 1/2 rules")

    @pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=NO_RAY)
    def test_on_ray_it_is_the_same(self, course: Suite) -> None:
        """Without an address it starts a cluster of its own, and ends it."""
        ours = course.llmgrind("grade", "submissions")

        process = started(course, "--executor", "ray", "--jobs", "2", "--again")
        stdout, stderr = process.communicate(timeout=120)

        assert (stdout, process.returncode) == (ours.stdout, 0)
        assert sorted(stderr.splitlines()[:3]) == sorted(ours.stderr.splitlines()[:3])


class TestKilled:
    def test_a_kill_loses_what_was_running_and_no_more(self, slow: Suite) -> None:
        """No grader is left behind; the next run grades the rest, and nothing twice."""
        slow.write("hold", "2")
        process = started(slow, "--jobs", "2")
        assert until(lambda: len(results(slow)) == 2 and len(logged(slow, "begins")) == 4)

        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert until(lambda: not any(map(is_running, logged(slow, "begins"))))
        slow.write("hold", "")
        kept = {file: file.stat().st_mtime_ns for file in results(slow)}
        ended = len(logged(slow, "ends"))
        result = slow.llmgrind("grade", "submissions", "--jobs", "2")

        assert len(kept) == 2
        assert len(results(slow)) == 6
        assert kept == {file: file.stat().st_mtime_ns for file in kept}
        assert len(logged(slow, "ends")) - ended == 6 - len(kept)
        assert f"{6 - len(kept)} graded" in result.stderr
        assert result.stdout.count("1/2") == 6

    def test_ctrl_c_stops_and_says_how_to_go_on(self, slow: Suite) -> None:
        """Exit code 130, no traceback, no process left."""
        slow.write("hold", "1")
        process = started(slow, "--jobs", "1")
        assert until(lambda: len(results(slow)) == 1 and len(logged(slow, "begins")) == 2)

        os.kill(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)

        assert (stdout, process.returncode) == ("", 130)
        assert stderr.splitlines() == [
            "entrant0, 01_sums: 1/2 rules",
            "note  interrupted: 1 of 6 results are kept; the same command without --again goes on",
        ]
        assert not any(map(is_running, logged(slow, "begins")))

    def test_two_runs_do_not_grade_into_one_directory(self, slow: Suite) -> None:
        """The second says so, and the first goes on."""
        slow.write("hold", "0")
        process = started(slow, "--jobs", "2")
        assert until(lambda: len(logged(slow, "begins")) == 2)

        second = slow.llmgrind("grade", "submissions")
        slow.write("hold", "")
        process.communicate(timeout=60)

        where = slow.path / ".llmgrind/results/submissions"
        assert (second.exit_code, second.stdout) == (1, "")
        assert second.stderr == f"Error: {where}: another llmgrind grade writes there\n"
        assert (process.returncode, len(logged(slow, "begins"))) == (0, 6)


class TestBadInput:
    @pytest.mark.parametrize(
        ("args", "code", "text"),
        [
            ((), 2, "name a directory of submissions, as in `llmgrind grade submissions`"),
            (("nowhere",), 2, "there is no directory nowhere"),
            (("submissions", "9"), 2, "unknown challenge '9'; there are: 01_sums, 02_more"),
            (
                ("submissions", "--json", "--markdown"),
                2,
                "--json and --markdown: one of them",
            ),
            (
                ("submissions", "--results", "submissions/results"),
                2,
                "--results lies in SUBMISSIONS, where every directory is an entrant",
            ),
            (
                ("empty",),
                1,
                "nobody in empty has empty/<name>/<id>.py for 01_sums, 02_more",
            ),
            (
                ("submissions", "--results", "file"),
                1,
                "file cannot be used: File exists; give another directory with --results",
            ),
        ],
    )
    def test_one_line_says_what_is_wrong(
        self, course: Suite, args: tuple[str, ...], code: int, text: str
    ) -> None:
        """Where, and what to do; nothing is graded."""
        course.write("file", "x")
        (course.path / "empty").mkdir()

        result = course.llmgrind("grade", *args)

        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr == f"Error: {text}\n"

    def test_who_is_no_entrant_is_told(self, course: Suite) -> None:
        """Others are graded."""
        course.write("submissions/README", "x")

        result = course.llmgrind("grade", "submissions", "02_more")

        assert said(result) == [
            "note  README: left out: it is no directory",
            "note  bob: left out: has a solution of none of the challenges",
            "ada, 02_more: 2/2 rules",
            "1 entrant, 1 challenge: 1 graded in N s, N a minute",
        ]

    def test_a_broken_result_is_graded_again(self, course: Suite) -> None:
        """And said."""
        course.llmgrind("grade", "submissions", "02_more")
        (file,) = results(course)
        file.write_text("{")

        result = course.llmgrind("grade", "submissions", "02_more")

        assert said(result)[1].startswith("note  ada/02_more.json is no result (")
        assert said(result)[2] == "ada, 02_more: 2/2 rules"
        assert result.exit_code == 0

    def test_a_broken_challenge_holds_nobody_up(self, course: Suite) -> None:
        """Unless it is named."""
        manifest = course.path / "challenges/02_more/challenge.toml"
        manifest.write_text("x")

        result = course.llmgrind("grade", "submissions")
        named = course.llmgrind("grade", "submissions", "02_more")

        assert result.stderr.startswith(f"note  02_more is left out: {manifest}: not TOML: ")
        assert result.exit_code == 0
        assert named.stderr.startswith(f"Error: {manifest}: not TOML: ")
        assert named.exit_code == 1

    def test_without_the_extra_it_says_what_to_install(
        self, course: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No traceback."""
        missing: Any = lambda name: None  # noqa: E731
        monkeypatch.setattr(grade, "find_spec", missing)

        result = course.llmgrind("grade", "submissions")

        assert result.stderr == (
            "Error: grade needs msgspec: pip install 'pytest-llmgrind[graded]'\n"
        )
