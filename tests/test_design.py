"""docs/design.md lists the modules that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_is_listed_and_every_listed_one_exists() -> None:
    """Someone should guess the file from the feature, and the feature from the file."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    listed = set(re.findall(r"^      ([a-z_]+(?:\.py|/)) ", text, re.MULTILINE))

    package = ROOT / "pytest_llmgrind"
    files = {path.name for path in package.glob("*.py") if path.name != "__init__.py"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}

    assert listed == files | folders
