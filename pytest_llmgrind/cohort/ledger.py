"""What was graded: one file a job, ``<results>/<entrant>/<challenge>.json``, whole or not there.

A job is done when its file says so for the same solution, the same challenge and the same grader.
Anything else is graded again.
"""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec

from pytest_llmgrind import clock, seeds
from pytest_llmgrind.cohort.job import Exam, Job, Settings
from pytest_llmgrind.cohort.run import Outcome
from pytest_llmgrind.plain import line
from pytest_llmgrind.report import json
from pytest_llmgrind.report.result import versions

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA = "llmgrind-cohort/1"
LOCK = ".lock"
BROKEN = ".broken"
NEEDED = ("pytest-llmgrind", "python", "numpy", "hypothesis")
"""Versions that a verdict may hang on."""


class LedgerError(Exception):
    """Results cannot be kept there; one line: where, why, what to do."""


class Budget(msgspec.Struct, frozen=True):
    name: str
    figure: float | None
    reference: float | None


class Test(msgspec.Struct, frozen=True):
    name: str
    stage: str
    rule: str
    verdict: str
    budget: Budget | None
    saw: str = ""


class Graded(msgspec.Struct, frozen=True):
    tests: list[Test]


class Result(msgspec.Struct, frozen=True):
    """What a leaderboard needs of the document of ``--result``."""

    sandbox: str
    challenges: list[Graded]


class Record(msgspec.Struct, frozen=True):
    """A file of the ledger, as far as it is read."""

    schema: str
    entrant: str
    challenge: str
    key: dict[str, str | int | None]
    at: str
    seconds: float
    reason: str
    final: bool
    cut_s: float
    result: Result | None


def key(job: Job, exam: Exam, settings: Settings) -> dict[str, str | int | None]:
    """What a result holds for; where any of it differs, the job is graded again."""
    return {
        "version": exam.manifest.version,
        "challenge_sha256": exam.files.digest,
        "solution_sha256": job.solution.digest,
        "refused": job.refused,
        "seed_sha256": seeds.hash_of(settings.seed),
        **_versions(),
    }


@functools.cache
def _versions() -> dict[str, str | None]:
    known = versions()
    return {name: known.get(name) for name in NEEDED}


@dataclass(eq=False)
class Ledger:
    """The results in a directory, held by this process until it is closed."""

    root: Path
    remarks: list[str] = field(default_factory=list)
    _lock: Any = None

    @classmethod
    def open(cls, root: Path) -> Ledger:
        """Make the directory where it is missing, and keep others out.

        Raises
        ------
        LedgerError
            It cannot be written, or another process grades into it.
        """
        ledger = cls(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            ledger._lock = (root / LOCK).open("wb")
            if fcntl is not None:
                fcntl.flock(ledger._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ledger.close()
            raise LedgerError(f"{line(str(root))}: another llmgrind grade writes there") from None
        except OSError as error:
            ledger.close()
            raise ledger._error(root, error) from None
        for unfinished in root.glob("*/.*.json.*"):  # of a process that was killed
            with contextlib.suppress(OSError):
                unfinished.unlink()
        return ledger

    def done(self, job: Job, exam: Exam, settings: Settings) -> Record | None:
        """The record of a job that needs no more grading."""
        record = self.read(job)
        if record is None or not record.final or record.key != key(job, exam, settings):
            return None
        return None if 0 < record.cut_s < settings.limit_s else record  # it gets more time now

    def read(self, job: Job) -> Record | None:
        """What is there of a job; a file that is none is set aside, with a remark."""
        file = self.file(job)
        try:
            record = msgspec.json.decode(file.read_bytes(), type=Record)
            whose = (record.schema, record.entrant, record.challenge)
            if whose != (SCHEMA, job.entrant, job.challenge):
                raise ValueError("of another layout or job")
            if record.result is not None and len(record.result.challenges) != 1:
                raise ValueError("not one challenge")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(file, error) from None
        except (ValueError, RecursionError) as error:
            self._set_aside(file, error)
            return None
        return record

    def write(self, job: Job, exam: Exam, settings: Settings, outcome: Outcome) -> Record:
        """Keep an outcome. Raises LedgerError."""
        file = self.file(job)
        document = {
            "schema": SCHEMA,
            "entrant": job.entrant,
            "challenge": job.challenge,
            "key": key(job, exam, settings),
            "at": clock.now().astimezone(UTC).isoformat(timespec="seconds"),
            **asdict(outcome),
        }
        try:
            json.save(file, document)
        except OSError as error:
            raise self._error(file, error) from None
        return msgspec.convert(document, Record)

    def file(self, job: Job) -> Path:
        return self.root / job.entrant / f"{job.challenge}.json"

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_aside(self, file: Path, error: Exception) -> None:
        aside = file.with_name(file.name + BROKEN)
        try:
            os.replace(file, aside)
        except OSError as wrong:
            raise self._error(file, wrong) from None
        where = line(str(file.relative_to(self.root)))
        self.remarks.append(f"{where} is no result ({line(str(error))}): now {line(aside.name)}")

    def _error(self, path: Path, error: OSError) -> LedgerError:
        cure = "give another directory with --results"
        return LedgerError(f"{line(str(path))} cannot be used: {error.strerror}; {cure}")
