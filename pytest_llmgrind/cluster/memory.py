"""Memory of a rank: what it holds by its own word, what waits in its buffers, what it allocated."""

from __future__ import annotations

import tracemalloc
from typing import Any


class Ledger:
    """Bytes that one rank holds over simulated time: declared ones and received ones. Exact."""

    def __init__(self) -> None:
        self._held = 0
        self._changes: list[tuple[float, int]] = []

    def hold(self, at_s: float, nbytes: int) -> None:
        """The program says that it holds ``nbytes`` more, or less, from ``at_s`` on."""
        if self._held + nbytes < 0:
            raise ValueError(f"nbytes: free({-nbytes}) where {self._held} are held")
        self._held += nbytes
        self.add(at_s, nbytes)

    def add(self, at_s: float, nbytes: int) -> None:
        self._changes.append((at_s, nbytes))

    @property
    def peak_bytes(self) -> int:
        """The most at any time; changes at one time count in the order in which they were made."""
        now = peak = 0
        for _, nbytes in sorted(self._changes, key=lambda change: change[0]):
            now += nbytes
            peak = max(peak, now)
        return peak


class Tracer:
    """What one rank's program allocates, on top of its arguments: tracemalloc while it runs.

    One program runs at a time, so what is allocated meanwhile is its own. What the network
    allocates is not counted until the program is handed it.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._now = 0
        self._before: int | None = None

    def resume(self) -> None:
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def pause(self) -> None:
        if self._before is None:
            return
        current, peak = tracemalloc.get_traced_memory()
        self.peak_bytes = max(self.peak_bytes, self._now + peak - self._before)
        self._now += current - self._before
        self._before = None

    def given(self, value: Any) -> None:
        """The program gets an array, or a list of them, that the network allocated."""
        arrays = value if isinstance(value, list) else [value]
        self._now += sum(int(getattr(array, "nbytes", 0)) for array in arrays)
        self.peak_bytes = max(self.peak_bytes, self._now)
