"""Timed tests run alone, whichever way xdist deals them out.

The processes of a run share a lock. Around an ordinary test it is held shared, around a timed test
exclusively, so nothing else runs while something is timed. Nothing of xdist is used but the name of
its run or of its temporary directory, and a process that dies lets go of its locks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind.bench_bridge import measuring
from pytest_llmgrind.grading import is_timed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VARIABLE = "LLMGRIND_LOCK"
"""Names the lock file of a run of several processes that xdist did not start."""

TURNSTILE, ROOM = 0, 1  # bytes of the lock file, each a lock of its own


def register(config: pytest.Config) -> None:
    """Hold the lock around the tests of this process, if it is one of several."""
    path = lock_file(config)
    if fcntl is not None and path is not None:
        config.pluginmanager.register(Alone(path, measuring(config)), "llmgrind-alone")


def lock_file(config: pytest.Config) -> Path | None:
    """Where the processes of this run meet; None where there is one process."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return None
    if own := config.getoption("basetemp", None):  # the controller's, and then the worker's name
        return Path(own).parent / "llmgrind.lock"
    return Path(tempfile.gettempdir(), f"llmgrind-{worker['testrunuid']}.lock")


class Room:
    """A room that many may share or one may have, with a turnstile before it.

    Everyone enters through the turnstile, and who wants the room alone stays in it, so that nobody
    overtakes while the room empties. Both are record locks: `flock` would outlive a process that
    died and left a forked child.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._held(TURNSTILE):
            self._lock(ROOM, fcntl.LOCK_SH)
        try:
            yield
        finally:
            self._lock(ROOM, fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._held(TURNSTILE), self._held(ROOM):
            yield

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _held(self, byte: int) -> Iterator[None]:
        self._lock(byte, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._lock(byte, fcntl.LOCK_UN)

    def _lock(self, byte: int, how: int) -> None:
        fcntl.lockf(self._file, how, 1, byte)


class Alone:
    """The hooks of one process of a run that has several."""

    def __init__(self, path: Path, measuring: bool) -> None:
        self.path, self.measuring = path, measuring
        self.room: Room | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Workers of one run collect the same tests, so all of them take the lock or none does."""
        if VARIABLE in os.environ or any(map(self._times, session.items)):
            self.room = self._open()

    def _times(self, item: pytest.Item) -> bool:
        return self.measuring and is_timed(item)

    def _open(self) -> Room:
        try:
            return Room(self.path)
        except OSError as error:
            text = f"{self.path}: cannot be a lock file: {error.strerror}"
            raise pytest.UsageError(text) from error

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Outside of everything else: to wait is no time of the test."""
        if self.room is None:
            return (yield)
        with self.room.alone() if self._times(item) else self.room.shared():
            return (yield)

    def pytest_unconfigure(self) -> None:
        if self.room is not None:
            self.room.close()
