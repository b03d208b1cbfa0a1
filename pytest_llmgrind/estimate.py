"""A median and where it lies, a slope, and what they say about a limit.

Knows nothing about pytest.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

MET, OVER, UNDECIDED = "met", "over", "undecided"


@dataclass(frozen=True)
class Interval:
    """Where a median lies; ``sure`` is false where too few values were seen to say."""

    low: float
    high: float
    sure: bool = True

    @property
    def width(self) -> float:
        """Relative to the larger end."""
        largest = max(abs(self.low), abs(self.high))
        return (self.high - self.low) / largest if largest else 0.0

    def verdict(self, limit: float) -> str:
        if self.sure and self.high < limit:
            return MET
        return OVER if self.sure and self.low > limit else UNDECIDED


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Least-squares slope of log(cost) over log(size).

    >>> slope([1, 2, 4], [3, 12, 48])
    2.0
    """
    return statistics.linear_regression(
        [math.log2(size) for size in sizes], [math.log2(cost) for cost in costs]
    ).slope


def interval(values: Sequence[float], error: float) -> Interval:
    """Where the median lies, wrong with a chance of at most ``error`` for any distribution.

    The k-th smallest of n values lies above the median with the chance that fewer than k of n fair
    coins show heads; likewise the k-th largest lies below it.

    >>> interval([7, 1, 3, 9, 5, 2, 8, 4], error=0.01)
    Interval(low=1, high=9, sure=True)
    """
    ranked, count = sorted(values), len(values)
    tail, term, rank = 0, 1, 0  # term is the number of ways to see `rank` heads
    allowed = Fraction(error) / 2 * 2**count
    while tail + term <= allowed:
        tail += term
        term = term * (count - rank) // (rank + 1)
        rank += 1
    if rank == 0:
        return Interval(ranked[0], ranked[-1], sure=False)
    return Interval(ranked[rank - 1], ranked[count - rank])
