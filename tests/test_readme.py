"""The README says what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pytest_llmgrind import catalogue
from pytest_llmgrind.cli import main
from pytest_llmgrind.manifest import load
from pytest_llmgrind.workspace import Workspace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
WORKSPACE = Workspace(ROOT)
MANIFESTS = {id: load(WORKSPACE.challenges / id) for id in WORKSPACE.ids}


@pytest.mark.parametrize("page", catalogue.PAGES)
def test_the_tables_of_challenges_are_those_of_the_manifests(page: str) -> None:
    """`python -m pytest_llmgrind.catalogue` would change nothing."""
    text = (ROOT / page).read_text("utf-8")

    assert catalogue.page(text, MANIFESTS.values()) == text


def test_the_map_leaves_no_challenge_out() -> None:
    """Every challenge has a row in its track and a day in the week."""
    text = (ROOT / "challenges/README.md").read_text("utf-8")
    tracks, week = text.split("## With a week")

    for id in MANIFESTS:
        assert f"| [{id}]({id}/spec.md) |" in tracks
        assert f"[{id}]({id}/spec.md)" in week


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        ("02_attention; 03_rope, 05_rope", "day 2: 05_rope is no challenge"),
        ("02_attention; 03_rope, 02_attention", "day 2: 02_attention comes twice"),
        ("01_mlp; 03_rope, 02_attention", "day 2: 03_rope comes before 02_attention"),
    ],
)
def test_a_path_that_cannot_be_gone_is_refused(plan: str, wrong: str) -> None:
    """The error says which day, which challenge, and why."""
    with pytest.raises(catalogue.PathError, match=f"^{wrong}$"):
        catalogue.path(plan, MANIFESTS)


def test_it_is_short() -> None:
    """A README of more than 200 lines is a manual."""
    assert README.count("\n") <= 200


@pytest.mark.parametrize("page", catalogue.PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Relative links name files of the repository."""
    file = ROOT / page
    links = re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8"))

    missing = [link for link in links if "://" not in link and not (file.parent / link).exists()]

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
