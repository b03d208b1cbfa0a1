"""llmgrind hint and reveal: one step at a time, counted, and the answer only at the end."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ID, REFERENCE, STUB, Suite

from pytest_llmgrind.cli import main
from pytest_llmgrind.history import DEBUG, Attempt, Run

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
TWICE = """
    [[bug]]
    name = "twice"
    rule = "R1"
    misconception = "the second argument was added twice"
    find = "a + b"
    replace = "a + 2 * b"
"""


@pytest.fixture(autouse=True)
def _still(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGRIND_NOW", NOW.isoformat())
    suite.challenge(bugs=TWICE)


def ran(suite: Suite, **stages: str) -> None:
    """A recorded run in which the stages had these words."""
    with suite.history() as history:
        attempt = history.current(ID) or history.begin(ID, NOW)
        run = Run(at=NOW, seconds=1, version=1, stages=stages, rules=0, of_rules=2, done=False)
        history.add_run(attempt, run)


def current(suite: Suite) -> Attempt:
    with suite.history() as history:
        attempt = history.current(ID)
        assert attempt is not None
        return attempt


class TestHint:
    def test_the_steps_come_one_by_one(self, suite: Suite) -> None:
        """Each call gives the next; after the last it says so and repeats none."""
        given = [suite.llmgrind("hint", ID) for _ in range(4)]

        assert [result.exit_code for result in given] == [0, 0, 0, 1]
        assert [result.output.splitlines() for result in given] == [
            ["stage 1, pairs: pairs", "hint 1 of 3  a"],
            ["stage 1, pairs: pairs", "hint 2 of 3  b"],
            ["stage 1, pairs: pairs", "hint 3 of 3  c"],
            ["Error: stage 1, pairs: all 3 hints were given; --again repeats them"],
        ]
        assert [(hint.stage, hint.step) for hint in current(suite).hints] == [
            ("pairs", 1),
            ("pairs", 2),
            ("pairs", 3),
        ]

    def test_again_repeats_and_counts_nothing(self, suite: Suite) -> None:
        """What was given can be read once more."""
        suite.llmgrind("hint", ID)
        suite.llmgrind("hint", ID)

        lines = suite.llmgrind("hint", ID, "--again").output.splitlines()

        assert lines == ["stage 1, pairs: pairs", "hint 1 of 3  a", "hint 2 of 3  b"]
        assert len(current(suite).hints) == 2

    def test_there_is_nothing_to_repeat_before_the_first(self, suite: Suite) -> None:
        """--again gives no new hint."""
        result = suite.llmgrind("hint", ID, "--again")

        assert result.exit_code == 1
        assert result.output == (
            "Error: no hint of stage 1, pairs was given yet; leave --again out\n"
        )

    def test_as_json(self, suite: Suite) -> None:
        """--json has the stage, and each hint with its number."""
        data = json.loads(suite.llmgrind("hint", ID, "--json").stdout)

        assert data == {
            "challenge": ID,
            "stage": "pairs",
            "number": 1,
            "title": "pairs",
            "hints": [{"step": 1, "text": "a"}],
            "of_hints": 3,
        }

    def test_a_new_attempt_has_its_hints_before_it(self, suite: Suite) -> None:
        """After a reset the first hint comes first again."""
        suite.llmgrind("hint", ID)
        suite.llmgrind("reset", ID)

        assert suite.llmgrind("hint", ID).output.splitlines()[1] == "hint 1 of 3  a"

    def test_a_start_after_a_hint_goes_on_with_its_attempt(self, suite: Suite) -> None:
        """A hint that was read before the stub was copied counts."""
        suite.llmgrind("hint", ID)
        suite.llmgrind("start", ID)

        assert len(current(suite).hints) == 1

    def test_the_board_counts_them(self, suite: Suite) -> None:
        """A run shows how many hints were taken, of all that there are."""
        suite.llmgrind("hint", ID)
        suite.solve(REFERENCE.replace("a + b", "a - b"))

        lines = suite.run("challenges").outlines

        assert "  attempt  try 1, under a minute, 1 of 6 hints" in lines


class TestStage:
    @pytest.mark.parametrize("name", ["lists", "2"])
    def test_a_stage_can_be_named(self, suite: Suite, name: str) -> None:
        """By its name or its number."""
        lines = suite.llmgrind("hint", ID, "--stage", name).output.splitlines()

        assert lines == ["stage 2, lists: lists", "hint 1 of 3  a"]

    def test_an_unknown_stage_is_a_wrong_command_line(self, suite: Suite) -> None:
        """The stages that there are are named."""
        result = suite.llmgrind("hint", ID, "--stage", "list")

        assert result.exit_code == 2
        assert result.output == (
            "Error: --stage: 01_sums has no stage 'list'; it has pairs, lists\n"
        )

    def test_before_any_run_the_first_todo_says_where_you_are(self, suite: Suite) -> None:
        """What is written already is not where help is wanted."""
        suite.solve(STUB.replace('raise NotImplementedError("01_sums, stage 1")', "return a + b"))

        assert suite.llmgrind("hint", ID).output.startswith("stage 2, lists: ")

    @pytest.mark.parametrize("text", ["def add(:\n", REFERENCE])
    def test_without_a_todo_it_is_the_first(self, suite: Suite, text: str) -> None:
        """A file that is complete, or no Python, has not been run: the first stage."""
        suite.solve(text)

        assert suite.llmgrind("hint", ID).output.startswith("stage 1, pairs: ")

    def test_a_package_has_todos_too(self, suite: Suite) -> None:
        """All files of a package are looked at."""
        suite.write("solutions/01_sums/__init__.py", "from .more import total\n")
        suite.write(
            "solutions/01_sums/more.py",
            'def total(xs):\n    raise NotImplementedError("01_sums, stage 2")\n',
        )

        assert suite.llmgrind("hint", ID).output.startswith("stage 2, lists: ")

    def test_the_last_run_says_where_you_are(self, suite: Suite) -> None:
        """The first stage that was not ok."""
        ran(suite, pairs="failed", lists="failed")
        ran(suite, pairs="ok", lists="failed")

        assert suite.llmgrind("hint", ID).output.startswith("stage 2, lists: ")

    def test_what_a_run_left_out_is_known_from_the_one_before(self, suite: Suite) -> None:
        """-k lists does not take you back to stage 1."""
        ran(suite, pairs="ok", lists="failed")
        ran(suite, pairs="not run", lists="failed")

        assert suite.llmgrind("hint", ID).output.startswith("stage 2, lists: ")

    def test_what_cannot_run_here_is_not_where_you_are(self, suite: Suite) -> None:
        """A stage that was skipped for its hardware is passed over."""
        ran(suite, pairs="skipped", lists="todo")

        assert suite.llmgrind("hint", ID).output.startswith("stage 2, lists: ")

    def test_where_all_is_ok_a_stage_has_to_be_named(self, suite: Suite) -> None:
        """There is nothing to help with: exit code 1."""
        ran(suite, pairs="ok", lists="ok")

        result = suite.llmgrind("hint", ID)

        assert result.exit_code == 1
        assert result.output == (
            "Error: every stage was ok in your last run; --stage NAME takes one of pairs, lists\n"
        )


class TestReveal:
    def test_before_a_pass_it_says_what_to_do(self, suite: Suite) -> None:
        """Exit code 1, and not a line of the reference."""
        suite.llmgrind("start", ID)

        result = suite.llmgrind("reveal", ID)

        assert result.exit_code == 1
        assert result.output == (
            "Error: 01_sums has not passed yet; `llmgrind hint 01_sums` helps, "
            "`llmgrind reveal 01_sums --give-up` shows the reference and marks the attempt\n"
        )

    def test_after_a_pass_it_is_the_file(self, suite: Suite) -> None:
        """Into a pipe, byte for byte, and nothing else."""
        suite.passed()

        result = suite.llmgrind("reveal", ID)

        assert result.exit_code == 0
        assert result.stdout_bytes == (suite.path / "reference/01_sums.py").read_bytes()
        assert result.stderr == ""
        assert current(suite).gave_up is None

    def test_a_new_attempt_hides_it_again(self, suite: Suite) -> None:
        """A pass of long ago does not spoil the repetition."""
        suite.passed()
        suite.llmgrind("start", ID)

        assert suite.llmgrind("reveal", ID).exit_code == 1

    def test_between_attempts_a_pass_of_before_counts(self, suite: Suite) -> None:
        """After a reset there is nothing to spoil."""
        suite.passed()
        suite.llmgrind("reset", ID)

        assert suite.llmgrind("reveal", ID).exit_code == 0

    def test_giving_up_marks_the_attempt(self, suite: Suite) -> None:
        """It is said once; from then on the reference can be read again."""
        suite.llmgrind("start", ID)

        assert suite.llmgrind("reveal", ID, "--give-up").exit_code == 0
        assert current(suite).gave_up == NOW
        assert suite.llmgrind("reveal", ID).exit_code == 0

    def test_giving_up_before_a_start_counts_too(self, suite: Suite) -> None:
        """The attempt that follows is the one that was given up."""
        suite.llmgrind("reveal", ID, "--give-up")
        suite.llmgrind("start", ID)

        assert current(suite).gave_up == NOW

    def test_a_pass_after_it_is_rated_again(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The board says what it was."""
        suite.llmgrind("reveal", ID, "--give-up")
        suite.solve()
        monkeypatch.setenv("LLMGRIND_NOW", (NOW + timedelta(minutes=5)).isoformat())

        lines = suite.run("challenges").outlines

        [passed] = [line for line in lines if line.startswith("  passed")]
        assert passed.startswith("  passed   try 1, 5 min, given up; rated again, again on 2026-")

    def test_of_a_program_to_repair_it_names_the_bugs(self, suite: Suite) -> None:
        """Who gives up debugging learns what was planted."""
        suite.solve()
        with suite.history() as history:
            history.begin(ID, NOW, kind=DEBUG, bugs=["twice", "removed_since"])

        result = suite.llmgrind("reveal", ID, "--give-up")

        assert result.stderr.splitlines() == [
            "planted  the second argument was added twice",
            "planted  removed_since",
        ]

    @pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
    def test_a_terminal_gets_colour(
        self, suite: Suite, setting: dict[str, str], coloured: bool
    ) -> None:
        """Python is highlighted where there is a terminal and no NO_COLOR; no line is cut."""
        suite.passed()
        suite.write("reference/01_sums.py", f"def add(a, b):  # {'long ' * 20}\n    return a + b\n")
        terminal, theirs = pty.openpty()
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "reveal", ID]
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {
            "TERM": "xterm",
            "COLUMNS": "40",
        }

        subprocess.run(args, stdout=theirs, cwd=suite.path, env=env | setting, check=True)

        os.close(theirs)
        said = os.read(terminal, 1 << 16).decode()
        os.close(terminal)
        assert "long " * 20 in said
        assert bool(re.search(r"\x1b\[9[1-7]", said)) == coloured

    def test_a_reference_that_is_missing_is_one_line(self, suite: Suite) -> None:
        """The file is named."""
        suite.passed()
        (suite.path / "reference/01_sums.py").unlink()

        result = suite.llmgrind("reveal", ID)

        assert result.exit_code == 1
        assert result.output == "Error: reference/01_sums.py: No such file or directory\n"


@pytest.mark.parametrize("verb", ["hint", "reveal"])
class TestBoth:
    def test_a_history_that_cannot_be_used_is_one_line(self, suite: Suite, verb: str) -> None:
        """Help is counted, or not given."""
        suite.write(".llmgrind", "")

        result = suite.llmgrind(verb, ID)

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {suite.path}/.llmgrind/history.db: cannot be")
        assert result.output.count("\n") == 1

    def test_outside_of_a_workspace_nothing_is_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        """An installed suite is nobody's workspace: exit code 2."""
        outside = tmp_path / "outside"
        outside.mkdir()
        monkeypatch.chdir(outside)

        result = CliRunner().invoke(main, [verb, "01_mlp"])

        assert result.exit_code == 2
        assert result.output == (
            f"Error: no challenges/ in {outside} or above; "
            "`llmgrind init DIR` lays out a workspace\n"
        )
