"""``python -m pytest_llmgrind.cohort.child PID CORES …``: pytest that ends when its parent does.

It keeps to CORES (0,2, or nothing for any), as does what it starts.

A grader that is killed must not leave graders behind: its next start would grade the same again
beside them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress

_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)
PERIOD_S = 0.5


def stay_with(parent: int) -> None:
    """From now on this process is killed when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was faster
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PERIOD_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    stay_with(int(sys.argv.pop(1)))
    if cores := sys.argv.pop(1):
        with suppress(OSError):  # of cores that are gone it has no use
            os.sched_setaffinity(0, map(int, cores.split(",")))
    # A shell has background jobs ignore it, a worker of Ray blocks it: both are inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
