"""The clock of a race: it does not count the time that a block of code waited for a CPU.

Knows nothing about pytest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

CALIBRATIONS = 101


@dataclass(frozen=True)
class Switches:
    """How often a thread gave up its CPU by itself, and how often it was taken away."""

    paused: int = 0
    interrupted: int = 0


def _switches() -> Callable[[], Switches] | None:
    """Reads the switches of this thread; None where nobody counts them.

    None as well where the thread's CPU clock is too coarse for short blocks.
    """
    try:
        import resource

        which = resource.RUSAGE_THREAD
    except (ImportError, AttributeError):  # Windows, macOS
        return None
    readings = {time.thread_time() for _ in range(100)}
    if len(readings) <= 50:
        return None

    def read() -> Switches:
        usage = resource.getrusage(which)
        return Switches(usage.ru_nvcsw, usage.ru_nivcsw)

    return read


@dataclass(frozen=True)
class Reading:
    """What the clocks and counters showed at one moment."""

    switches: Switches
    wall: float
    cpu: float


@dataclass(frozen=True)
class Stopwatch:
    """Seconds that a block of code takes, without the time that it waited for a CPU.

    A thread that never paused by itself (to sleep, to read, to wait for another thread) was either
    running or held up by other processes, so its CPU time is what it takes on an idle machine.
    Where it did pause, or where no one counts pauses, the time by the wall clock is taken.

    ``own_s`` is what it would show for no code at all, and is taken off. To read a thread's clock
    costs under 2 µs on most machines and 14 µs in some sandboxes: there, an addition would
    otherwise look as slow as ten.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.thread_time
    switches: Callable[[], Switches] | None = field(default_factory=_switches)
    own_s: float = 0.0

    def calibrated(self) -> Stopwatch:
        """The same clocks, with ``own_s`` as it is here and now."""
        bare = replace(self, own_s=0.0)
        shown = [bare.since(bare.start()) for _ in range(CALIBRATIONS)]
        return replace(self, own_s=statistics.median(shown))

    def start(self) -> Reading:
        switches = self.switches() if self.switches else Switches()
        return Reading(switches, self.wall(), self.cpu())

    def since(self, start: Reading) -> float:
        cpu, wall = self.cpu(), self.wall()
        if self.switches and self.switches().paused == start.switches.paused:
            return max(cpu - start.cpu - self.own_s, 0.0)
        return max(wall - start.wall - self.own_s, 0.0)

    def interrupted_since(self, start: Reading) -> bool:
        """Whether another process had the CPU meanwhile: it leaves cold caches behind."""
        if self.switches is None:
            return False
        return self.switches().interrupted != start.switches.interrupted
