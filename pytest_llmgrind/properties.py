"""``given``: Hypothesis with the same verdict for the same file, every time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

Test = Callable[..., None]


class Unfinished(BaseException):
    """Stands for a NotImplementedError (its ``__cause__``): there is nothing to shrink."""


def given(*, max_examples: int = 40, **strategies: Any) -> Callable[[Test], Test]:
    """``hypothesis.given``, derandomised, without deadline and without database.

    The verdict depends on the test's own text alone: not on a clock, not on what an earlier run
    left behind, not on the machine. An exception that ends the test carries what was drawn as
    ``llmgrind_drawn``.
    """
    settings = hypothesis.settings(
        max_examples=max_examples,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),  # explaining takes seconds
        derandomize=True,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def remembering(**arguments: Any) -> None:
            try:
                test(**arguments)
            except NotImplementedError as error:
                raise Unfinished from error
            except BaseException as error:
                drawn = {name: arguments[name] for name in strategies}
                with suppress(Exception):  # an exception of a learner's own may take no attribute
                    error.llmgrind_drawn = drawn  # type: ignore[attr-defined]
                raise

        drawing: Test = settings(hypothesis.given(**strategies)(remembering))
        drawing.llmgrind_inner = test  # type: ignore[attr-defined]
        return drawing

    return decorate
