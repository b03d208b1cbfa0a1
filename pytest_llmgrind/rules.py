"""``@rule("R3")``: which sentence of the spec a hidden test proves."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., None])


def rule(rule_id: str) -> Callable[[Test], Test]:
    """Mark a hidden test with the rule (``R1``, ``R2``, …) that it proves."""
    if not re.fullmatch(r"R\d+", rule_id):
        raise ValueError(f"rule: wanted an id like R3, got {rule_id!r}")
    return pytest.mark.rule(rule_id)


def rule_of(item: pytest.Item) -> str:
    """The id of the rule that a test proves; empty where it names none."""
    mark = item.get_closest_marker("rule")
    return str(mark.args[0]) if mark else ""
