"""The file: made, checked, backed up once a day, set aside where it is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
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


def open_history(root: Path) -> History:
    """The history of the workspace ``root``; made where there is none.

    A damaged file is set aside, and the latest backup, or an empty history, takes its place:
    ``remarks`` says so.

    Raises
    ------
    HistoryError
        The file cannot be written, or a newer llmgrind made it.
    """
    file, remarks = file_of(root), []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = _connect(file)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            remarks.append(_set_aside(file))
            db = _connect(file)
        history = History(file, db, remarks)
        _back_up(history)
    except (OSError, sqlite3.OperationalError) as error:
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
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise HistoryError(
                f"{file}: has schema {version}, and this llmgrind knows {SCHEMA}: upgrade"
                " pytest-llmgrind; nothing is recorded"
            )
        if version == 0:
            for statement in TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _set_aside(file: Path) -> str:
    """Move a damaged file, with its log, out of the way; put the backup in its place."""
    damaged = file.with_name(f"history-damaged-{clock.stamp(clock.now())}.db")
    for suffix in ("-wal", "-shm", ""):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(damaged.with_name(damaged.name + suffix))
    kept = _restore(backup_of(file), file)
    return f"{file}: damaged, set aside as {damaged.name}; {kept}"


def backup_of(file: Path) -> Path:
    return file.with_name("history-backup.db")


def _restore(backup: Path, file: Path) -> str:
    if not backup.exists():
        return "there was no backup yet: the history begins anew"
    try:
        with closing(_connect(backup)) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)
    except (sqlite3.Error, HistoryError):
        file.unlink(missing_ok=True)
        return f"{backup.name} cannot be read either: the history begins anew"
    made = datetime.fromtimestamp(backup.stat().st_mtime).astimezone()
    return f"{backup.name} of {clock.shown(made)} took its place"


def _back_up(history: History) -> None:
    """Once a day, of what is known to be sound; complete or not at all."""
    backup = backup_of(history.file)
    if backup.exists():
        age = clock.now().timestamp() - backup.stat().st_mtime
        if age < BACKUP_EVERY.total_seconds():
            return
    elif not history.db.execute("SELECT 1 FROM attempt LIMIT 1").fetchone():
        return
    fresh = backup.with_suffix(".tmp")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh)) as target:
        history.db.backup(target)
    fresh.replace(backup)
