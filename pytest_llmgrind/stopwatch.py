"""The clock of a race: it does not count the time that a block of code waited for a CPU.

Knows nothing about pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


def _pauses() -> Callable[[], int] | None:
    """Tells how often this thread gave up its CPU by itself; None where nobody counts that.

    None as well where the thread's CPU clock is too coarse for short blocks.
    """
    try:
        import resource

        which = resource.RUSAGE_THREAD
    except (ImportError, AttributeError):  # Windows, macOS
        return None
    readings = {time.thread_time() for _ in range(100)}
    return (lambda: resource.getrusage(which).ru_nvcsw) if len(readings) > 50 else None


@dataclass
class Stopwatch:
    """Seconds that a block of code takes, without the time that it waited for a CPU.

    A thread that never paused by itself (to sleep, to read, to wait for another thread) was either
    running or held up by other processes, so its CPU time is what it takes on an idle machine.
    Where it did pause, or where no one counts pauses, the time by the wall clock is taken.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.thread_time
    pauses: Callable[[], int] | None = field(default_factory=_pauses)
    _start: tuple[int, float, float] = (0, 0.0, 0.0)

    def start(self) -> None:
        self._start = (self.pauses() if self.pauses else 0, self.wall(), self.cpu())

    def stop(self) -> float:
        cpu, wall = self.cpu(), self.wall()
        pauses, wall_start, cpu_start = self._start
        if self.pauses and self.pauses() == pauses:
            return cpu - cpu_start
        return wall - wall_start
