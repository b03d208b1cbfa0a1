"""``python -m pytest_llmgrind.cli``: the same as ``llmgrind``."""

from __future__ import annotations

from pytest_llmgrind.cli import main

if __name__ == "__main__":
    main(prog_name="llmgrind")
