"""Reading and writing the tables, in short transactions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_llmgrind import clock
from pytest_llmgrind.history.values import SOLVE, Attempt, Change, Hint, HistoryError, Run


@dataclass
class History:
    """The open file. ``remarks`` are said once to whoever opened it."""

    file: Path
    db: sqlite3.Connection
    remarks: list[str] = field(default_factory=list)

    # -- attempts ---------------------------------------------------------------------------

    def begin(
        self,
        challenge: str,
        at: datetime,
        *,
        kind: str = SOLVE,
        minutes: float | None = None,
        bugs: Sequence[str] = (),
    ) -> Attempt:
        """A new attempt; the one before it, if it is open, is closed."""
        with self.writing() as db:
            db.execute(
                "UPDATE attempt SET closed = ? WHERE challenge = ? AND closed IS NULL",
                (clock.text(at), challenge),
            )
            cursor = db.execute(
                "INSERT INTO attempt (challenge, kind, started, minutes, bugs)"
                " VALUES (?, ?, ?, ?, ?)",
                (challenge, kind, clock.text(at), minutes, json.dumps(list(bugs))),
            )
        return self.attempt(int(cursor.lastrowid or 0))

    def attempt(self, id: int) -> Attempt:
        (found,) = self._attempts("WHERE id = ?", id)
        return found

    def current(self, challenge: str) -> Attempt | None:
        """The attempt that was begun last and not ended by another start or a reset."""
        found = self._attempts("WHERE challenge = ? AND closed IS NULL ORDER BY id", challenge)
        return found[-1] if found else None

    def attempts(self, challenge: str | None = None) -> list[Attempt]:
        """All of them, in order of their starts."""
        if challenge is None:
            return self._attempts("ORDER BY id")
        return self._attempts("WHERE challenge = ? ORDER BY id", challenge)

    def mark(self, attempt: Attempt, what: str, at: datetime) -> None:
        """Note when it ``passed``, was ``gave_up`` or ``closed``; what stands there stays."""
        assert what in ("passed", "gave_up", "closed")
        with self.writing() as db:
            db.execute(
                f"UPDATE attempt SET {what} = coalesce({what}, ?) WHERE id = ?",
                (clock.text(at), attempt.id),
            )

    def resume(self, challenge: str, attempt: int | None, at: datetime) -> Attempt | None:
        """Close what is current and go on with an earlier attempt, or with none."""
        with self.writing() as db:
            db.execute(
                "UPDATE attempt SET closed = ? WHERE challenge = ? AND closed IS NULL",
                (clock.text(at), challenge),
            )
            db.execute("UPDATE attempt SET closed = NULL WHERE id = ?", (attempt,))
        return self.current(challenge)

    def add_run(self, attempt: Attempt, run: Run) -> None:
        with self.writing() as db:
            db.execute(
                "INSERT INTO run (attempt, at, seconds, version, stages, rules, of_rules, done)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (attempt.id, clock.text(run.at), run.seconds, run.version, json.dumps(run.stages),
                 run.rules, run.of_rules, run.done),
            )  # fmt: skip

    def add_hint(self, attempt: Attempt, hint: Hint) -> None:
        """A hint that was shown before stays as it is."""
        with self.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO hint (attempt, at, stage, step) VALUES (?, ?, ?, ?)",
                (attempt.id, clock.text(hint.at), hint.stage, hint.step),
            )

    # -- repetition and papers --------------------------------------------------------------

    def cards(self) -> dict[str, dict[str, Any]]:
        """The scheduler's card of each challenge that was passed, the one due first first."""
        rows = self.db.execute("SELECT challenge, card FROM card ORDER BY due, challenge")
        return {row["challenge"]: json.loads(row["card"]) for row in rows}

    def set_card(
        self, challenge: str, card: dict[str, Any], *, due: datetime, at: datetime, rating: int
    ) -> None:
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO card (challenge, due, card) VALUES (?, ?, ?)",
                (challenge, clock.text(due), json.dumps(card)),
            )
            db.execute(
                "INSERT INTO review (challenge, at, rating) VALUES (?, ?, ?)",
                (challenge, clock.text(at), rating),
            )

    def ratings(self) -> dict[str, int]:
        """The rating of each challenge's last pass."""
        rows = self.db.execute("SELECT challenge, rating FROM review ORDER BY id")
        return {row["challenge"]: row["rating"] for row in rows}

    def due(self, until: datetime) -> dict[str, datetime]:
        """Challenges to solve again by then, and since when, the longest due first."""
        rows = self.db.execute(
            "SELECT challenge, due FROM card WHERE due <= ? ORDER BY due, challenge",
            (clock.text(until),),
        )
        return {row["challenge"]: clock.moment(row["due"]) for row in rows}

    def papers(self) -> dict[str, str]:
        """The state of each paper that has one."""
        return {row["title"]: row["state"] for row in self.db.execute("SELECT * FROM paper")}

    def set_paper(self, title: str, state: str, at: datetime) -> None:
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO paper VALUES (?, ?, ?)", (title, state, clock.text(at))
            )

    # -- what can be taken back -------------------------------------------------------------

    def add_change(self, what: str, undo: dict[str, Any], at: datetime) -> None:
        with self.writing() as db:
            db.execute(
                "INSERT INTO change (at, what, undo) VALUES (?, ?, ?)",
                (clock.text(at), what, json.dumps(undo)),
            )

    def last_change(self) -> Change | None:
        row = self.db.execute("SELECT * FROM change ORDER BY id DESC LIMIT 1").fetchone()
        if row is None:
            return None
        at, undo = clock.moment(row["at"]), json.loads(row["undo"])
        return Change(id=row["id"], at=at, what=row["what"], undo=undo)

    def forget_change(self, change: Change) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM change WHERE id = ?", (change.id,))

    # -- rows -------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the file for itself; nested ones join the outermost."""
        if self.db.in_transaction:
            yield self.db
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise HistoryError(f"{self.file}: cannot be written: {error}") from error
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """What SQLite refuses (a full disk, a file that was locked for too long) is one line."""
        self.close()
        if isinstance(error, sqlite3.Error):
            text = f"{self.file}: cannot be used: {error}; nothing is recorded"
            raise HistoryError(text) from error

    def _attempts(self, where: str, *values: Any) -> list[Attempt]:
        rows = self.db.execute(f"SELECT * FROM attempt {where}", values).fetchall()
        return [self._attempt(row) for row in rows]

    def _attempt(self, row: sqlite3.Row) -> Attempt:
        runs = self.db.execute("SELECT * FROM run WHERE attempt = ? ORDER BY id", (row["id"],))
        hints = self.db.execute("SELECT * FROM hint WHERE attempt = ? ORDER BY id", (row["id"],))
        times = {
            key: row[key] and clock.moment(row[key]) for key in ("passed", "gave_up", "closed")
        }
        return Attempt(
            id=row["id"],
            challenge=row["challenge"],
            kind=row["kind"],
            started=clock.moment(row["started"]),
            minutes=row["minutes"],
            bugs=tuple(json.loads(row["bugs"])),
            runs=tuple(_run(run) for run in runs),
            hints=tuple(
                Hint(at=clock.moment(hint["at"]), stage=hint["stage"], step=hint["step"])
                for hint in hints
            ),
            **times,
        )


def _run(row: sqlite3.Row) -> Run:
    return Run(
        at=clock.moment(row["at"]),
        seconds=row["seconds"],
        version=row["version"],
        stages=json.loads(row["stages"]),
        rules=row["rules"],
        of_rules=row["of_rules"],
        done=bool(row["done"]),
    )
