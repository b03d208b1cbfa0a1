"""llmgrind reset and undo: what is put away comes back, and nothing is ever overwritten."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ID, Suite

from pytest_llmgrind import archive, clock
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import DEBUG, Attempt

NOW = datetime(2026, 11, 27, 9, 30, 5, 120_000, tzinfo=UTC)
STAMP = "20261127T093005.120Z"
KEPT = ".llmgrind/archive/01_sums"
OTHER = "02_more"


@pytest.fixture(autouse=True)
def _still(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGRIND_NOW", NOW.isoformat())
    suite.challenge()
    suite.challenge(OTHER)


def text(suite: Suite, path: str = "solutions/01_sums.py") -> str:
    return (suite.path / path).read_text("utf-8")


def current(suite: Suite, id: str = ID) -> Attempt | None:
    with suite.history() as history:
        return history.current(id)


class TestReset:
    def test_it_archives_the_solution_and_ends_the_attempt(self, suite: Suite) -> None:
        """The place is free, and the history keeps the attempt."""
        suite.llmgrind("start", ID)
        suite.solve("mine = 1\n")

        result = suite.llmgrind("reset", ID)

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            f"01_sums: solutions/01_sums.py is now {KEPT}/{STAMP}.py",
            "undo  llmgrind undo",
        ]
        assert text(suite, f"{KEPT}/{STAMP}.py") == "mine = 1\n"
        assert not (suite.path / "solutions/01_sums.py").exists()
        with suite.history() as history:
            assert [attempt.closed for attempt in history.attempts(ID)] == [NOW]

    def test_an_attempt_without_a_solution_is_closed(self, suite: Suite) -> None:
        """A file that was deleted by hand leaves an attempt to end."""
        suite.llmgrind("start", ID)
        (suite.path / "solutions/01_sums.py").unlink()

        result = suite.llmgrind("reset", ID)

        assert result.output.splitlines() == [
            "01_sums: the attempt is closed; there was no solution",
            "undo  llmgrind undo",
        ]
        assert current(suite) is None

    def test_a_file_and_a_package_both_go(self, suite: Suite) -> None:
        """Nothing is left that pytest would grade."""
        suite.solve("mine = 1\n")
        suite.write("solutions/01_sums/__init__.py", "")

        lines = suite.llmgrind("reset", ID).output.splitlines()

        assert lines[0] == (
            f"01_sums: solutions/01_sums.py is now {KEPT}/{STAMP}.py, "
            f"solutions/01_sums is now {KEPT}/{STAMP}"
        )

    def test_two_in_the_same_millisecond_are_both_kept(self, suite: Suite) -> None:
        """A name in the archive is never taken twice."""
        for number in (1, 2, 3):
            suite.solve(f"mine = {number}\n")
            suite.llmgrind("reset", ID)

        names = [f"{STAMP}.py", f"{STAMP}-2.py", f"{STAMP}-3.py"]
        assert [text(suite, f"{KEPT}/{name}") for name in names] == [
            "mine = 1\n",
            "mine = 2\n",
            "mine = 3\n",
        ]

    def test_all_are_one_change(self, suite: Suite) -> None:
        """--all archives what was begun, and one undo brings all of it back."""
        suite.solve("mine = 1\n")
        suite.solve("mine = 2\n", OTHER)

        lines = suite.llmgrind("reset", "--all").output.splitlines()

        assert lines == [
            f"01_sums: solutions/01_sums.py is now {KEPT}/{STAMP}.py",
            f"02_more: solutions/02_more.py is now .llmgrind/archive/02_more/{STAMP}.py",
            "undo  llmgrind undo",
        ]
        assert suite.llmgrind("undo").output.splitlines() == [
            f"took back: reset --all ({clock.shown(NOW)})",
            "01_sums: solutions/01_sums.py is back",
            "02_more: solutions/02_more.py is back",
        ]
        assert text(suite) == "mine = 1\n"
        assert text(suite, "solutions/02_more.py") == "mine = 2\n"

    @pytest.mark.parametrize(
        ("answer", "options", "goes"), [("n", [], False), ("y", [], True), ("", ["--yes"], True)]
    )
    def test_all_asks_on_a_terminal(
        self, suite: Suite, answer: str, options: list[str], goes: bool
    ) -> None:
        """It names what would go, does nothing after a no, and --yes does not ask."""
        suite.solve("mine = 1\n")
        terminal, theirs = pty.openpty()
        os.write(terminal, f"{answer}\n".encode())
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "reset", "--all", *options]

        done = subprocess.run(
            args, stdin=theirs, capture_output=True, text=True, cwd=suite.path, check=False
        )

        os.close(theirs)
        os.close(terminal)
        assert ("Archive 01_sums? [y/N]" in done.stdout) == (not options)
        assert done.returncode == (0 if goes else 1)
        assert (suite.path / "solutions/01_sums.py").exists() != goes

    @pytest.mark.parametrize("args", [[], [ID, "--all"]])
    def test_it_is_one_or_all(self, suite: Suite, args: list[str]) -> None:
        """Neither and both are wrong command lines."""
        result = suite.llmgrind("reset", *args)

        assert result.exit_code == 2
        assert result.output == "Error: reset: name one challenge, or give --all\n"

    @pytest.mark.parametrize(
        ("args", "what"), [([ID], "01_sums was not begun"), (["--all"], "no challenge was begun")]
    )
    def test_where_nothing_was_begun_it_says_so(
        self, suite: Suite, args: list[str], what: str
    ) -> None:
        """There is nothing to reset: exit code 1."""
        result = suite.llmgrind("reset", *args)

        assert result.exit_code == 1
        assert result.output == f"Error: {what}; there is nothing to reset\n"

    def test_what_cannot_be_moved_stays_with_all_others(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """--all is done for all or for none."""
        suite.solve("mine = 1\n")
        suite.solve("mine = 2\n", OTHER)
        suite.write(".llmgrind/archive/02_more", "a file where a directory is wanted")

        result = suite.llmgrind("reset", "--all")

        assert result.exit_code == 1
        assert result.output.endswith("; nothing was reset\n")
        assert text(suite) == "mine = 1\n"
        assert text(suite, "solutions/02_more.py") == "mine = 2\n"
        assert suite.llmgrind("undo").output == "Error: there is nothing to undo\n"


class TestUndo:
    def test_nothing_to_undo(self, suite: Suite) -> None:
        """Where nothing was changed: exit code 1."""
        result = suite.llmgrind("undo")

        assert result.exit_code == 1
        assert result.output == "Error: there is nothing to undo\n"

    def test_a_new_beginning_is_taken_back(self, suite: Suite) -> None:
        """The solution that passed is back, with its attempt; the stub is in the archive."""
        suite.solve("mine = 1\n")
        passed = suite.passed()
        suite.llmgrind("start", ID)

        result = suite.llmgrind("undo")

        assert result.output.splitlines() == [
            f"took back: start 01_sums ({clock.shown(NOW)})",
            f"01_sums: solutions/01_sums.py is back; what was there is now {KEPT}/{STAMP}-2.py",
        ]
        assert text(suite) == "mine = 1\n"
        assert "raise NotImplementedError" in text(suite, f"{KEPT}/{STAMP}-2.py")
        assert current(suite) == passed

    def test_step_by_step(self, suite: Suite) -> None:
        """Each undo takes back the change before the one that was taken back last."""
        suite.solve("mine = 1\n")
        first = suite.passed()
        suite.llmgrind("start", ID)
        suite.solve("mine = 2\n")
        second = suite.passed()
        suite.llmgrind("start", ID)
        suite.llmgrind("reset", ID)

        suite.llmgrind("undo")
        assert "raise NotImplementedError" in text(suite)
        suite.llmgrind("undo")
        assert (text(suite), current(suite)) == ("mine = 2\n", second)
        suite.llmgrind("undo")
        assert (text(suite), current(suite)) == ("mine = 1\n", first)
        assert suite.llmgrind("undo").exit_code == 1

    def test_what_was_there_meanwhile_is_archived(self, suite: Suite) -> None:
        """A package that took the place of the file does not get lost, nor does it shadow it."""
        suite.solve("mine = 1\n")
        suite.llmgrind("reset", ID)
        suite.write("solutions/01_sums/__init__.py", "package = 1\n")

        suite.llmgrind("undo")

        assert text(suite) == "mine = 1\n"
        assert not (suite.path / "solutions/01_sums").exists()
        assert text(suite, f"{KEPT}/{STAMP}/__init__.py") == "package = 1\n"

    def test_an_attempt_that_a_run_began_meanwhile_is_closed(self, suite: Suite) -> None:
        """The attempt before the change is the current one, whatever came after."""
        suite.llmgrind("start", ID)
        before = current(suite)
        suite.llmgrind("reset", ID)
        with suite.history() as history:
            history.begin(ID, NOW, kind=DEBUG)

        suite.llmgrind("undo")

        assert current(suite) == before

    def test_where_nothing_was_recorded_before_there_is_no_attempt(self, suite: Suite) -> None:
        """A solution that no run had seen returns without one."""
        suite.solve("mine = 1\n")
        suite.llmgrind("reset", ID)
        suite.llmgrind("start", ID)

        suite.llmgrind("undo")

        assert (text(suite), current(suite)) == ("mine = 1\n", None)

    def test_what_the_archive_lost_is_said_once(self, suite: Suite) -> None:
        """Nothing is changed, and the next undo takes back what came before."""
        suite.solve("mine = 1\n")
        suite.llmgrind("reset", ID)
        suite.solve("mine = 2\n")
        suite.llmgrind("reset", ID)
        lost = suite.path / KEPT / f"{STAMP}-2.py"
        lost.unlink()

        result = suite.llmgrind("undo")

        assert result.exit_code == 1
        assert result.output == (
            f"Error: {lost}: is gone, so reset 01_sums cannot be taken back; nothing was changed\n"
        )
        assert suite.llmgrind("undo").exit_code == 0
        assert text(suite) == "mine = 1\n"

    def test_a_workspace_that_was_moved_can_undo(
        self, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Paths in the history are those below the workspace."""
        suite.solve("mine = 1\n")
        suite.llmgrind("reset", ID)
        moved = tmp_path / "moved"
        suite.path.rename(moved)
        monkeypatch.chdir(moved)

        CliRunner().invoke(main, ["undo"])

        assert (moved / "solutions/01_sums.py").read_text("utf-8") == "mine = 1\n"
        monkeypatch.chdir(tmp_path)
        moved.rename(suite.path)

    def test_an_undo_that_fails_changes_nothing(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of several solutions all return, or none; the change can still be taken back."""
        suite.solve("mine = 1\n")
        suite.solve("mine = 2\n", OTHER)
        suite.llmgrind("reset", "--all")
        suite.solve("meanwhile = 1\n")
        put_back = archive.put_back

        def fails(moves: list[archive.Move]) -> None:
            moves = list(moves)
            if any(move.place.name == "02_more.py" for move in moves):
                raise archive.ArchiveError("solutions/02_more.py: cannot be moved: no")
            put_back(moves)

        with monkeypatch.context() as patch:
            patch.setattr(archive, "put_back", fails)
            result = suite.llmgrind("undo")

        assert result.output == (
            "Error: solutions/02_more.py: cannot be moved: no; nothing was changed\n"
        )
        assert text(suite) == "meanwhile = 1\n"
        assert suite.llmgrind("undo").exit_code == 0
        assert text(suite) == "mine = 1\n"
        assert text(suite, "solutions/02_more.py") == "mine = 2\n"


class TestLinks:
    def test_a_link_still_leads_to_its_file(self, suite: Suite) -> None:
        """A relative link is archived as a link to the same file, and comes back as it was."""
        suite.write("elsewhere/sums.py", "mine = 1\n")
        (suite.path / "solutions").mkdir()
        link = suite.path / "solutions/01_sums.py"
        link.symlink_to("../elsewhere/sums.py")

        suite.llmgrind("reset", ID)
        kept = text(suite, f"{KEPT}/{STAMP}.py")
        suite.llmgrind("undo")

        assert kept == "mine = 1\n"
        assert os.readlink(link) == "../elsewhere/sums.py"

    def test_a_link_to_nothing_can_be_reset(self, suite: Suite) -> None:
        """What pytest cannot grade can still make way."""
        (suite.path / "solutions").mkdir()
        (suite.path / "solutions/01_sums.py").symlink_to("/nowhere/sums.py")

        assert suite.llmgrind("reset", ID).exit_code == 0
        assert os.readlink(suite.path / KEPT / f"{STAMP}.py") == "/nowhere/sums.py"


@pytest.mark.parametrize("args", [["reset", "--all"], ["undo"], ["debug", "01_mlp"]])
def test_an_installed_suite_is_no_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """Outside of a workspace nothing is put away or written, and the cure is named."""
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.chdir(outside)

    result = CliRunner().invoke(main, args)

    assert result.exit_code == 2
    assert result.output == (
        f"Error: no challenges/ in {outside} or above; `llmgrind init DIR` lays out a workspace\n"
    )
