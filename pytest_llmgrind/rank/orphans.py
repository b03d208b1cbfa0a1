"""Processes that a rank started and left behind, also those in a session of their own. Linux only.

A process whose parent ends goes to the nearest ancestor that has said that it takes them, else to
the first process of the system, where nobody finds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PATIENCE_S = 2.0
_SET_CHILD_SUBREAPER = 36  # of prctl(2)


def adopt() -> None:
    """From now on the orphans below this process become its children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end() -> None:
    """End every child of this process, and their children, which then become its own."""
    deadline = time.monotonic() + PATIENCE_S
    while sys.platform == "linux" and _reap() and time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _reap() -> bool:
    """Take the exit codes of children that have ended; whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    own = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1]
            own += [int(stat.parent.name)] if int(parent) == os.getpid() else []
    return own
