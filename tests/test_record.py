"""What a graded run leaves in the history, what it does not, and what the board says of it."""

from __future__ import annotations

import json
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import clock
from pytest_llmgrind.advice import Step
from pytest_llmgrind.board import Board, ChallengeBoard, Rules, StageRow
from pytest_llmgrind.history import DEBUG, Attempt, Hint, Run, file_of, open_history
from pytest_llmgrind.record import record

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
ID = "01_sums"
HALF = """
def add(a, b):
    return a + b

def total(xs):
    raise NotImplementedError("later")
"""
TIMED = {
    "pairs": """
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_sum_of_a_pair(solution):
            check.equal(solution.add(1, 2), 3, what="sum", given="1, 2")

        def same(seen, xs):
            check.equal(seen, sum(xs), what="total", given="400 ones")

        @rule("R2")
        def test_sum_beats_a_loop(race):
            race(lambda impl, x: impl.total(x), inputs=lambda rng: ([1] * 400,), verify=same)
    """
}
BUDGET = """
    [[budget]]
    name = "sum_beats_a_loop"
    stage = "pairs"
    kind = "race"
    limit = 1e6
    what = "time of total over that of a loop"
    unit = "x"
"""


@pytest.fixture
def suite(suite: Any, zone: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """It is noon, in UTC."""
    at(monkeypatch, NOON)
    return suite


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setenv(clock.VARIABLE, clock.text(moment))


def attempts(suite: Any) -> list[Attempt]:
    with open_history(suite.path, make=False) as history:
        assert history.remarks == []
        return history.attempts()


def labelled(result: Any, *labels: str) -> list[str]:
    """The lines of the board that begin with one of the labels."""
    return [line.strip() for line in result.outlines if line.strip().startswith(labels)]


class TestWhatIsRecorded:
    def test_a_run_is(self, suite: Any) -> None:
        """The first graded run begins an attempt, with a word for each stage."""
        suite.challenge(top="version = 3")
        suite.solve(HALF)

        suite.run()

        [attempt] = attempts(suite)
        [run] = attempt.runs
        assert (attempt.challenge, attempt.kind, attempt.is_open) == (ID, "solve", True)
        assert attempt.started == NOON - timedelta(seconds=run.seconds)
        assert (run.at, run.version, run.done) == (NOON, 3, False)
        assert run.stages == {"pairs": "ok", "lists": "todo"}
        assert (run.rules, run.of_rules) == (1, 2)

    def test_a_pass_ends_the_attempt_and_is_rated(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The run that passes says how it went and when to come back; the next one does not."""
        suite.challenge()
        suite.solve(HALF)
        suite.run()
        suite.solve()
        at(monkeypatch, NOON + timedelta(minutes=12))

        passing = suite.run()
        at(monkeypatch, NOON + timedelta(minutes=20))
        again = suite.run()

        assert labelled(passing, "passed", "attempt") == [
            "passed   try 2, 12 min; rated easy, again on 2026-12-05"
        ]
        assert labelled(again, "passed", "attempt") == ["attempt  try 2, 12 min"]
        [attempt] = attempts(suite)
        assert attempt.passed == NOON + timedelta(minutes=12)
        assert [run.done for run in attempt.runs] == [False, True, True]
        with open_history(suite.path) as history:
            reviews = history.db.execute("SELECT count(*) FROM review").fetchone()[0]
        assert reviews == 1

    def test_stages_may_pass_one_by_one_and_that_is_no_pass(self, suite: Any) -> None:
        """-k leaves stages out: however green the rest, the challenge was not passed."""
        suite.challenge()
        suite.solve()

        suite.run("-k", "pair")

        [attempt] = attempts(suite)
        assert attempt.runs[0].stages == {"pairs": "ok", "lists": "not run"}
        assert attempt.passed is None

    def test_timing_that_is_left_out_is_no_pass(self, suite: Any) -> None:
        """--benchmark-disable measures no budget, so that run passes nothing; the next one does."""
        suite.challenge(stages=TIMED, more=BUDGET, baseline=BASELINE)
        suite.solve()
        plugins = ("timeout", "benchmark")

        suite.run("--benchmark-disable", plugins=plugins)
        [before] = attempts(suite)
        suite.run(plugins=plugins)
        [after] = attempts(suite)

        assert (before.passed, [run.done for run in before.runs]) == (None, [False])
        assert (after.passed, [run.done for run in after.runs]) == (NOON, [False, True])

    def test_workers_write_one_run(self, suite: Any) -> None:
        """Under -n 2 the controller records, once."""
        suite.challenge()
        suite.solve()

        result = suite.run_process("-n", "2")

        assert result.ret == 0
        [attempt] = attempts(suite)
        assert len(attempt.runs) == 1
        assert attempt.passed == NOON

    def test_repaired_bugs_are_named(self, suite: Any) -> None:
        """A debugging attempt says how many were planted, and on its pass which they were."""
        bugs = """
            [[bug]]
            name = "minus"
            rule = "R1"
            misconception = "add takes away"
            find = "a + b"
            replace = "a - b"
        """
        suite.challenge(bugs=bugs)
        with open_history(suite.path) as history:
            history.begin(ID, NOON, kind=DEBUG, bugs=["minus"])
        suite.solve(HALF)

        before = suite.run()
        suite.solve()
        after = suite.run()

        labels = ("debug ", "planted", "passed")
        assert labelled(before, *labels) == ["debug    try 1, under a minute; planted: 1 bug"]
        assert labelled(after, *labels) == [
            "debug    repaired: try 2, under a minute; planted were 1 bug",
            "planted  add takes away",
        ]
        with open_history(suite.path) as history:
            assert history.cards() == {}

    def test_hints_are_counted(self, suite: Any) -> None:
        """The board says how many of a challenge's hints were taken."""
        suite.challenge()
        suite.solve(HALF)
        with open_history(suite.path) as history:
            attempt = history.begin(ID, NOON)
            for step in (1, 2):
                history.add_hint(attempt, Hint(at=NOON, stage="lists", step=step))

        result = suite.run()

        assert labelled(result, "attempt") == ["attempt  try 1, under a minute, 2 of 6 hints"]


BASELINE = """
def add(a, b):
    return a + b

def total(xs):
    result = 0
    for x in xs:
        result += x
    return result
"""


class TestWhatIsNot:
    def test_a_stub_that_nobody_began_leaves_no_file(self, suite: Any) -> None:
        """To look at the failures of a challenge is not to begin it."""
        suite.challenge()

        suite.run()
        suite.run(f"challenges/{ID}")

        assert not (suite.path / ".llmgrind").exists()

    def test_somebody_else_s_solution_is_no_practice(self, suite: Any) -> None:
        """--solutions submissions/ada grades ada, and records nothing of yours."""
        suite.challenge()
        suite.write(f"submissions/ada/{ID}.py", HALF)

        result = suite.run("--solutions", "submissions/ada")

        assert labelled(result, "attempt", "passed") == []
        assert not (suite.path / ".llmgrind").exists()

    def test_entrants_leave_no_run(self, suite: Any) -> None:
        """--entrants grades others beside you: the run is yours, once."""
        suite.challenge()
        suite.solve(HALF)
        suite.write(f"submissions/ada/{ID}.py", HALF)
        suite.write(f"submissions/bob/{ID}.py", HALF)

        result = suite.run_process("--entrants", "submissions")

        assert any("ada" in line for line in result.outlines)
        [attempt] = attempts(suite)
        assert len(attempt.runs) == 1

    def test_a_dry_run_is_none(self, suite: Any) -> None:
        """--collect-only grades nothing."""
        suite.challenge()
        suite.solve()

        suite.run("--collect-only")

        assert not (suite.path / ".llmgrind").exists()

    def test_ini_setting_names_what_is_yours(self, suite: Any) -> None:
        """llmgrind_solutions moves your own solutions, and with them what is recorded."""
        suite.write("pyproject.toml", '[tool.pytest.ini_options]\nllmgrind_solutions = "mine"\n')
        suite.challenge()
        suite.write(f"mine/{ID}.py", HALF)

        suite.run()

        assert len(attempts(suite)) == 1


class TestTrouble:
    def test_a_place_that_cannot_be_written_costs_a_remark(self, suite: Any) -> None:
        """The verdict and the exit code are those of any run; one line says why."""
        suite.challenge()
        suite.solve()
        suite.write(".llmgrind", "")

        result = suite.run()

        assert result.ret == 0
        assert result.parseoutcomes() == {"passed": 2}
        notes = labelled(result, "note")
        assert len(notes) == 1
        assert notes[0].startswith("note       ")
        told = " ".join(result.outlines)
        assert "cannot be used" in told
        assert "nothing is recorded" in told

    def test_a_lock_that_is_not_let_go_costs_a_remark(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who holds the file for longer than a run waits loses this run, and no verdict."""
        monkeypatch.setattr("pytest_llmgrind.history.file.WAIT_S", 0.0)
        suite.challenge()
        suite.solve()
        with open_history(suite.path) as other, other.writing():
            result = suite.run()

        assert result.ret == 0
        told = " ".join(line.strip() for line in result.outlines)
        assert "database is locked" in told

    def test_a_damaged_history_is_said_on_the_board(self, suite: Any) -> None:
        """The run is recorded in a new one."""
        suite.challenge()
        suite.solve(HALF)
        suite.write(".llmgrind/history.db", "no database" * 100)

        result = suite.run("--leaderboard-json", "board.json")

        board = json.loads((suite.path / "board.json").read_text())
        name = "history-damaged-20261127T120000.000Z.db"
        assert board["remarks"] == [
            f"{file_of(suite.path)}: damaged, set aside as {name}; there was no backup yet: the"
            " history begins anew"
        ]
        assert result.ret == 1
        assert len(attempts(suite)) == 1

    def test_a_clock_that_is_no_clock_costs_a_remark(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """LLMGRIND_NOW=tomorrow records nothing, and the verdict stands."""
        suite.challenge()
        suite.solve()
        monkeypatch.setenv(clock.VARIABLE, "tomorrow")

        result = suite.run()

        assert result.ret == 0
        assert labelled(result, "note") == [
            "note       LLMGRIND_NOW: wanted a moment like 2026-11-27T09:00Z, got 'tomorrow'"[:80]
        ]
        monkeypatch.delenv(clock.VARIABLE)
        assert attempts(suite) == []


class TestDue:
    def test_what_is_due_is_the_last_line(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the morning of its day on, also where the moment is in the evening."""
        suite.challenge()
        suite.solve()
        suite.run()  # due on the 5th at noon

        at(monkeypatch, datetime(2026, 12, 4, 23, 59, tzinfo=UTC))
        before = suite.run()
        at(monkeypatch, datetime(2026, 12, 5, 0, 0, tzinfo=UTC))
        after = suite.run()

        assert labelled(before, "due") == []
        assert labelled(after, "due") == ["due        01_sums: llmgrind today"]

    def test_it_is_said_where_nothing_is_in_play(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a month away, with the solution put aside, pytest says what to come back to."""
        suite.challenge()
        file = suite.solve()
        suite.run()
        file.unlink()
        at(monkeypatch, NOON + timedelta(days=30))

        result = suite.run()

        assert labelled(result, "due") == ["due        01_sums: llmgrind today"]

    def test_a_challenge_that_is_gone_is_not_due(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody can solve what was removed or renamed."""
        suite.challenge()
        suite.solve(HALF)
        with open_history(suite.path) as history:
            history.set_card("99_gone", {}, due=NOON, at=NOON, rating=3)

        assert labelled(suite.run(), "due") == []


class TestInterview:
    """Forty minutes for two stages; what a run says as time goes on."""

    @pytest.mark.parametrize(
        ("minutes", "line"),
        [
            (0, "timed    40 min left of 40 min; 1 of 2 stages in 0% of the time: on pace"),
            (20, "timed    20 min left of 40 min; 1 of 2 stages in 50% of the time: on pace"),
            (21, "timed    19 min left of 40 min; 1 of 2 stages in 52% of the time: behind"),
            (39.9, "timed    under a minute left of 40 min; 1 of 2 stages in 100% of the time:"),
            (40, "timed    time is up (40 min): 1 of 2 stages"),
            (400, "timed    time is up (40 min): 1 of 2 stages"),
        ],
    )
    def test_pace(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch, minutes: float, line: str
    ) -> None:
        """On pace is a share of green stages that is no less than the share of the time."""
        suite.challenge()
        suite.solve(HALF)
        with open_history(suite.path) as history:
            history.begin(ID, NOON, minutes=40)
        at(monkeypatch, NOON + timedelta(minutes=minutes))

        assert labelled(suite.run(), "timed") == [line]


def test_recording_costs_little(tmp_path: Path) -> None:
    """A run takes a few milliseconds of CPU time to record, also after a thousand others."""
    root = tmp_path / "challenges" / ID
    (root / "hidden").mkdir(parents=True)
    (root / "hidden/1_pairs.py").write_text("")
    (root / "challenge.toml").write_text(
        'title = "Sums"\ntrack = "core"\nsummary = "Add."\n[solution]\n'
        '[[stage]]\nname = "pairs"\nfile = "hidden/1_pairs.py"\ntitle = "Add"\n'
    )
    with open_history(tmp_path) as history, history.writing():
        for id in (ID, *(f"{number:02d}_other" for number in range(2, 50))):
            attempt = history.begin(id, NOON)
            for _ in range(20):
                history.add_run(attempt, RUN)
    board = Board(challenges=(begun(),))
    record(board, {ID: root}, 1.0)

    costs = []
    for _ in range(15):
        start = time.process_time()
        found = record(board, {ID: root}, 1.0)
        costs.append(time.process_time() - start)

    assert found.challenges[0].practice is not None
    assert found.challenges[0].practice.tries == 20 + 16
    assert statistics.median(costs) < 0.02, costs


RUN = Run(at=NOON, seconds=1, version=1, stages={"pairs": "todo"}, rules=0, of_rules=2, done=False)


def begun() -> ChallengeBoard:
    """One stage that is not green."""
    row = StageRow(
        number=1, name="pairs", title="Add", passed=0, total=1, skipped=0, not_run=0, word="failed"
    )
    return ChallengeBoard(
        id=ID,
        title="Sums",
        version=1,
        solution=f"solutions/{ID}.py",
        is_stub=False,
        stages=(row,),
        rules=Rules(kept=(), broken=("R1",), todo=(), untested=(), total=1),
        budgets=(),
        notes=(),
        standing=(),
        next=Step(kind="fix", text="stage 1"),
    )
