"""``given``: Hypothesis with the same verdict for the same file, every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck


def given(*, max_examples: int = 40, **strategies: Any) -> Callable[[Any], Any]:
    """``hypothesis.given``, derandomised, without deadline and without database.

    The verdict depends on the test's own text alone: not on a clock, not on what an earlier run
    left behind, not on the machine.
    """
    settings = hypothesis.settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def decorate(test: Any) -> Any:
        return settings(hypothesis.given(**strategies)(test))

    return decorate
