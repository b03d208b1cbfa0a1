"""Installed and unused, the plugin costs nothing."""

from __future__ import annotations

from typing import Any

CONFTEST = """
    import sys

    HEAVY = ("numpy", "hypothesis", "rich", "click", "pynvml", "pytest_benchmark")

    def pytest_unconfigure():
        loaded = [m for m in sys.modules if m.partition(".")[0] in ("pytest_llmgrind", *HEAVY)]
        print("\\nloaded", *sorted(loaded))
"""


def test_an_unused_plugin_imports_its_entry_point_alone(suite: Any) -> None:
    """In a project without challenges nothing else of ours is loaded, and nothing heavy."""
    suite.write("conftest.py", CONFTEST)
    suite.write("test_own.py", "def test_own(): pass\n")

    result = suite.run_process("-p", "no:cacheprovider", plugins=())

    result.assert_outcomes(passed=1)
    assert result.outlines[-1] == "loaded pytest_llmgrind pytest_llmgrind.plugin"


def test_an_empty_project_is_as_empty_as_ever(suite: Any) -> None:
    """Without any test pytest's exit code stays, and nothing is loaded to find that out."""
    suite.write("conftest.py", CONFTEST)

    result = suite.run_process("-m", "not slow", plugins=())

    assert result.ret == 5
    assert result.outlines[-1] == "loaded pytest_llmgrind pytest_llmgrind.plugin"
