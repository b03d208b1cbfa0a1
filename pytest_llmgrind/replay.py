"""Calls a hidden test again as it was called when it failed: the same arguments and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmgrind.properties import drawn_with
from pytest_llmgrind.seeds import generator


def call_of(item: pytest.Function, error: BaseException, **others: Any) -> Callable[[], None]:
    """The test with its fixtures, what Hypothesis drew when ``error`` came, and ``others``."""
    test = getattr(item.obj, "llmgrind_inner", item.obj)
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    arguments |= drawn_with(error) | others
    if "rng" in arguments:
        arguments["rng"] = generator(item.nodeid)

    def call() -> None:
        test(**arguments)

    return call
