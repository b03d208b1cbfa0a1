"""llmgrind log: notes of experiments, which belong to their author."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_llmgrind import clock
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import DEBUG, Run

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOTE = """\
---
challenge: 01_sums
date: 2026-11-27
tries: 0
---

# 01_sums, 2026-11-27

## Hypothesis

<!-- What do you expect, and why? One sentence that can turn out wrong. -->

## Setup

<!-- What was run: the command, the seed, the sizes, the machine. -->

## Results

<!-- What was seen: figures, messages, counts. -->

## Learnings

<!-- The first line is the one that `llmgrind log` lists. -->
"""


@pytest.fixture
def suite(suite: Any, zone: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two challenges, no editor. It is noon, in UTC."""
    monkeypatch.setenv(clock.VARIABLE, clock.text(NOON))
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    suite.challenge()
    suite.challenge("02_dots")
    return suite


def lines(suite: Any, *args: str) -> list[str]:
    result = suite.llmgrind(*args)
    assert result.exit_code == 0, result.output
    return [str(line) for line in result.stdout.splitlines()]


class TestNew:
    def test_it_writes_a_template_and_says_where(self, suite: Any) -> None:
        """notes/<day>_<id>.md, with a head and four sections; no history is made."""
        assert lines(suite, "log", "--new", "01_sums") == ["notes/2026-11-27_01_sums.md"]
        assert (suite.path / "notes/2026-11-27_01_sums.md").read_text() == NOTE
        assert not (suite.path / ".llmgrind").exists()

    def test_several_of_a_day_are_numbered(self, suite: Any) -> None:
        """Nothing is ever overwritten."""
        names = [lines(suite, "log", "1", "--new")[0] for _ in range(3)]

        assert names == [
            "notes/2026-11-27_01_sums.md",
            "notes/2026-11-27_01_sums-2.md",
            "notes/2026-11-27_01_sums-3.md",
        ]

    def test_it_knows_the_attempt_so_far(self, suite: Any) -> None:
        """Tries, minutes of work and green stages come from the history."""
        with suite.history() as history:
            attempt = history.begin("01_sums", NOON - timedelta(minutes=25))
            history.add_run(attempt, graded(NOON - timedelta(minutes=5)))

        [name] = lines(suite, "log", "--new", "1")

        assert (suite.path / name).read_text().splitlines()[:7] == [
            "---",
            "challenge: 01_sums",
            "date: 2026-11-27",
            "tries: 1",
            "minutes: 25",
            "stages green: 1 of 2",
            "---",
        ]

    def test_it_says_that_a_program_is_repaired(self, suite: Any) -> None:
        """A note about debugging is told from one about solving."""
        with suite.history() as history:
            history.begin("01_sums", NOON, kind=DEBUG, bugs=["x"])

        [name] = lines(suite, "log", "--new", "1")

        assert "attempt: debugging" in (suite.path / name).read_text().splitlines()

    def test_it_wants_a_challenge(self, suite: Any) -> None:
        """A note is about something."""
        result = suite.llmgrind("log", "--new")

        assert result.exit_code == 2
        assert result.output == (
            "Error: --new wants a challenge, as in `llmgrind log --new 04_kv_cache`\n"
        )

    def test_a_place_that_cannot_be_written_is_one_line(self, suite: Any) -> None:
        """A file in the place of notes/ is left alone."""
        suite.write("notes", "mine")

        result = suite.llmgrind("log", "--new", "1")

        assert result.exit_code == 1
        assert result.output == "Error: notes: File exists; nothing was written\n"
        assert (suite.path / "notes").read_text() == "mine"

    def test_json_is_the_note(self, suite: Any) -> None:
        """Its path and what is still to write."""
        assert json.loads("\n".join(lines(suite, "log", "--new", "1", "--json"))) == {
            "path": "notes/2026-11-27_01_sums.md",
            "date": "2026-11-27",
            "challenge": "01_sums",
            "learned": None,
            "missing": ["Hypothesis", "Setup", "Results", "Learnings"],
        }

    def test_two_terminals_write_two_notes(self, suite: Any) -> None:
        """Who comes second at the same moment gets the next number."""
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "log", "--new", "1"]
        both = [subprocess.Popen(args, cwd=suite.path, stdout=subprocess.PIPE) for _ in range(2)]

        names = {process.communicate()[0].decode().strip() for process in both}

        assert names == {"notes/2026-11-27_01_sums.md", "notes/2026-11-27_01_sums-2.md"}


def graded(at: datetime) -> Run:
    words = {"pairs": "ok", "lists": "todo"}
    return Run(at=at, seconds=1, version=1, stages=words, rules=1, of_rules=2, done=False)


class TestEditor:
    EDITOR = "#!/bin/sh\necho 'Learned by hand.' >> \"$1\"\n"

    def edited(self, suite: Any, **env: str) -> str:
        """The note that --new leaves on a terminal."""
        terminal, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_llmgrind.cli", "log", "--new", "1"],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=suite.path,
            env={**os.environ, "TERM": "xterm", **env},
        )  # fmt: skip
        os.close(theirs)
        while select.select([terminal], [], [], 60)[0]:
            try:
                if not os.read(terminal, 1 << 16):
                    break
            except OSError:
                break
        os.close(terminal)
        assert process.wait() == 0
        [note] = (suite.path / "notes").iterdir()
        return str(note.read_text())

    @pytest.mark.parametrize("name", ["EDITOR", "VISUAL"])
    def test_it_opens_on_a_terminal(self, suite: Any, name: str) -> None:
        """$VISUAL or $EDITOR gets the new note."""
        editor = suite.write("editor.sh", self.EDITOR)
        editor.chmod(0o755)

        assert self.edited(suite, **{name: str(editor)}) == NOTE + "Learned by hand.\n"

    def test_visual_comes_first(self, suite: Any) -> None:
        """As everywhere else."""
        editor = suite.write("editor.sh", self.EDITOR)
        editor.chmod(0o755)

        assert self.edited(suite, VISUAL=str(editor), EDITOR="false").endswith("by hand.\n")

    def test_without_one_none_is_guessed(self, suite: Any) -> None:
        """Nobody is put into vi who did not ask for it."""
        assert self.edited(suite) == NOTE

    def test_none_opens_off_a_terminal(self, suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A script is never kept waiting by an editor."""
        editor = suite.write("editor.sh", self.EDITOR)
        editor.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(editor))

        lines(suite, "log", "--new", "1")

        assert (suite.path / "notes/2026-11-27_01_sums.md").read_text() == NOTE


class TestList:
    def test_each_has_its_learning_or_what_is_missing(self, suite: Any) -> None:
        """The oldest first; comments, bullets and empty lines are no learning."""
        suite.write("notes/2026-11-27_02_dots.md", "# Dots\n\n## Setup\n\nseed 0\n\n## Learnings\n")
        learned = "## Learnings\n\n<!-- a\nb -->\n\n- Sums are fine.\n- More.\n"
        suite.write("notes/2026-11-20_01_sums.md", learned)

        assert lines(suite, "log") == [
            "date        challenge  learned",
            "2026-11-20  01_sums    Sums are fine.",
            "2026-11-27  02_dots    (empty: Hypothesis, Results, Learnings)",
        ]
        assert lines(suite, "log", "2") == [
            "date        challenge  learned",
            "2026-11-27  02_dots    (empty: Hypothesis, Results, Learnings)",
        ]

    def test_a_renamed_note_keeps_what_its_head_says(self, suite: Any) -> None:
        """The author may call it as they like, and sort it into a folder."""
        lines(suite, "log", "--new", "1")
        (suite.path / "notes/old").mkdir()
        (suite.path / "notes/2026-11-27_01_sums.md").rename(suite.path / "notes/old/what I saw.md")

        [note] = json.loads("\n".join(lines(suite, "log", "--json")))["notes"]

        assert note["path"] == "notes/old/what I saw.md"
        assert (note["date"], note["challenge"]) == ("2026-11-27", "01_sums")

    def test_a_note_of_any_form_is_listed(self, suite: Any) -> None:
        """No head, no sections, bytes that are no text: nothing is refused, nothing is hidden."""
        suite.write("notes/ideas.md", "no head at all")
        (suite.path / "notes/broken.md").write_bytes(b"\xff\xfe## Learnings\n\nx")
        suite.write("notes/.draft.md", "hidden")
        suite.write("notes/figure.txt", "no note")

        assert lines(suite, "log") == [
            "date  challenge  learned",
            "–     –          (empty: Hypothesis, Setup, Results, Learnings)",
            "–     –          (empty: Hypothesis, Setup, Results, Learnings)",
        ]

    def test_a_deleted_note_is_gone(self, suite: Any) -> None:
        """Nothing about notes is kept elsewhere."""
        [name] = lines(suite, "log", "--new", "1")
        (suite.path / name).unlink()

        result = suite.llmgrind("log", "2")

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == (
            "no notes about 02_dots yet; begin one: llmgrind log --new 02_dots\n"
        )
        assert suite.llmgrind("log").stderr == (
            "no notes yet; begin one: llmgrind log --new 01_sums\n"
        )

    def test_a_long_learning_is_cut(self, suite: Any) -> None:
        """Eighty columns are enough, and control characters of a note are not printed."""
        suite.write("notes/2026-11-27_01_sums.md", f"## Learnings\n\n\x1b[31m{'long ' * 40}\n")

        [_, row] = lines(suite, "log")

        assert len(row) <= 80
        assert row.endswith("…")
        assert "\x1b" not in row

    def test_notes_are_of_a_workspace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Elsewhere, one line says how to lay one out."""
        monkeypatch.chdir(tmp_path)

        result = CliRunner().invoke(main, ["log"])

        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: no challenges/ in {tmp_path} or above; `llmgrind init DIR` lays out a"
            " workspace\n"
        )


def test_git_keeps_notes(tmp_path: Path) -> None:
    """What init tells git to ignore leaves notes/ in, and the history out."""
    home = tmp_path / "grind"
    CliRunner().invoke(main, ["init", str(home)])
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)

    def is_ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=home).returncode == 0

    assert not is_ignored("notes/2026-11-27_01_mlp.md")
    assert not is_ignored("solutions/01_mlp.py")
    assert is_ignored(".llmgrind/history.db")
