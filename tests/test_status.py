"""llmgrind today and llmgrind list: what is due, in play, done, and what to begin next."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_llmgrind import clock, workspace
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import DEBUG, Hint, History, Run, file_of

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TITLES = {"01_mlp": "Perceptron", "02_attention": "Attention", "03_rope": "Rotation"}


@pytest.fixture
def suite(suite: Any, zone: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three challenges, the third of which needs the second. It is noon, in UTC."""
    at(monkeypatch, NOON)
    for id, title in TITLES.items():
        needs = '["02_attention"]' if id == "03_rope" else "[]"
        suite.challenge(id, top=f"minutes = 60\nneeds = {needs}")
        manifest = suite.path / f"challenges/{id}/challenge.toml"
        manifest.write_text(manifest.read_text().replace(f'title = "{id}"', f'title = "{title}"'))
    return suite


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setenv(clock.VARIABLE, clock.text(moment))


def lines(suite: Any, *args: str) -> list[str]:
    """What a verb prints to standard output, where it succeeds."""
    result = suite.llmgrind(*args)
    assert result.exit_code == 0, result.output
    return [str(line) for line in result.stdout.splitlines()]


def graded(at: datetime, **words: str) -> Run:
    return Run(at=at, seconds=1, version=1, stages=words, rules=1, of_rules=2, done=False)


def passed(history: History, id: str, at: datetime, due: datetime, rating: int = 3) -> None:
    attempt = history.begin(id, at - timedelta(minutes=40))
    history.add_run(attempt, graded(at - timedelta(minutes=20), pairs="ok", lists="todo"))
    history.add_run(attempt, graded(at, pairs="ok", lists="ok"))
    history.mark(attempt, "passed", at)
    history.set_card(id, {}, due=due, at=at, rating=rating)


class TestList:
    HEAD = "core          title       status       practised   passes    min  needs"

    def test_nothing_is_begun(self, suite: Any) -> None:
        """A fresh workspace: aligned, with the challenge's own minutes, and no history is made."""
        assert lines(suite, "list") == [
            "core          title       status     practised  passes  min  needs",
            "01_mlp        Perceptron  not begun  –               –   60",
            "02_attention  Attention   not begun  –               –   60",
            "03_rope       Rotation    not begun  –               –   60  02",
        ]
        assert not (suite.path / ".llmgrind").exists()

    def test_each_state_has_its_word(self, suite: Any) -> None:
        """Done, due and in play, with days, passes and minutes of the last attempt."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - 20 * DAY, NOON - DAY)
            passed(history, "02_attention", NOON - DAY, NOON + 9 * DAY)
            attempt = history.begin("03_rope", NOON - timedelta(minutes=12))
            history.add_run(attempt, graded(NOON, pairs="ok", lists="failed"))

        assert lines(suite, "list") == [
            self.HEAD,
            "01_mlp        Perceptron  due          2026-11-07       1  40/60",
            "02_attention  Attention   done         2026-11-26       1  40/60",
            "03_rope       Rotation    in play 1/2  2026-11-27       –  12/60  02",
        ]

    def test_debugging_and_giving_up(self, suite: Any) -> None:
        """A program to repair is debugging, and after a look at the reference it is given up."""
        with suite.history() as history:
            history.begin("01_mlp", NOON, kind=DEBUG, bugs=["x"])
            history.mark(history.begin("02_attention", NOON), "gave_up", NOON)

        assert words_of(suite) == {
            "01_mlp": "debugging",
            "02_attention": "given up",
            "03_rope": "not begun",
        }

    def test_a_repaired_program_is_no_pass(self, suite: Any) -> None:
        """Passes count solutions: whoever repaired one has not solved it yet."""
        with suite.history() as history:
            history.mark(history.begin("01_mlp", NOON, kind=DEBUG), "passed", NOON)

        [mlp, *_] = lines(suite, "list")[1:]
        assert mlp == "01_mlp        Perceptron  not begun  2026-11-27       –  0/60"

    def test_a_second_attempt_is_in_play_and_may_be_due(self, suite: Any) -> None:
        """After a pass and a new start it is in play again, its passes stay, and JSON says due."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - 20 * DAY, NOON - DAY)
            history.begin("01_mlp", NOON)

        [mlp, *_] = json.loads("\n".join(lines(suite, "list", "--json")))["challenges"]
        assert (mlp["state"], mlp["green"], mlp["passes"], mlp["is_due"]) == ("in play", 0, 1, True)
        assert words_of(suite)["01_mlp"] == "in play 0/2"

    def test_stages_that_a_run_left_out_keep_their_word(self, suite: Any) -> None:
        """After a run of one stage by -k, the others are as green as they were before."""
        with suite.history() as history:
            attempt = history.begin("01_mlp", NOON)
            history.add_run(attempt, graded(NOON, pairs="ok", lists="todo"))
            history.add_run(attempt, graded(NOON, pairs="not run", lists="failed"))

        assert words_of(suite)["01_mlp"] == "in play 1/2"

    def test_a_solution_without_a_history_is_in_play(self, suite: Any) -> None:
        """What was written before there was a history counts, a stub that was copied does not."""
        suite.solve(id="01_mlp")
        shutil.copy(suite.path / "challenges/02_attention/stub.py",
                    suite.path / "solutions/02_attention.py")  # fmt: skip
        suite.write("solutions/03_rope/__init__.py", "")

        assert words_of(suite) == {
            "01_mlp": "in play 0/2",
            "02_attention": "not begun",
            "03_rope": "in play 0/2",
        }

    def test_a_broken_solution_is_one_in_play(self, suite: Any) -> None:
        """A file that is not Python was begun by somebody."""
        suite.solve("def add(:\n", id="01_mlp")

        assert words_of(suite)["01_mlp"] == "in play 0/2"

    def test_the_day_is_local(self, suite: Any, zone: Callable[[str], None]) -> None:
        """An evening in UTC is the next day in Tokyo."""
        with suite.history() as history:
            history.begin("01_mlp", datetime(2026, 11, 26, 20, tzinfo=UTC))
        zone("Asia/Tokyo")

        assert "2026-11-27" in lines(suite, "list")[1]

    def test_a_track_has_a_table_of_its_own(self, suite: Any) -> None:
        """Tables are headed by their track and aligned with each other."""
        manifest = suite.path / "challenges/03_rope/challenge.toml"
        manifest.write_text(manifest.read_text().replace('"core"', '"serving"'))

        assert lines(suite, "list") == [
            "core          title       status     practised  passes  min  needs",
            "01_mlp        Perceptron  not begun  –               –   60",
            "02_attention  Attention   not begun  –               –   60",
            "",
            "serving       title       status     practised  passes  min  needs",
            "03_rope       Rotation    not begun  –               –   60  02",
        ]
        assert lines(suite, "list", "--track", "serving") == [
            "serving  title     status     practised  passes  min  needs",
            "03_rope  Rotation  not begun  –               –   60  02",
        ]

    def test_an_unknown_track_is_a_wrong_command_line(self, suite: Any) -> None:
        """The tracks that there are, are named."""
        result = suite.llmgrind("list", "--track", "cor")

        assert result.exit_code == 2
        assert result.output == "Error: unknown track 'cor'; there are: core\n"

    def test_eighty_columns_are_enough(self, suite: Any) -> None:
        """A long title is cut, and never a figure."""
        suite.challenge("12_speculative_decoding", top="minutes = 999")
        manifest = suite.path / "challenges/12_speculative_decoding/challenge.toml"
        title = "Speculative decoding with a draft model, and what it may never change: "
        text = manifest.read_text()
        manifest.write_text(text.replace('title = "12_s', f'title = "{title}'))

        found = lines(suite, "list")

        assert max(map(len, found)) <= 80
        assert found[-1] == (
            "12_speculative_decoding  Speculative …  not begun  –               –  999"
        )

    def test_one_broken_challenge_hides_no_other(self, suite: Any) -> None:
        """It is named on standard error, and the rest is listed."""
        manifest = suite.path / "challenges/02_attention/challenge.toml"
        manifest.write_text("title = 1")

        result = suite.llmgrind("list")

        assert result.exit_code == 0
        assert result.stderr == f"note  {manifest}: track: missing, wanted a text\n"
        assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["01_mlp", "03_rope"]

    def test_json_gives_every_key(self, suite: Any) -> None:
        """Times are UTC; what is not there is null."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - DAY, NOON + DAY)

        data = json.loads("\n".join(lines(suite, "list", "--json")))

        assert data["challenges"][0] == {
            "id": "01_mlp",
            "title": "Perceptron",
            "track": "core",
            "minutes": 60,
            "needs": [],
            "state": "done",
            "stages": 2,
            "green": 2,
            "next_stage": None,
            "tries": 2,
            "spent": 40.0,
            "passes": 1,
            "last_practised": "2026-11-26T12:00:00.000000Z",
            "rating": "good",
            "due": "2026-11-28T12:00:00.000000Z",
            "is_due": False,
        }
        assert data["challenges"][2]["needs"] == ["02_attention"]
        assert data["challenges"][2]["due"] is None

    def test_a_terminal_gets_colours_and_a_pipe_none(self, suite: Any) -> None:
        """NO_COLOR takes them away again."""
        with suite.history() as history:
            history.begin("01_mlp", NOON)

        assert "\x1b" not in suite.llmgrind("list").output
        assert "\x1b[33min play 0/2\x1b[0m" in on_a_terminal()
        assert "\x1b" not in on_a_terminal(NO_COLOR="1")

    def test_outside_of_a_workspace_it_lists_the_suite(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is installed is listed, without a history, and nothing is written."""
        nowhere = tmp_path / "nowhere"
        nowhere.mkdir()
        monkeypatch.chdir(nowhere)
        ids = workspace.suite().ids

        result = CliRunner().invoke(main, ["list", "--json"])

        assert [each["id"] for each in json.loads(result.stdout)["challenges"]] == list(ids)
        assert list(nowhere.iterdir()) == []


def on_a_terminal(**env: str) -> str:
    """The table as a terminal gets it."""
    terminal, theirs = pty.openpty()
    args = [sys.executable, "-m", "pytest_llmgrind.cli", "list"]
    env = {**os.environ, "TERM": "xterm", **env}
    subprocess.run(args, stdout=theirs, env=env, check=True)
    os.close(theirs)
    text = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    return text


def words_of(suite: Any) -> dict[str, str]:
    """The column status of each challenge."""
    found = {}
    for row in lines(suite, "list")[1:]:
        id, _, word, *_ = [cell.strip() for cell in row.split("  ") if cell.strip()]
        found[id] = word
    return found


class TestToday:
    def test_a_newcomer_is_sent_to_the_first_challenge(self, suite: Any) -> None:
        """Nothing is due; what to begin, and the command."""
        assert lines(suite, "today") == [
            "nothing is due",
            "begin 01_mlp: Perceptron, 2 stages, about 60 minutes",
            "next  llmgrind start 01_mlp",
        ]
        assert not (suite.path / ".llmgrind").exists()

    def test_what_is_due_comes_first(self, suite: Any) -> None:
        """The longest due first, with its last practice, rating and minutes; then the rest."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - 20 * DAY, NOON - DAY)
            passed(history, "02_attention", NOON - 30 * DAY, NOON - 3 * DAY, rating=2)
            attempt = history.begin("03_rope", NOON - timedelta(minutes=12))
            history.add_run(attempt, graded(NOON, pairs="ok", lists="failed"))

        assert lines(suite, "today") == [
            "due           since       practised   rated  min",
            "02_attention  2026-11-24  2026-10-28  hard    60",
            "01_mlp        2026-11-26  2026-11-07  good    60",
            "",
            "in play  green  next stage      tries    min",
            "03_rope  1/2    2 lists: lists      1  12/60",
            "",
            "next  llmgrind start 02_attention",
        ]

    def test_it_is_due_from_the_morning_on(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The local day counts, not the hour of the pass."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON, NOON + 3 * DAY)

        at(monkeypatch, datetime(2026, 11, 29, 23, 59, tzinfo=UTC))
        assert lines(suite, "today")[0] == "nothing is due; 01_mlp will be on 2026-11-30"
        at(monkeypatch, datetime(2026, 11, 30, 0, 0, tzinfo=UTC))
        assert lines(suite, "today")[-1] == "next  llmgrind start 01_mlp"

    def test_needs_come_first(self, suite: Any) -> None:
        """What needs a challenge that was not passed is not proposed, and is once it was."""
        with suite.history() as history:
            history.begin("01_mlp", NOON)
            history.begin("02_attention", NOON)
        assert lines(suite, "today")[-2:] == [
            "nothing is due",
            "next  pytest challenges/01_mlp",
        ]

        with suite.history() as history:
            passed(history, "02_attention", NOON, NOON + 3 * DAY)
        assert lines(suite, "today")[-3:] == [
            "nothing is due; 02_attention will be on 2026-11-30",
            "begin 03_rope: Rotation, 2 stages, about 60 minutes",
            "next  pytest challenges/01_mlp",
        ]

    def test_what_was_given_up_comes_last(self, suite: Any) -> None:
        """It is proposed again when nothing else is left."""
        with suite.history() as history:
            history.mark(history.begin("01_mlp", NOON), "gave_up", NOON)
            passed(history, "02_attention", NOON, NOON + 3 * DAY)
            passed(history, "03_rope", NOON, NOON + 3 * DAY)

        assert lines(suite, "today")[-1] == "next  llmgrind start 01_mlp"

    def test_everything_is_done(self, suite: Any) -> None:
        """There is nothing to do today, and that is said."""
        with suite.history() as history:
            for number, id in enumerate(TITLES, start=3):
                passed(history, id, NOON, NOON + number * DAY)

        assert lines(suite, "today") == [
            "nothing is due; 01_mlp will be on 2026-11-30",
            "every challenge is done",
        ]

    def test_a_due_challenge_in_play_is_gone_on_with(self, suite: Any) -> None:
        """After the new start the next command grades, and starts nothing over."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - 20 * DAY, NOON - DAY)
            history.begin("01_mlp", NOON)

        assert lines(suite, "today")[-1] == "next  pytest challenges/01_mlp"

    def test_debugging_is_in_play_too(self, suite: Any) -> None:
        """A program to repair says debug where stages are counted."""
        with suite.history() as history:
            attempt = history.begin("01_mlp", NOON, kind=DEBUG, bugs=["x"])
            history.add_hint(attempt, Hint(at=NOON, stage="pairs", step=1))

        assert lines(suite, "today")[:2] == [
            "in play  green  next stage      tries   min",
            "01_mlp   debug  1 pairs: pairs      0  0/60",
        ]

    def test_a_challenge_that_is_gone_is_not_due(self, suite: Any) -> None:
        """Cards of removed challenges are passed over."""
        with suite.history() as history:
            history.set_card("99_gone", {}, due=NOON - DAY, at=NOON, rating=3)

        assert lines(suite, "today")[0] == "nothing is due"

    def test_json_holds_the_plan(self, suite: Any) -> None:
        """Due, in play, what to begin, what will be due, and the command."""
        with suite.history() as history:
            passed(history, "01_mlp", NOON - 20 * DAY, NOON - DAY)
            passed(history, "02_attention", NOON, NOON + 3 * DAY)
            history.begin("03_rope", NOON)

        data = json.loads("\n".join(lines(suite, "today", "--json")))

        assert [each["id"] for each in data["due"]] == ["01_mlp"]
        assert [each["id"] for each in data["in_play"]] == ["03_rope"]
        assert data["begin"] is None
        assert data["next_due"]["id"] == "02_attention"
        assert data["next"] == "llmgrind start 01_mlp"

    def test_paths_are_those_from_here(self, suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Below the workspace, the next command can be typed as it stands."""
        with suite.history() as history:
            history.begin("01_mlp", NOON)
        monkeypatch.chdir(suite.path / "challenges")

        assert lines(suite, "today")[-1] == "next  pytest 01_mlp"

    def test_without_a_workspace_there_is_no_practice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line says how to lay one out."""
        monkeypatch.chdir(tmp_path)

        result = CliRunner().invoke(main, ["today"])

        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: no challenges/ in {tmp_path} or above; `llmgrind init DIR` lays out a"
            " workspace\n"
        )


@pytest.mark.parametrize("verb", ["today", "list"])
class TestTrouble:
    def test_a_history_that_cannot_be_used_is_one_line(self, suite: Any, verb: str) -> None:
        """A directory in its place: exit code 1, and no table that would say too little."""
        file_of(suite.path).mkdir(parents=True)

        result = suite.llmgrind(verb)

        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith(f"Error: {file_of(suite.path)}: cannot be used: ")
        assert result.stderr.count("\n") == 1

    def test_a_damaged_history_is_said_and_set_aside(self, suite: Any, verb: str) -> None:
        """The verb goes on with what is left."""
        suite.write(".llmgrind/history.db", "no database" * 100)

        result = suite.llmgrind(verb)

        assert result.exit_code == 0
        assert result.stderr == (
            f"note  {file_of(suite.path)}: damaged, set aside as"
            " history-damaged-20261127T120000.000Z.db; there was no backup yet: the history"
            " begins anew\n"
        )

    def test_a_terminal_that_writes_hinders_no_other_that_reads(
        self, suite: Any, verb: str
    ) -> None:
        """In the middle of the other's transaction it shows what was there before."""
        with suite.history() as history, history.writing():
            history.begin("01_mlp", NOON)
            found = suite.llmgrind(verb)

        assert found.exit_code == 0
        assert "in play" not in found.stdout

    def test_a_clock_that_is_no_clock_is_one_line(
        self, suite: Any, verb: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What LLMGRIND_NOW has to be is said."""
        monkeypatch.setenv(clock.VARIABLE, "noon")

        result = suite.llmgrind(verb)

        assert result.exit_code == 1
        assert result.output == (
            "Error: LLMGRIND_NOW: wanted a moment like 2026-11-27T09:00Z, got 'noon'\n"
        )
