"""pytest-llmgrind: what a hidden test imports.

``check`` speaks for a test, ``rule`` names the rule that it proves, ``given`` and ``st`` are
Hypothesis's own under this project's settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis import strategies as st

    from pytest_llmgrind import check
    from pytest_llmgrind.properties import given
    from pytest_llmgrind.rules import rule

__all__ = ["check", "given", "rule", "st"]


def __getattr__(name: str) -> Any:
    """Import on first use: the plugin alone must not pay for NumPy and Hypothesis."""
    from importlib import import_module

    if name == "check":
        return import_module("pytest_llmgrind.check")
    if name == "st":
        return import_module("hypothesis.strategies")
    if name == "given":
        return import_module("pytest_llmgrind.properties").given
    if name == "rule":
        return import_module("pytest_llmgrind.rules").rule
    raise AttributeError(f"module 'pytest_llmgrind' has no attribute {name!r}")
