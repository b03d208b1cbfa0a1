"""The history's file: what it survives, and that nothing in it is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import clock
from pytest_llmgrind.history import (
    DEBUG,
    Hint,
    History,
    HistoryError,
    Run,
    backup_of,
    file_of,
    open_history,
)
from pytest_llmgrind.history import file as history_file

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
WRITES = """
import sys
from pathlib import Path
from pytest_llmgrind import clock
from pytest_llmgrind.history import Hint, open_history

root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    with open_history(root) as history:
        for remark in history.remarks:
            print(remark)
        attempt = history.current(name) or history.begin(name, clock.now())
        history.add_hint(attempt, Hint(at=clock.now(), stage=name, step=number))
"""
DIES = """
import os, sys
from pathlib import Path
from pytest_llmgrind import clock
from pytest_llmgrind.history import open_history

history = open_history(Path(sys.argv[1]))
history.begin(sys.argv[2], clock.now())
os._exit(9)
"""


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setenv(clock.VARIABLE, clock.text(moment))


@pytest.fixture(autouse=True)
def _clock(zone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of one day, in UTC."""
    at(monkeypatch, NOON)


def practise(root: Path, *challenges: str) -> None:
    with open_history(root) as history:
        for challenge in challenges:
            history.begin(challenge, clock.now())


def attempts(root: Path) -> list[str]:
    """The challenges that were begun, in order."""
    with open_history(root) as history:
        assert history.remarks == []
        return [attempt.challenge for attempt in history.attempts()]


def remarks(root: Path) -> list[str]:
    with open_history(root) as history:
        return history.remarks


def aside(root: Path) -> dict[str, bytes]:
    """The files that were set aside, with what they hold."""
    return {path.name: path.read_bytes() for path in (root / ".llmgrind").glob("*damaged*")}


def run(**changes: object) -> Run:
    values = {
        "at": NOON, "seconds": 1.5, "version": 2, "stages": {"pairs": "ok", "lists": "todo"},
        "rules": 1, "of_rules": 2, "done": False,
    }  # fmt: skip
    return Run(**{**values, **changes})  # type: ignore[arg-type]


class TestTables:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        """Attempts, runs and hints come back from the file as they were given."""
        hint = Hint(at=NOON + timedelta(minutes=3), stage="pairs", step=1)
        with open_history(tmp_path) as history:
            attempt = history.begin("01_sums", NOON, kind=DEBUG, minutes=45, bugs=["off_by_one"])
            history.add_run(attempt, run())
            history.add_hint(attempt, hint)
            history.mark(attempt, "passed", NOON + timedelta(minutes=9))

        with open_history(tmp_path) as history:
            found = history.current("01_sums")

        assert found is not None
        assert (found.kind, found.minutes, found.bugs) == ("debug", 45, ("off_by_one",))
        assert found.started == NOON
        assert found.runs == (run(),)
        assert found.hints == (hint,)
        assert found.passed == NOON + timedelta(minutes=9)
        assert (found.gave_up, found.closed) == (None, None)

    def test_a_start_closes_the_attempt_before_it(self, tmp_path: Path) -> None:
        """One attempt of a challenge is current; those of other challenges are left alone."""
        with open_history(tmp_path) as history:
            first = history.begin("01_sums", NOON)
            other = history.begin("02_dots", NOON)
            second = history.begin("01_sums", NOON + timedelta(hours=1))

            current = history.current("01_sums")
            assert current is not None
            assert current.id == second.id
            assert history.attempt(first.id).closed == NOON + timedelta(hours=1)
            assert history.attempt(other.id).closed is None

    def test_the_first_mark_stays(self, tmp_path: Path) -> None:
        """A pass is when it was first reached, and a hint when it was first shown."""
        later = NOON + timedelta(hours=1)
        with open_history(tmp_path) as history:
            attempt = history.begin("01_sums", NOON)
            for moment in (NOON, later):
                history.mark(attempt, "passed", moment)
                history.add_hint(attempt, Hint(at=moment, stage="pairs", step=1))

            found = history.attempt(attempt.id)
            assert found.passed == NOON
            assert [hint.at for hint in found.hints] == [NOON]

    def test_a_run_belongs_to_an_attempt(self, tmp_path: Path) -> None:
        """Foreign keys hold: no run of an attempt that is not there, none left of one removed."""
        with open_history(tmp_path) as history:
            attempt = history.begin("01_sums", NOON)
            history.add_run(attempt, run())
            with pytest.raises(sqlite3.IntegrityError):
                history.db.execute(
                    "INSERT INTO hint (attempt, at, stage, step) VALUES (99, '', '', 1)"
                )

            with history.writing() as db:
                db.execute("DELETE FROM attempt")

            assert history.db.execute("SELECT count(*) FROM run").fetchone()[0] == 0

    def test_due_is_a_matter_of_the_moment(self, tmp_path: Path) -> None:
        """A card is due from its moment on, the longest due first, with its last rating."""
        with open_history(tmp_path) as history:
            for challenge, days, rating in [("01_a", 2, 3), ("02_b", 1, 4), ("01_a", 3, 1)]:
                due = NOON + timedelta(days=days)
                history.set_card(challenge, {}, due=due, at=NOON, rating=rating)

            assert history.due(NOON + timedelta(days=1, microseconds=-1)) == {}
            assert list(history.due(NOON + timedelta(days=1))) == ["02_b"]
            assert list(history.due(NOON + timedelta(days=3))) == ["02_b", "01_a"]
            assert history.ratings() == {"01_a": 1, "02_b": 4}


class TestTransactions:
    def test_what_fails_half_way_leaves_nothing(self, tmp_path: Path) -> None:
        """writing() rolls back all that was written in it, also by the calls within."""
        with open_history(tmp_path) as history:
            history.begin("01_kept", NOON)
            with pytest.raises(ZeroDivisionError):
                break_off(history)

            assert [each.challenge for each in history.attempts()] == ["01_kept"]
            history.begin("03_after", NOON)

        assert attempts(tmp_path) == ["01_kept", "03_after"]

    def test_a_refusal_of_sqlite_is_one_line(self, tmp_path: Path) -> None:
        """A disk that is full while it is written becomes a HistoryError that names the file."""
        practise(tmp_path, "01_sums")

        with pytest.raises(HistoryError) as raised, open_history(tmp_path):
            raise sqlite3.OperationalError("database or disk is full")

        assert str(raised.value) == (
            f"{file_of(tmp_path)}: cannot be used: database or disk is full; nothing is recorded"
        )

    def test_it_is_written_ahead(self, tmp_path: Path) -> None:
        """The journal is a write-ahead log, so that a reader does not wait for a writer."""
        practise(tmp_path, "01_sums")

        with open_history(tmp_path) as writer, writer.writing() as db:
            db.execute("UPDATE attempt SET challenge = 'other'")
            with open_history(tmp_path, make=False) as reader:
                found = [each.challenge for each in reader.attempts()]

        assert found == ["01_sums"]
        assert attempts(tmp_path) == ["other"]

    def test_who_will_write_knows_at_once_that_it_cannot(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its turn is waited for at the opening, so that nothing is done before it half way."""
        monkeypatch.setattr("pytest_llmgrind.history.file.WAIT_S", 0.01)
        with (
            open_history(tmp_path) as other,
            other.writing(),
            pytest.raises(HistoryError) as raised,
        ):
            open_history(tmp_path)

        assert str(raised.value) == (
            f"{file_of(tmp_path)}: cannot be used: database is locked; nothing is recorded"
        )

    def test_processes_that_write_at_once_lose_nothing(self, tmp_path: Path) -> None:
        """Four processes begin in an empty workspace at the same moment; every row is there."""
        names, count = ["01_a", "02_b", "03_c", "04_d"], 25

        at_once(tmp_path, names, count)

        with open_history(tmp_path) as history:
            steps = {
                each.challenge: [hint.step for hint in each.hints] for each in history.attempts()
            }
        assert steps == {name: list(range(count)) for name in names}


def break_off(history: History) -> None:
    with history.writing():
        history.begin("02_lost", NOON)
        raise ZeroDivisionError


def at_once(root: Path, names: list[str], count: int) -> list[str]:
    """Processes that write ``count`` hints each; they begin together. What they remarked."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITES, str(root), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(names)
    return [line for text in said for line in text.splitlines()]


class TestSchema:
    def test_the_file_names_its_schema(self, tmp_path: Path) -> None:
        """user_version is 1, so that a later release knows what it has before it."""
        practise(tmp_path, "01_sums")

        with closing(sqlite3.connect(file_of(tmp_path))) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] == 1
            assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"

    def test_a_newer_schema_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        """What a newer llmgrind wrote is not touched, and the message says to upgrade."""
        practise(tmp_path, "01_sums")
        with closing(sqlite3.connect(file_of(tmp_path))) as db:
            db.execute("PRAGMA user_version = 2")
        before = file_of(tmp_path).read_bytes()

        with pytest.raises(HistoryError) as raised:
            open_history(tmp_path)

        assert str(raised.value) == (
            f"{file_of(tmp_path)}: has schema 2, and this llmgrind knows 1: upgrade"
            " pytest-llmgrind; nothing is recorded"
        )
        assert file_of(tmp_path).read_bytes() == before
        assert aside(tmp_path) == {}

    def test_a_place_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        """A file where the directory has to be is named."""
        (tmp_path / ".llmgrind").write_text("mine")

        with pytest.raises(HistoryError) as raised:
            open_history(tmp_path)

        assert str(raised.value).startswith(f"{file_of(tmp_path)}: cannot be used: ")
        assert (tmp_path / ".llmgrind").read_text() == "mine"

    def test_a_directory_in_its_place_is_no_damaged_file(self, tmp_path: Path) -> None:
        """What is no file is left where it is."""
        file_of(tmp_path).mkdir(parents=True)

        with pytest.raises(HistoryError) as raised:
            open_history(tmp_path)

        assert str(raised.value).startswith(f"{file_of(tmp_path)}: cannot be used: ")
        assert file_of(tmp_path).is_dir()


class TestReading:
    def test_nothing_is_made_where_there_is_none(self, tmp_path: Path) -> None:
        """Verbs that only read leave a workspace as it is."""
        with open_history(tmp_path, make=False) as history:
            assert history.attempts() == []
            assert history.due(NOON) == {}

        assert list(tmp_path.iterdir()) == []

    def test_what_is_there_is_read(self, tmp_path: Path) -> None:
        """A history that exists is opened as always."""
        practise(tmp_path, "01_sums")

        with open_history(tmp_path, make=False) as history:
            assert [each.challenge for each in history.attempts()] == ["01_sums"]


DAMAGES = {
    "text": lambda data: b"notes of mine, not a database" * 40,
    "a page overwritten": lambda data: data[:4096] + b"\x5a" * 4096 + data[8192:],
    "cut short": lambda data: data[: len(data) // 2],
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_without_a_backup_it_begins_anew(self, tmp_path: Path, damage: object) -> None:
        """A damaged file is set aside byte for byte, and said so; the history is empty."""
        practise(tmp_path, "01_sums")
        file, data = file_of(tmp_path), damage(file_of(tmp_path).read_bytes())  # type: ignore[operator]
        file.write_bytes(data)

        said = remarks(tmp_path)

        name = "history-damaged-20261127T120000.000Z.db"
        assert said == [
            f"{file}: damaged, set aside as {name}; there was no backup yet: the history begins"
            " anew"
        ]
        assert aside(tmp_path) == {name: data}
        assert attempts(tmp_path) == []

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_the_backup_takes_its_place(
        self, tmp_path: Path, damage: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was known when the backup was made is there again, and its moment is said."""
        practise(tmp_path, "01_sums")
        practise(tmp_path, "02_dots")  # opening it makes the backup: 01_sums is in it
        file, data = file_of(tmp_path), damage(file_of(tmp_path).read_bytes())  # type: ignore[operator]
        file.write_bytes(data)
        at(monkeypatch, NOON + timedelta(hours=2))

        said = remarks(tmp_path)

        name = "history-damaged-20261127T140000.000Z.db"
        assert said == [
            f"{file}: damaged, set aside as {name}; history-backup.db of 2026-11-27 12:00 took"
            " its place"
        ]
        assert aside(tmp_path) == {name: data}
        assert attempts(tmp_path) == ["01_sums"]

    def test_a_damaged_backup_is_kept_as_well(self, tmp_path: Path) -> None:
        """Where neither can be read both are set aside, and later backups overwrite neither."""
        practise(tmp_path, "01_sums")
        practise(tmp_path, "02_dots")
        file_of(tmp_path).write_bytes(b"x" * 5000)
        backup_of(file_of(tmp_path)).write_bytes(b"y" * 5000)

        said = remarks(tmp_path)

        stamp = "20261127T120000.000Z"
        assert said == [
            f"{file_of(tmp_path)}: damaged, set aside as history-damaged-{stamp}.db; the backup"
            f" cannot be read either, see history-backup-damaged-{stamp}.db: the history begins"
            " anew"
        ]
        assert aside(tmp_path) == {
            f"history-damaged-{stamp}.db": b"x" * 5000,
            f"history-backup-damaged-{stamp}.db": b"y" * 5000,
        }
        practise(tmp_path, "03_new")
        assert attempts(tmp_path) == ["03_new"]

    def test_two_of_one_moment_have_two_names(self, tmp_path: Path) -> None:
        """What was set aside is never overwritten by what is set aside next."""
        for text in (b"first" * 1000, b"second" * 1000):
            practise(tmp_path)
            file_of(tmp_path).write_bytes(text)
            remarks(tmp_path)

        stamp = "20261127T120000.000Z"
        assert aside(tmp_path) == {
            f"history-damaged-{stamp}.db": b"first" * 1000,
            f"history-damaged-{stamp}-2.db": b"second" * 1000,
        }

    @pytest.mark.parametrize("content", [None, b""], ids=["removed", "emptied"])
    def test_a_lost_file_comes_back_from_its_backup(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        """A file that is gone, or that a full disk emptied, is no reason to begin anew."""
        practise(tmp_path, "01_sums")
        practise(tmp_path)
        file = file_of(tmp_path)
        file.unlink()
        if content is not None:
            file.write_bytes(content)

        said = remarks(tmp_path)

        assert said == [
            f"{file}: lost; history-backup.db of 2026-11-27 12:00 took its place",
        ]
        assert attempts(tmp_path) == ["01_sums"]

    def test_processes_that_find_it_damaged_mend_it_once(self, tmp_path: Path) -> None:
        """One sets it aside; what all of them write afterwards is in the new file."""
        practise(tmp_path, "01_sums")
        practise(tmp_path)
        data = b"x" * 50_000
        file_of(tmp_path).write_bytes(data)
        names, count = ["02_b", "03_c", "04_d", "05_e", "06_f", "07_g"], 4

        said = at_once(tmp_path, names, count)

        assert len(said) == 1, said
        assert list(aside(tmp_path).values()) == [data]
        with open_history(tmp_path) as history:
            hints = {each.challenge: len(each.hints) for each in history.attempts()}
        assert hints == {"01_sums": 0, **dict.fromkeys(names, count)}

    def test_nobody_mends_while_another_opens(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is replaced between the look at it and its opening loses what is written."""
        practise(tmp_path, "01_sums")
        lock = file_of(tmp_path).with_name("mending.lock")
        connect = history_file._connect
        said = []

        def watched(file: Path) -> sqlite3.Connection:
            with closing(sqlite3.connect(lock, timeout=0, isolation_level=None)) as db:
                with pytest.raises(sqlite3.OperationalError) as raised:
                    db.execute("BEGIN EXCLUSIVE")
                said.append(str(raised.value))
            return connect(file)

        monkeypatch.setattr(history_file, "_connect", watched)
        assert attempts(tmp_path) == ["01_sums"]
        assert said == ["database is locked"]

    def test_a_damaged_log_of_a_damaged_file(self, tmp_path: Path) -> None:
        """Both are set aside and said, and the backup takes the place of the file."""
        practise(tmp_path, "01_sums")
        practise(tmp_path)
        file_of(tmp_path).write_bytes(b"x" * 5000)
        log = file_of(tmp_path).with_name("history.db-wal")
        log.write_bytes(b"y" * 5000)

        said = remarks(tmp_path)

        assert [line.partition(";")[0] for line in said] == [
            f"{log}: damaged, set aside as history-damaged-20261127T120000.000Z.db-wal",
            f"{file_of(tmp_path)}: damaged, set aside as history-damaged-20261127T120000.000Z-2.db",
        ]
        assert attempts(tmp_path) == ["01_sums"]


class TestLog:
    """The write-ahead log of a process that died: what it wrote is in the log alone."""

    def test_a_process_that_dies_loses_nothing(self, tmp_path: Path) -> None:
        """The next one finds what was committed in the log."""
        die_after(tmp_path, "01_sums")

        assert attempts(tmp_path) == ["01_sums"]

    def test_a_damaged_log_is_set_aside(self, tmp_path: Path) -> None:
        """SQLite would drop it in silence; it is kept, with the file it belongs to, and said."""
        practise(tmp_path, "01_sums")
        log = die_after(tmp_path, "02_dots")
        before = file_of(tmp_path).read_bytes()
        log.write_bytes(b"\0" * 600 + log.read_bytes()[600:])
        data = log.read_bytes()

        said = remarks(tmp_path)

        name = "history-damaged-20261127T120000.000Z.db"
        assert said == [
            f"{log}: damaged, set aside as {name}-wal; what was recorded last may be missing"
        ]
        assert aside(tmp_path) == {name: before, f"{name}-wal": data}
        assert attempts(tmp_path) == ["01_sums"]

    def test_a_damaged_file_takes_its_log_with_it(self, tmp_path: Path) -> None:
        """A log without its file is worth nothing, and must not be played into another one."""
        practise(tmp_path, "01_sums")
        log = die_after(tmp_path, "02_dots")
        data = log.read_bytes()
        file_of(tmp_path).write_bytes(b"x" * 5000)
        log.write_bytes(data[:100])

        remarks(tmp_path)

        kept = aside(tmp_path)
        name = "history-damaged-20261127T120000.000Z.db"
        assert kept[name] == b"x" * 5000
        assert attempts(tmp_path) == ["01_sums"]


def die_after(root: Path, challenge: str) -> Path:
    """A process begins a challenge and dies; the log that it leaves behind."""
    done = subprocess.run([sys.executable, "-c", DIES, str(root), challenge])
    assert done.returncode == 9
    log = file_of(root).with_name("history.db-wal")
    assert log.stat().st_size > 0
    return log


class TestBackup:
    def test_it_is_made_once_a_day(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the first opening a day after the last one; it holds what was there then."""
        practise(tmp_path, "01_a")
        practise(tmp_path, "02_b")
        assert in_backup(tmp_path) == ["01_a"]

        at(monkeypatch, NOON + timedelta(hours=23))
        practise(tmp_path, "03_c")
        assert in_backup(tmp_path) == ["01_a"]

        at(monkeypatch, NOON + timedelta(hours=24))
        practise(tmp_path, "04_d")
        assert in_backup(tmp_path) == ["01_a", "02_b", "03_c"]

    def test_there_is_none_of_nothing(self, tmp_path: Path) -> None:
        """An empty history is not worth one."""
        practise(tmp_path)
        practise(tmp_path)

        assert not backup_of(file_of(tmp_path)).exists()

    def test_an_empty_history_never_replaces_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever empties the history has its backup for as long as nothing new is practised."""
        practise(tmp_path, "01_a")
        practise(tmp_path)
        with open_history(tmp_path) as history, history.writing() as db:
            db.execute("DELETE FROM attempt")

        at(monkeypatch, NOON + timedelta(days=3))
        practise(tmp_path)

        assert in_backup(tmp_path) == ["01_a"]

    def test_it_is_complete_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backup that breaks off leaves the one before it, and no rest."""
        practise(tmp_path, "01_a")
        practise(tmp_path)
        at(monkeypatch, NOON + timedelta(days=2))
        monkeypatch.setattr(os, "utime", refuse)

        with pytest.raises(HistoryError):
            open_history(tmp_path)

        assert in_backup(tmp_path) == ["01_a"]
        assert not list((tmp_path / ".llmgrind").glob("*.tmp*"))


def in_backup(root: Path) -> list[str]:
    with closing(sqlite3.connect(backup_of(file_of(root)))) as db:
        return [row[0] for row in db.execute("SELECT challenge FROM attempt ORDER BY id")]


def refuse(*_: object) -> None:
    raise OSError("disk is full")
