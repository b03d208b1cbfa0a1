"""Ends a test that hangs, as a failure that says so. pytest-timeout decides when.

pytest-timeout's own exception is ``pytest.fail``, which Hypothesis takes for a failing example and
runs again, this time without a timer; its other way prints the lines of hidden tests. Ours passes
through Hypothesis and comes again until it gets through.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

RETRY_S = 1.0
GRACE_S = 30.0
"""A test that could not be ended for so long ends the process."""

Owns = Callable[[str], bool]


class TimedOut(BaseException):
    """A test took longer than its limit."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no answer within {limit_s:g} s")
        self.limit_s = limit_s


def start(
    item: pytest.Item, settings: Any, *, ours: Owns, give_up: Callable[[float], None]
) -> bool:
    """Raise TimedOut when the time of ``settings`` is up, and again while it is swallowed.

    It is raised only where a frame of which ``ours(filename)`` holds is on the stack, so never
    inside pytest. Where nothing of that helps (C code that does not return), ``give_up(limit_s)``
    is called in another thread and the process ends.
    """
    option = item.config.getoption("timeout", None)
    limit_s = float(settings.timeout if option is None else option)
    if limit_s <= 0:
        return True
    patient = settings.disable_debugger_detection is not True
    restore = _set_alarm(limit_s, ours, patient) if _has_signals() else None
    _watch.begin(limit_s, 0.0 if restore is None else GRACE_S, give_up, patient)

    def cancel() -> None:
        _watch.end()
        if restore is not None:
            restore()

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks
    return True


def last_words(text: str) -> None:
    """To the terminal, whatever Python's own streams are at the moment."""
    os.write(2, f"{text}\n".encode(errors="replace"))


def _has_signals() -> bool:
    in_main = threading.current_thread() is threading.main_thread()
    return hasattr(signal, "SIGALRM") and in_main


def _set_alarm(limit_s: float, ours: Owns, patient: bool) -> Callable[[], None]:
    rings = 0

    def ring(_signum: int, frame: FrameType | None) -> None:
        nonlocal rings
        if (patient and _debugging()) or not _on_stack(frame, ours):
            return
        rings += 1
        if rings > 1:
            _insist(frame, ours, limit_s)
        raise TimedOut(limit_s)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s, RETRY_S)

    def restore() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        if getattr(sys.gettrace(), "__module__", "") == __name__:
            sys.settrace(None)

    return restore


def _insist(frame: FrameType | None, ours: Owns, limit_s: float) -> None:
    """Get out of ``while True`` around ``except BaseException``: raise inside the handler too."""

    def again(frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line" and ours(frame.f_code.co_filename):
            raise TimedOut(limit_s)
        return again

    while frame is not None:
        if ours(frame.f_code.co_filename):
            frame.f_trace = again
        frame = frame.f_back
    sys.settrace(again)


def _on_stack(frame: FrameType | None, ours: Owns) -> bool:
    while frame is not None:
        if ours(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _debugging() -> bool:
    import pytest_timeout

    return bool(pytest_timeout.is_debugging())


@dataclass
class _Watch:
    """A thread that sees to it that the process ends where a test cannot be ended."""

    deadline: float = math.inf
    limit_s: float = 0.0
    patient: bool = True
    give_up: Callable[[float], None] = lambda limit_s: None
    thread: threading.Thread | None = None

    def begin(
        self, limit_s: float, grace_s: float, give_up: Callable[[float], None], patient: bool
    ) -> None:
        self.limit_s, self.give_up, self.patient = limit_s, give_up, patient
        self.deadline = time.monotonic() + limit_s + grace_s
        if self.thread is None or not self.thread.is_alive():  # a forked child has none
            self.thread = threading.Thread(target=self._run, name="llmgrind-watch", daemon=True)
            self.thread.start()

    def end(self) -> None:
        self.deadline = math.inf

    def _run(self) -> None:
        while True:
            time.sleep(RETRY_S / 4)
            if time.monotonic() > self.deadline and not (self.patient and _debugging()):
                try:
                    self.give_up(self.limit_s)
                finally:
                    os._exit(1)


_watch = _Watch()
