"""``given``: Hypothesis with the same verdict for the same file, every time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

from pytest_llmgrind import seeds

try:
    from hypothesis.internal.conjecture import providers
except ImportError:  # before 6.124
    providers = None  # type: ignore[assignment]

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
        if (number := seeds.secret_number(test.__qualname__)) is not None:
            drawing = hypothesis.seed(number)(drawing)

        @functools.wraps(drawing)
        def steady(*args: Any, **fixtures: Any) -> None:
            with _no_constants_of_others():
                drawing(*args, **fixtures)

        steady.llmgrind_inner = test  # type: ignore[attr-defined]
        return steady

    return decorate


def drawn_with(error: BaseException) -> dict[str, Any]:
    """What Hypothesis had drawn when ``error`` came, by name; empty where it drew nothing."""
    return dict(vars(error).get("llmgrind_drawn", {}))


@contextmanager
def _no_constants_of_others() -> Iterator[None]:
    """Hypothesis also draws numbers that stand in modules which happen to be imported.

    Those are the learner's own files, a conftest.py, this plugin where it is installed for
    editing: no verdict may depend on them. Two names of Hypothesis are touched; where a version
    has others, its constants stay.
    """
    own = {"_get_local_constants": _no_constants, "CONSTANTS_CACHE": _CACHE}
    if any(not hasattr(providers, name) for name in own):
        yield
        return
    before = {name: getattr(providers, name) for name in own}
    vars(providers).update(own)
    try:
        yield
    finally:
        vars(providers).update(before)


def _no_constants() -> Any:
    from hypothesis.internal.constants_ast import Constants

    return Constants()


_CACHE: dict[Any, Any] = {}
"""What Hypothesis keeps of constants, apart from what it keeps for other tests."""
