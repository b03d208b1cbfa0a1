"""llmgrind start in a workspace with a history: attempts, beginning again, timed interviews."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ID, REFERENCE, Suite

from pytest_llmgrind import clock
from pytest_llmgrind.changes import Changing
from pytest_llmgrind.history import DEBUG, SOLVE, Attempt, HistoryError

NOW = datetime(2026, 11, 27, 9, 30, 5, 120_000, tzinfo=UTC)
STAMP = "20261127T093005.120Z"
YOURS = "solutions/01_sums.py is yours: 01_sums, 2 stages, about 60 minutes"
NEXT = ["spec  challenges/01_sums/spec.md", "next  pytest challenges/01_sums"]


@pytest.fixture(autouse=True)
def _still(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGRIND_NOW", NOW.isoformat())
    suite.challenge()


def attempts(suite: Suite) -> list[Attempt]:
    with suite.history() as history:
        return history.attempts(ID)


def solution(suite: Suite) -> str:
    return (suite.path / "solutions/01_sums.py").read_text("utf-8")


def stub(suite: Suite) -> str:
    return (suite.path / "challenges/01_sums/stub.py").read_text("utf-8")


class TestAttempts:
    def test_a_start_begins_an_attempt(self, suite: Suite) -> None:
        """The history knows when the stub was copied."""
        result = suite.llmgrind("start", ID)

        assert result.output.splitlines() == [YOURS, *NEXT]
        [attempt] = attempts(suite)
        assert (attempt.kind, attempt.started, attempt.minutes) == (SOLVE, NOW, None)

    def test_before_a_pass_nothing_changes(self, suite: Suite) -> None:
        """A second start writes nothing and begins no second attempt."""
        suite.llmgrind("start", ID)
        suite.solve("mine = 1\n")

        result = suite.llmgrind("start", ID)

        assert result.exit_code == 1
        assert solution(suite) == "mine = 1\n"
        assert len(attempts(suite)) == 1

    def test_a_solution_from_before_is_left_to_the_first_run(self, suite: Suite) -> None:
        """Where a solution was there already, start records nothing."""
        suite.solve()

        assert suite.llmgrind("start", ID).exit_code == 1
        assert attempts(suite) == []

    def test_a_stub_that_replaces_a_deleted_file_belongs_to_the_same_attempt(
        self, suite: Suite
    ) -> None:
        """Time and hints of an attempt that has not passed still count."""
        suite.llmgrind("start", ID)
        (suite.path / "solutions/01_sums.py").unlink()

        suite.llmgrind("start", ID)

        assert solution(suite) == stub(suite)
        assert len(attempts(suite)) == 1

    def test_another_directory_is_no_practice(self, suite: Suite) -> None:
        """--solutions elsewhere leaves no history behind."""
        suite.llmgrind("start", ID, "--solutions", "submissions/ada")

        assert not (suite.path / ".llmgrind").exists()

    def test_the_same_directory_by_name_is_practice(self, suite: Suite) -> None:
        """--solutions may name the directory that pytest grades."""
        suite.llmgrind("start", ID, "--solutions", "solutions")

        assert len(attempts(suite)) == 1


class TestAgain:
    def test_after_a_pass_it_begins_from_the_stub(self, suite: Suite) -> None:
        """The old solution is archived, and a new attempt begins."""
        suite.solve()
        old = suite.passed()

        result = suite.llmgrind("start", ID)

        kept = f".llmgrind/archive/01_sums/{STAMP}.py"
        assert result.exit_code == 0
        assert result.output.splitlines() == [
            YOURS,
            f"kept  {kept}; llmgrind undo takes it back",
            *NEXT,
        ]
        assert (suite.path / kept).read_text("utf-8") == REFERENCE.lstrip("\n")
        assert solution(suite) == stub(suite)
        first, second = attempts(suite)
        assert (first.id, first.closed) == (old.id, NOW)
        assert (second.started, second.is_open) == (NOW, True)

    def test_a_run_that_passes_is_enough(self, suite: Suite) -> None:
        """What pytest recorded is what start goes by."""
        suite.solve()
        suite.run("challenges")

        assert suite.llmgrind("start", ID).exit_code == 0
        assert solution(suite) == stub(suite)

    def test_a_repaired_program_makes_room(self, suite: Suite) -> None:
        """A debugging attempt that has passed counts as a pass here."""
        suite.solve()
        with suite.history() as history:
            history.begin(ID, NOW, kind=DEBUG, bugs=["twice"])
        suite.passed()

        assert suite.llmgrind("start", ID).exit_code == 0
        assert [attempt.kind for attempt in attempts(suite)] == [DEBUG, SOLVE]

    def test_a_program_that_is_not_repaired_stays(self, suite: Suite) -> None:
        """An earlier pass does not open the way over a program to repair."""
        suite.solve()
        suite.passed()
        with suite.history() as history:
            history.begin(ID, NOW, kind=DEBUG, bugs=["twice"])

        assert suite.llmgrind("start", ID).exit_code == 1
        assert solution(suite) == REFERENCE.lstrip("\n")

    def test_a_package_is_archived_as_a_directory(self, suite: Suite) -> None:
        """A package makes way with all of its files."""
        suite.write("solutions/01_sums/__init__.py", "from .sums import add\n")
        suite.write("solutions/01_sums/sums.py", "add = 1\n")
        suite.passed()

        suite.llmgrind("start", ID)

        kept = suite.path / ".llmgrind/archive/01_sums" / STAMP
        assert sorted(path.name for path in kept.iterdir()) == ["__init__.py", "sums.py"]
        assert not (suite.path / "solutions/01_sums").exists()

    def test_a_file_that_is_not_python_is_archived_as_it_is(self, suite: Suite) -> None:
        """Nothing is read into what makes way."""
        file = suite.solve()
        suite.passed()
        file.write_bytes(b"\xff def\x00")

        suite.llmgrind("start", ID)

        kept = suite.path / f".llmgrind/archive/01_sums/{STAMP}.py"
        assert kept.read_bytes() == b"\xff def\x00"

    def test_what_fails_halfway_leaves_everything(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the stub cannot be written, solution and attempt are as before."""
        suite.solve()
        old = suite.passed()

        def full(self: Changing, file: Path, text: bytes) -> None:
            raise OSError(28, "No space left on device", str(file))

        monkeypatch.setattr(Changing, "write", full)

        result = suite.llmgrind("start", ID)

        file = suite.path / "solutions/01_sums.py"
        assert result.exit_code == 1
        assert result.output == f"Error: {file}: No space left on device; nothing was written\n"
        assert solution(suite) == REFERENCE.lstrip("\n")
        assert attempts(suite) == [old]
        with suite.history() as history:
            assert history.last_change() is None

    def test_two_terminals_begin_one_attempt(self, suite: Suite) -> None:
        """Who comes second finds the stub, and archives nothing."""
        suite.solve()
        suite.passed()
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "start", ID]

        both = [subprocess.Popen(args, cwd=suite.path, stdout=subprocess.DEVNULL) for _ in range(2)]

        assert sorted(process.wait() for process in both) == [0, 1]
        assert len(list((suite.path / ".llmgrind/archive/01_sums").iterdir())) == 1
        assert [attempt.is_open for attempt in attempts(suite)] == [False, True]

    def test_an_archive_that_is_a_file_is_one_line(self, suite: Suite) -> None:
        """What cannot be archived is not replaced."""
        suite.solve()
        suite.passed()
        archive = suite.write(".llmgrind/archive", "")

        result = suite.llmgrind("start", ID)

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {archive}/01_sums: cannot be moved: ")
        assert result.output.endswith("; nothing was written\n")
        assert result.output.count("\n") == 1
        assert solution(suite) == REFERENCE.lstrip("\n")


class TestMinutes:
    TIMED = f"timed 45 min, from now until {clock.shown(NOW + timedelta(minutes=45))}"

    def test_it_is_a_timed_interview(self, suite: Suite) -> None:
        """The attempt has the limit, and start says when it ends."""
        result = suite.llmgrind("start", ID, "--minutes", "45")

        assert result.output.splitlines() == [YOURS, self.TIMED, *NEXT]
        assert [attempt.minutes for attempt in attempts(suite)] == [45]

    def test_every_run_shows_what_is_left(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The board has the time left and the pace."""
        suite.llmgrind("start", ID, "--minutes", "45")
        suite.solve(REFERENCE.replace("return a + b", "raise NotImplementedError"))
        monkeypatch.setenv("LLMGRIND_NOW", (NOW + timedelta(minutes=15)).isoformat())

        lines = suite.run("challenges").outlines

        assert (
            "  timed    30 min left of 45 min; 1 of 2 stages in 33% of the time: on pace" in lines
        )

    def test_on_an_untouched_stub_the_clock_begins_now(self, suite: Suite) -> None:
        """A stub that was started before needs no reset to be timed."""
        suite.llmgrind("start", ID)

        result = suite.llmgrind("start", ID, "--minutes", "45")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "solutions/01_sums.py is still the stub",
            self.TIMED,
            *NEXT,
        ]
        assert [(a.minutes, a.is_open) for a in attempts(suite)] == [(None, False), (45, True)]

    def test_what_was_begun_is_not_timed(self, suite: Suite) -> None:
        """No clock runs over work that is there already; it says how to make room."""
        suite.solve()

        result = suite.llmgrind("start", ID, "--minutes", "45")

        assert result.exit_code == 1
        assert result.output.splitlines()[1:] == [
            "no clock runs: it begins at a stub; llmgrind reset 01_sums makes room",
            *NEXT,
        ]
        assert attempts(suite) == []

    def test_elsewhere_nothing_is_timed(self, suite: Suite) -> None:
        """--minutes with another directory is a wrong command line."""
        result = suite.llmgrind("start", ID, "--minutes", "45", "--solutions", "ada")

        assert result.exit_code == 2
        assert result.output == ("Error: --minutes: ada is not where you practise; leave one out\n")
        assert not (suite.path / "ada").exists()

    @pytest.mark.parametrize("minutes", ["0", "-5", "1441", "soon", "nan"])
    def test_minutes_are_of_one_day(self, suite: Suite, minutes: str) -> None:
        """A limit that is none is a wrong command line."""
        assert suite.llmgrind("start", ID, "--minutes", minutes).exit_code == 2


class TestHistory:
    def test_one_that_cannot_be_used_stops_nothing(self, suite: Suite) -> None:
        """The stub is copied, and one line says why nothing is recorded."""
        suite.write(".llmgrind", "")

        result = suite.llmgrind("start", ID)

        assert result.exit_code == 0
        assert result.stdout.splitlines() == [YOURS, *NEXT]
        [note] = result.stderr.splitlines()
        assert note.startswith(f"note  {suite.path}/.llmgrind/history.db: cannot be used: ")
        assert solution(suite) == stub(suite)

    def test_a_damaged_one_is_set_aside(self, suite: Suite) -> None:
        """A note says so, and the attempt stands in the new file."""
        suite.write(".llmgrind/history.db", "not a database, and long enough to be looked at" * 9)

        result = suite.llmgrind("start", ID)

        assert result.stderr == (
            f"note  {suite.path}/.llmgrind/history.db: damaged, set aside as "
            f"history-damaged-{STAMP}.db; there was no backup yet: the history begins anew\n"
        )
        assert len(attempts(suite)) == 1

    def test_a_clock_that_is_none_is_said(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wrong LLMGRIND_NOW is a note, not a traceback."""
        monkeypatch.setenv("LLMGRIND_NOW", "soon")

        result = suite.llmgrind("start", ID)

        assert result.stderr == (
            "note  LLMGRIND_NOW: wanted a moment like 2026-11-27T09:00Z, got 'soon'\n"
        )
        assert solution(suite) == stub(suite)

    def test_one_that_another_process_keeps_stops_nothing(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who cannot write waits for a while, and then says which file is kept."""
        monkeypatch.setattr("pytest_llmgrind.history.file.WAIT_S", 0.05)
        with suite.history() as other, other.writing():
            result = suite.llmgrind("start", ID)

        assert result.exit_code == 0
        assert result.stderr == (
            f"note  {suite.path}/.llmgrind/history.db: cannot be used: database is locked; "
            "nothing is recorded\n"
        )
        assert solution(suite) == stub(suite)

    def test_one_that_is_kept_after_it_was_opened_is_a_history_error(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Verbs and the board have one error to say in a line."""
        monkeypatch.setattr("pytest_llmgrind.history.file.WAIT_S", 0.05)
        with (
            suite.history() as mine,
            suite.history() as other,
            other.writing(),
            pytest.raises(HistoryError, match=r"history\.db: cannot be written: .* locked$"),
        ):
            mine.begin(ID, NOW)
