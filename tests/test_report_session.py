"""When the leaderboard is shown and written: whatever else happens to a session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

HALF = """
def add(a, b):
    print("adding")
    return a - b

def total(xs):
    raise NotImplementedError("later")
"""
RAISES = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_terminal_summary():
    raise pytest.UsageError("Performance has regressed.")
"""
DIES = """
import os

def add(a, b):
    return a + b

def total(xs):
    os._exit(3)
"""
BUDGET = """
    [[budget]]
    name = "sum_of_a_list"
    stage = "lists"
    kind = "race"
    limit = 0.5
    what = "time of total over that of a loop"
    unit = "x"
"""
MEASURES = """
    import pytest
    from pytest_llmgrind.bench_bridge import EARLIER
    from pytest_llmgrind.budget import MEASURED

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item):
        yield
        if item.name == "test_sum_of_a_list":
            item.config.stash[EARLIER] = {item.nodeid: 0.45}
            item.stash[MEASURED] = {
                "name": "sum_of_a_list", "kind": "race", "limit": 0.5, "unit": "x", "what": "time",
                "figure": 0.43, "low": 0.42, "high": 0.44, "reference": 0.2, "baseline": 1.0,
                "verdict": "met", "laps": [],
            }
"""
NEWCOMER = [
    "================================= leaderboard ==================================",
    "01_sums  01_sums                                      challenges/01_sums/stub.py",
    "  1  pairs  pairs                                                      0/1  todo",
    "  2  lists  lists                                                      0/1  todo",
    "  ahead    nothing is written yet: 2 rules to keep",
    "next       llmgrind start 01_sums",
    "read       challenges/01_sums/spec.md",
]


def board(result: Any) -> list[str]:
    """The lines from the head of the leaderboard to pytest's last line, without that."""
    lines: list[str] = list(result.outlines)
    heads = [number for number, line in enumerate(lines) if " leaderboard " in line]
    assert len(heads) == 1, lines
    return [line for line in lines[heads[0] : -1] if line]


@pytest.fixture
def half(suite: Any) -> Any:
    """A challenge with a solution: stage 1 wrong, stage 2 not written."""
    suite.challenge()
    suite.solve(HALF)
    return suite


def test_a_newcomer_is_told_what_happened_and_what_to_do(suite: Any) -> None:
    """Exit code 1, a line for each stage, the command that starts, and nothing after it."""
    suite.challenge()

    result = suite.run("challenges/01_sums")

    assert result.ret == 1
    assert board(result) == NEWCOMER
    assert result.parseoutcomes() == {"todo": 2}


def test_a_begun_solution_is_sent_to_the_first_broken_rule(half: Any) -> None:
    """Rules, notes, standing, and where to read on."""
    assert board(half.run()) == [
        "================================= leaderboard ==================================",
        "01_sums  01_sums                                            solutions/01_sums.py",
        "  1  pairs  pairs                                                    0/1  failed",
        "  2  lists  lists                                                    0/1  todo",
        "  rules    0 of 2 kept, broken: R1, todo: R2",
        "  notes    printed in 1 test",
        "  standing 1 reference (2 rules) · 2 you (0 rules)",
        "next       stage 1, pairs: R1 failed",
        "read       challenges/01_sums/spec.md#adding",
    ]


def test_a_finished_solution_is_told_so_plainly(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All green: what passed, with the budget, its interval and the figure of an earlier run; and
    how the pass is rated, and when to solve it again."""
    monkeypatch.setenv("LLMGRIND_NOW", "2026-11-27T12:00Z")
    suite.challenge(more=BUDGET)
    suite.solve()
    suite.write("conftest.py", MEASURES)

    result = suite.run("challenges/01_sums")

    assert result.ret == 0
    assert board(result)[1:] == [
        "01_sums  01_sums                                            solutions/01_sums.py",
        "  1  pairs  pairs                                                        1/1  ok",
        "  2  lists  lists                                                        1/1  ok",
        "  rules    2 of 2 kept",
        "  budgets  1 of 1 met",
        "  budget         limit        yours  reference  baseline    was",
        "  sum of a list  0.50x  0.43x ±0.01      0.20x     1.00x  0.45x  ok",
        "  standing 1 reference (2 rules, 1/1 budget) · 2 you (2 rules, 1/1 budget) ·",
        "           baseline (0/1 budget)",
        "  passed   try 1, under a minute; rated easy, again on 2026-12-05",
        "done       all green: 2 tests passed, 2 of 2 rules kept, 1 of 1 budget met",
    ]


def test_a_file_that_is_not_python_is_the_first_thing_to_mend(suite: Any) -> None:
    """Every stage says that it cannot be graded; the next step is the line of the mistake."""
    suite.challenge()
    suite.solve("def add(a, b):\n    return a b\n")

    lines = board(suite.run())

    assert lines[2:4] == [
        "  1  pairs  pairs                                          0/1  cannot be graded",
        "  2  lists  lists                                          0/1  cannot be graded",
    ]
    assert lines[-2:] == [
        "next       01_sums.py:2: not Python: invalid syntax",
        "read       challenges/01_sums/spec.md",
    ]


def test_what_nobody_began_is_one_line(suite: Any) -> None:
    """A whole suite without a solution stays short, and passes."""
    suite.challenge("01_sums")
    suite.challenge("02_more")

    result = suite.run()

    assert result.ret == 0
    assert board(result) == [
        "================================= leaderboard ==================================",
        "not begun  01_sums, 02_more: llmgrind start 01_sums",
    ]


def test_quiet_is_shorter_and_very_quiet_is_silent(half: Any) -> None:
    """-q: a line and the next step, no head; -qq: nothing."""
    quiet, silent = half.run("-q").outlines, half.run("-qq").outlines

    assert quiet[-4:-1] == [
        "01_sums  0/2 stages · 0/2 rules",
        "next       stage 1, pairs: R1 failed",
        "read       challenges/01_sums/spec.md#adding",
    ]
    assert not any("leaderboard" in line for line in quiet)
    assert not any(line.startswith(("01_sums ", "next")) for line in silent)


def test_who_wants_no_summary_gets_none(half: Any) -> None:
    """--no-summary holds for the board as for pytest's own."""
    assert not any("next  " in line for line in half.run("--no-summary").outlines)


@pytest.mark.parametrize("args", [["--co"], ["--co", "-q"], ["-k", "nothing_has_this_name"]])
def test_nothing_is_shown_where_nothing_was_graded(half: Any, args: list[str]) -> None:
    """Collecting is not grading, and neither is deselecting everything."""
    result = half.run(*args)

    assert not any("leaderboard" in line or "next" in line for line in result.outlines)


def test_other_tests_have_no_leaderboard(suite: Any) -> None:
    """Where there is no challenge, nothing changes."""
    suite.write("test_other.py", "def test_other(): pass")

    result = suite.run()

    assert not any(" leaderboard " in line for line in result.outlines)


@pytest.mark.parametrize("args", [["-x"], ["--maxfail=1"]])
def test_stopping_early_leaves_a_board_of_what_ran(half: Any, args: list[str]) -> None:
    """What did not run is named, and counted in the totals."""
    assert board(half.run(*args))[2:5] == [
        "  1  pairs  pairs                                                   0/1  failed",
        "  2  lists  lists                                                   0/1  not run",
        "  rules    0 of 2 kept, broken: R1, not tested: R2",
    ]


def test_a_summary_that_raises_does_not_take_the_board_with_it(half: Any) -> None:
    """Another plugin's exception goes on its way after the board is shown and written."""
    half.write("conftest.py", RAISES)

    result = half.run("--leaderboard-json", "board.json")

    assert "next       stage 1, pairs: R1 failed" in result.outlines
    assert "Performance has regressed." in result.stderr.str() + result.stdout.str()
    assert json.loads((half.path / "board.json").read_text())["challenges"]


def test_benchmark_compare_fail_does_not_take_the_board_with_it(
    half: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-benchmark's own option raises out of the summary: here for want of an earlier run."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # it would not measure
    half.write("test_speed.py", "def test_speed(benchmark): benchmark(sum, [1])")
    options = ["--benchmark-compare-fail=mean:1%", "--benchmark-max-time=0.01"]

    result = half.run("challenges", "test_speed.py", *options, plugins=("timeout", "benchmark"))

    assert "requires valid --benchmark-compare" in result.stderr.str() + result.stdout.str()
    assert "next       stage 1, pairs: R1 failed" in result.outlines


def test_the_board_is_the_same_under_xdist(half: Any) -> None:
    """Reports of workers make the board that one process makes."""
    alone = half.run()
    shutil.rmtree(half.path / ".llmgrind")  # or the second run would be the second try
    spread = half.run("-n", "2")

    assert board(spread) == board(alone)


def test_a_worker_that_dies_leaves_a_board(suite: Any) -> None:
    """The test under which it died has failed, and whose code it was is still known."""
    suite.challenge(imports=("os",))
    suite.solve(DIES)

    lines = board(suite.run_process("-n", "1"))

    assert lines[1:5] == [
        "01_sums  01_sums                                            solutions/01_sums.py",
        "  1  pairs  pairs                                                    1/1  ok",
        "  2  lists  lists                                                    0/1  failed",
        "  rules    1 of 2 kept, broken: R2",
    ]


def test_an_interrupted_run_has_a_board(half: Any) -> None:
    """Ctrl-C in the middle shows what was graded until then."""
    half.write("test_after.py", "def test_after(): raise KeyboardInterrupt")

    result = half.run_process("challenges", "test_after.py", "--leaderboard-json", "board.json")

    assert "  2  lists  lists                                                    0/1  todo" in (
        result.outlines
    )
    assert json.loads((half.path / "board.json").read_text())["exit_code"] == 2


def test_a_session_that_is_ended_with_a_code_of_its_own_is_written(half: Any) -> None:
    """pytest has no summary then, so nothing is shown; the file is there."""
    half.write("test_after.py", "import pytest\ndef test_after(): pytest.exit('enough', 7)")

    result = half.run_process("challenges", "test_after.py", "--leaderboard-json", "board.json")

    written = json.loads((half.path / "board.json").read_text())
    assert (result.ret, written["exit_code"], len(written["challenges"])) == (7, 7, 1)


def test_errors_of_collection_elsewhere_have_no_effect(half: Any) -> None:
    """A broken test file beside the challenges takes nothing from their board."""
    half.write("test_broken.py", "import no_such_module_anywhere")

    stopped = half.run("challenges", "test_broken.py")
    going = half.run("challenges", "test_broken.py", "--continue-on-collection-errors")

    assert not any(" leaderboard " in line for line in stopped.outlines)
    assert board(going)[-2] == "next       stage 1, pairs: R1 failed"


def test_colour_follows_pytest(half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """--color=yes colours the board; off a terminal there are neither codes nor lines."""
    coloured, plain = half.run("--color=yes"), half.run()

    assert "\x1b[31mfailed" in coloured.stdout.str()
    assert "\x1b" not in plain.stdout.str()
    assert "─" not in plain.stdout.str()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_with_no_color_has_lines_and_no_codes(
    half: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR takes the colour and leaves the bars."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")

    shown = on_a_terminal([sys.executable, "-m", "pytest", "-p", "llmgrind", "challenges"])

    assert "  1  pairs  pairs                                        ──────────  0/1  failed" in (
        shown.replace("\r", "").split("\n")
    )
    assert "\x1b[3" not in shown


def on_a_terminal(command: list[str]) -> str:
    """What a command writes to a pseudo-terminal."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    process.wait()
    os.close(ours)
    return shown.decode()


# -- files ----------------------------------------------------------------------------------


def test_json_is_written_when_everything_failed(half: Any) -> None:
    """Directories on the way are made; the exit code of the session is in it."""
    half.run("--leaderboard-json", "out/deep/board.json")

    written = json.loads((half.path / "out/deep/board.json").read_text())
    (challenge,) = written["challenges"]
    assert written["exit_code"] == 1
    assert [stage["word"] for stage in challenge["stages"]] == ["failed", "todo"]
    assert challenge["rules"] == {
        "kept": [],
        "broken": ["R1"],
        "todo": ["R2"],
        "untested": [],
        "total": 2,
    }


def test_json_of_an_earlier_run_is_not_left_behind(half: Any) -> None:
    """A run that grades nothing writes an empty board; collecting alone writes none."""
    file = half.path / "board.json"
    half.run("--leaderboard-json", "board.json")

    half.run("--leaderboard-json", "board.json", "--co")
    kept = json.loads(file.read_text())["challenges"]
    half.run("--leaderboard-json", "board.json", "-k", "nothing_has_this_name")
    emptied = json.loads(file.read_text())["challenges"]

    assert len(kept) == 1
    assert emptied == []


@pytest.mark.parametrize("args", [["-qq"], ["--no-summary"], ["-p", "no:terminal"]])
def test_json_does_not_depend_on_what_is_shown(half: Any, args: list[str]) -> None:
    """Scripts get their file however quiet pytest is."""
    half.run_process("--leaderboard-json", "board.json", *args)

    assert json.loads((half.path / "board.json").read_text())["challenges"]


@pytest.mark.parametrize("target", ["pyproject.toml/board.json", "solutions"])
def test_json_that_cannot_be_written_is_one_line(half: Any, target: str) -> None:
    """The path and the reason; no traceback, and the verdict stays."""
    result = half.run("--leaderboard-json", target)

    (line,) = [line for line in result.outlines if "--leaderboard-json" in line]
    reason = {"solutions": "Is a directory"}.get(target, "File exists")
    assert line == f"--leaderboard-json: {half.path / target} cannot be written: {reason}"
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_markdown_is_appended_to_the_summary_of_a_ci_run(
    half: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other steps wrote stays; the board comes after it."""
    summary: Path = half.write("summary.md", "# Build\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    half.run()

    lines = summary.read_text("utf-8").split("\n")
    assert lines[:6] == [
        "# Build",
        "## Leaderboard",
        "",
        "### 01\\_sums · 01\\_sums",
        "",
        "| stage |  | tests |  |",
    ]
    assert "Next: stage 1, pairs: R1 failed (challenges/01\\_sums/spec.md\\#adding)" in lines


def test_a_summary_that_cannot_be_written_is_one_line(
    half: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is wrong does not end the session."""
    missing = half.path / "no_such_directory" / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(missing))

    result = half.run()

    line = f"GITHUB_STEP_SUMMARY: {missing} cannot be written: No such file or directory"
    assert line in result.outlines
    assert result.ret == 1
