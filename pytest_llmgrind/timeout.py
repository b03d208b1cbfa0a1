"""Ends a test that hangs, as a failure that says so. pytest-timeout decides when.

pytest-timeout's own exception is ``pytest.fail``, which Hypothesis takes for a failing example and
runs again, this time without a timer. Ours passes through Hypothesis.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

RETRY_S = 1.0


class TimedOut(BaseException):
    """A test took longer than its limit."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no answer within {limit_s:g} s")
        self.limit_s = limit_s


def start(item: pytest.Item, limit_s: float, ours: Callable[[str], bool]) -> bool | None:
    """Raise TimedOut in ``limit_s`` seconds, and again each second if it is swallowed.

    Raises only where a frame of which ``ours(filename)`` holds is on the stack, so never inside
    pytest. None where there are no signals: pytest-timeout's own way is taken.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "SIGALRM") or not in_main:
        return None

    def handler(_signum: int, frame: FrameType | None) -> None:
        if not _debugging() and _on_stack(frame, ours):
            raise TimedOut(limit_s)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, limit_s, RETRY_S)
    return True


def _on_stack(frame: Any, ours: Callable[[str], bool]) -> bool:
    while frame is not None:
        if ours(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _debugging() -> bool:
    import pytest_timeout

    return bool(pytest_timeout.is_debugging())
