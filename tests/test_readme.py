"""The README says what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pytest_llmgrind.catalogue import with_table
from pytest_llmgrind.cli import main
from pytest_llmgrind.manifest import load
from pytest_llmgrind.workspace import Workspace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_table_of_challenges_is_that_of_the_manifests() -> None:
    """`python -m pytest_llmgrind.catalogue README.md` would change nothing."""
    workspace = Workspace(ROOT)
    manifests = [load(workspace.challenges / id) for id in workspace.ids]

    assert with_table(README, manifests) == README


def test_it_is_short() -> None:
    """A README of more than 200 lines is a manual."""
    assert README.count("\n") <= 200


def test_every_link_leads_somewhere() -> None:
    """Relative links name files of the repository."""
    links = re.findall(r"\]\(([^)#]+)\)", README)

    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]

    assert links
    assert missing == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/writing-a-challenge.md"])
def test_every_verb_that_a_page_names_exists(page: str) -> None:
    """`llmgrind <verb>` in a page is a verb of the command line."""
    text = (ROOT / page).read_text("utf-8")
    verbs = set(re.findall(r"(?:`|    |&& )llmgrind ([a-z]+)\b", text))

    assert verbs
    assert verbs <= set(main.list_commands(None))  # type: ignore[arg-type]


def test_every_extra_that_it_names_exists() -> None:
    """`pytest-llmgrind[extra]` can be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(re.findall(r"pytest-llmgrind\[(\w+)\]", README))

    assert extras
    assert extras <= set(project["optional-dependencies"])
