"""The file: made, checked, backed up once a day, set aside where it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pytest_llmgrind import clock
from pytest_llmgrind.history.store import History
from pytest_llmgrind.history.values import Attempt, HistoryError

DIRECTORY = ".llmgrind"
SCHEMA = 1
WAIT_S = 10.0
"""How long to wait for another process that writes."""
BACKUP_EVERY = timedelta(days=1)
LOG_HEADS = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How SQLite's write-ahead logs begin."""
TABLES = """
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, challenge TEXT NOT NULL, kind TEXT NOT NULL, started TEXT NOT NULL,
    minutes REAL, bugs TEXT NOT NULL DEFAULT '[]', passed TEXT, gave_up TEXT, closed TEXT);
CREATE INDEX attempt_of ON attempt (challenge, id);
CREATE TABLE run (
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL REFERENCES attempt ON DELETE CASCADE,
    at TEXT NOT NULL, seconds REAL NOT NULL, version INTEGER NOT NULL, stages TEXT NOT NULL,
    rules INTEGER NOT NULL, of_rules INTEGER NOT NULL, done INTEGER NOT NULL);
CREATE TABLE hint (
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL REFERENCES attempt ON DELETE CASCADE,
    at TEXT NOT NULL, stage TEXT NOT NULL, step INTEGER NOT NULL, UNIQUE (attempt, stage, step));
CREATE TABLE card (challenge TEXT PRIMARY KEY, due TEXT NOT NULL, card TEXT NOT NULL);
CREATE TABLE review (
    id INTEGER PRIMARY KEY, challenge TEXT NOT NULL, at TEXT NOT NULL, rating INTEGER NOT NULL);
CREATE TABLE paper (title TEXT PRIMARY KEY, state TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE change (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, what TEXT NOT NULL, undo TEXT NOT NULL);
"""


def file_of(root: Path) -> Path:
    """Where the history of the workspace ``root`` is."""
    return root / DIRECTORY / "history.db"


def open_history(root: Path, *, make: bool = True) -> History:
    """The history of the workspace ``root``; made where there is none.

    A file that is lost or damaged (that one is set aside) is replaced by the latest backup, or by
    an empty history: ``remarks`` says so. Without ``make``, for who only reads, nothing is written
    where there is none (what comes back is empty, and kept nowhere), and no writer is waited for.

    Raises
    ------
    HistoryError
        The file cannot be written, or a newer llmgrind made it.
    """
    file = file_of(root)
    try:
        if not make and not _is_there(file) and not _is_there(backup_of(file)):
            return History(file, _connect(Path(":memory:")))
        file.parent.mkdir(parents=True, exist_ok=True)
        remarks: list[str] = []
        if (db := _opened(file)) is None:
            db, remarks = _mended(file)
        history = History(file, db, remarks)
        try:
            if make:
                _wait_for_turn(db)
            _back_up(history)
        except BaseException:
            history.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise HistoryError(f"{file}: cannot be used: {error}; nothing is recorded") from error
    return history


def glance(root: Path, challenge: str) -> Attempt | None:
    """The current attempt as it stands in the file; None where that cannot be read.

    Makes, mends and waits for nothing: for a question that is asked during a run.
    """
    file = file_of(root)
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            db.row_factory = sqlite3.Row
            return History(file, db).current(challenge)
    except (sqlite3.Error, ValueError):
        return None


def _connect(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(file, timeout=WAIT_S, isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        _migrate(file, db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(file: Path, db: sqlite3.Connection) -> None:
    """Make the tables; older schemas will be brought up to date here, step by step."""
    version = _schema_of(db)
    if version > SCHEMA:
        raise HistoryError(
            f"{file}: has schema {version}, and this llmgrind knows {SCHEMA}: upgrade"
            " pytest-llmgrind; nothing is recorded"
        )
    if version == SCHEMA:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if _schema_of(db) == 0:  # no other process was faster
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _schema_of(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _is_there(file: Path) -> bool:
    return file.exists() and (not file.is_file() or file.stat().st_size > 0)


def _is_lost(file: Path) -> bool:
    """There is a backup, and not that of which it is the backup."""
    return not _is_there(file) and _is_there(backup_of(file))


def _wait_for_turn(db: sqlite3.Connection) -> None:
    """Who cannot write is to know it before it has done anything else."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


@contextmanager
def _turn(file: Path, begin: str) -> Iterator[None]:
    """Many may open the file at once (BEGIN), or one may mend it (BEGIN EXCLUSIVE).

    Who opened a file while it was replaced would write to the old one, or remove the new one's
    log on closing. Two that make one file at once, or switch it to a write-ahead log, are told by
    SQLite that it is locked, without waiting.
    """
    lock = sqlite3.connect(file.with_name("mending.lock"), timeout=WAIT_S, isolation_level=None)
    with closing(lock):
        lock.execute(begin)
        lock.execute("PRAGMA user_version")  # a plain BEGIN takes its lock when it first reads
        yield


def _opened(file: Path) -> sqlite3.Connection | None:
    """None where there is no file, or none that is sound."""
    with _turn(file, "BEGIN"):
        return _sound(file) if _is_there(file) and not _has_broken_log(file) else None


def _mended(file: Path) -> tuple[sqlite3.Connection, list[str]]:
    """Make a file that is not there or damaged, and open it; what is to be said about it."""
    with _turn(file, "BEGIN EXCLUSIVE"):
        remarks = list(_mend(file))
        if not _is_there(file):
            fresh = _fresh(file)
            _connect(fresh).close()
            fresh.replace(file)
        return _connect(file), remarks


def _mend(file: Path) -> Iterator[str]:
    """Nothing, if another process was faster."""
    if _is_lost(file):
        yield f"{file}: lost; {_restore(file)}"
    if _has_broken_log(file):
        yield _without_log(file)
    if _is_there(file):
        if db := _sound(file):
            db.close()
        else:
            yield _set_aside(file)


def _sound(file: Path) -> sqlite3.Connection | None:
    """A connection to the file, unless that is damaged."""
    try:
        return _connect(file)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return None


def _has_broken_log(file: Path) -> bool:
    """The write-ahead log is no log: SQLite would pass over it in silence, and then remove it."""
    try:
        with _log_of(file).open("rb") as stream:
            head = stream.read(len(LOG_HEADS[0]))
    except OSError:
        return False
    return bool(head) and head not in LOG_HEADS


def _without_log(file: Path) -> str:
    """Move a damaged log out of the way, with a copy of what it belonged to."""
    aside = _aside(file)
    shutil.copyfile(file, aside)
    _log_of(file).rename(_log_of(aside))
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)  # SQLite makes it anew
    return (
        f"{_log_of(file)}: damaged, set aside as {_log_of(aside).name}; what was recorded last"
        " may be missing"
    )


def _set_aside(file: Path) -> str:
    """Move a damaged file, with its log, out of the way; put the backup in its place."""
    aside = _aside(file)
    for suffix in ("-wal", "-shm", ""):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return f"{file}: damaged, set aside as {aside.name}; {_restore(file)}"


def _aside(file: Path) -> Path:
    """A name that is free: two of one moment are told apart."""
    stamp, number = clock.stamp(clock.now()), 1
    while (aside := file.with_name(f"{file.stem}-damaged-{stamp}.db")).exists():
        number += 1
        stamp = f"{stamp.partition('-')[0]}-{number}"
    return aside


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def backup_of(file: Path) -> Path:
    return file.with_name("history-backup.db")


def _restore(file: Path) -> str:
    """Put the backup in the place of the file; a backup that is damaged is kept as well."""
    backup = backup_of(file)
    if not _is_there(backup):
        return "there was no backup yet: the history begins anew"
    made = datetime.fromtimestamp(backup.stat().st_mtime).astimezone()
    fresh = _fresh(file)
    try:
        shutil.copyfile(backup, fresh)
        _connect(fresh).close()
    except (sqlite3.DatabaseError, HistoryError):
        aside = _aside(backup)
        backup.rename(aside)
        return f"the backup cannot be read either, see {aside.name}: the history begins anew"
    else:
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return f"{backup.name} of {clock.shown(made)} took its place"


def _back_up(history: History) -> None:
    """Once a day, of what is known to be sound; complete or not at all."""
    backup, now = backup_of(history.file), clock.now().timestamp()
    if backup.exists() and now - backup.stat().st_mtime < BACKUP_EVERY.total_seconds():
        return
    if not history.db.execute("SELECT 1 FROM attempt LIMIT 1").fetchone():
        return  # nothing to keep
    fresh = _fresh(backup)
    try:
        with closing(sqlite3.connect(fresh)) as target:
            history.db.backup(target)
        os.utime(fresh, (now, now))
        fresh.replace(backup)
    finally:
        fresh.unlink(missing_ok=True)


def _fresh(file: Path) -> Path:
    """Where this process writes what will take the place of ``file``."""
    return file.with_name(f"{file.stem}-{os.getpid()}.tmp")
