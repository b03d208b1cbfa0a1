"""llmgrind show: the spec, laid out on a terminal and as it stands in a pipe."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_llmgrind import spec, workspace
from pytest_llmgrind.cli import main

SPEC = """\
# Sums

## Goal

You will **add**, see [adding](#adding).

## Background

### Adding

A pair has one sum.

```sh
## not a heading
```

### Totals

A list too.

## Rules

- **R1** `add` returns the sum of its arguments. [adding](#adding)

## Out of scope

Products.
"""
WHOLE = workspace.suite()


@pytest.fixture
def suite(suite: Any) -> Any:
    suite.challenge()
    suite.write("challenges/01_sums/spec.md", SPEC)
    return suite


def test_a_pipe_gets_the_spec_as_it_stands(suite: Any) -> None:
    """Plain Markdown, byte for byte."""
    result = suite.llmgrind("show", "1")

    assert result.exit_code == 0
    assert result.stdout == SPEC


@pytest.mark.parametrize("name", ["rules", "Rules", "#rules", "rul"])
def test_a_section_has_several_names(suite: Any, name: str) -> None:
    """Its heading, its anchor and its beginning."""
    assert suite.llmgrind("show", "1", "--section", name).stdout == (
        "## Rules\n\n- **R1** `add` returns the sum of its arguments. [adding](#adding)\n"
    )


def test_a_section_within_a_section_ends_with_its_own(suite: Any) -> None:
    """What failures name after `spec.md#` may be of the third level; code is no heading."""
    adding = "### Adding\n\nA pair has one sum.\n\n```sh\n## not a heading\n```\n"

    assert suite.llmgrind("show", "1", "--section", "adding").stdout == adding
    assert suite.llmgrind("show", "1", "--section", "background").stdout == (
        f"## Background\n\n{adding}\n### Totals\n\nA list too.\n"
    )
    assert suite.llmgrind("show", "1", "--section", "out of scope").stdout == (
        "## Out of scope\n\nProducts.\n"
    )


def test_an_unknown_section_names_those_there_are(suite: Any) -> None:
    """A wrong command line, with the anchors to choose from."""
    result = suite.llmgrind("show", "1", "--section", "budgets")

    assert result.exit_code == 2
    assert result.output == (
        "Error: challenges/01_sums/spec.md has no section 'budgets'; there are: goal, background,"
        " adding, totals, rules, out-of-scope\n"
    )


def test_an_empty_name_is_no_section(suite: Any) -> None:
    """Nothing does not mean the first."""
    assert suite.llmgrind("show", "1", "--section", "").exit_code == 2


def test_a_missing_spec_is_one_line(suite: Any) -> None:
    """The path and the reason."""
    (suite.path / "challenges/01_sums/spec.md").unlink()

    result = suite.llmgrind("show", "1")

    assert result.exit_code == 1
    assert result.output == (
        "Error: challenges/01_sums/spec.md: cannot be read: No such file or directory\n"
    )


def test_an_unknown_challenge_is_a_wrong_command_line(suite: Any) -> None:
    """The nearest ids are named."""
    result = suite.llmgrind("show", "01_sum")

    assert result.exit_code == 2
    assert result.output == "Error: unknown challenge '01_sum'; nearest: 01_sums\n"


def test_it_shows_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a workspace the suite's own specs can be read."""
    monkeypatch.chdir(tmp_path)
    id = WHOLE.ids[0]

    result = CliRunner().invoke(main, ["show", id])

    assert result.stdout == (WHOLE.challenges / id / "spec.md").read_text("utf-8")


@pytest.mark.parametrize("id", WHOLE.ids)
def test_every_anchor_of_the_suite_is_a_section(id: str) -> None:
    """Whatever a failure names after `spec.md#` can be shown."""
    path = WHOLE.challenges / id / "spec.md"
    text = path.read_text("utf-8")

    for rule in spec.load(path).rules:
        section = spec.section(text, rule.anchor)
        assert f"#{spec.slug(section.splitlines()[0].lstrip('# '))}" == rule.anchor


class TestTerminal:
    def test_it_is_laid_out(self, suite: Any) -> None:
        """Headings without their signs, links within the page as their text."""
        text, _ = on_a_terminal(suite, "show", "1", "--section", "goal", lines=24)

        assert "Goal" in text
        assert "##" not in text
        assert "**" not in text
        assert "#adding" not in text
        assert "\x1b[1madd\x1b[0m" in text

    def test_what_fits_is_not_paged(self, suite: Any) -> None:
        """The pager stays out of the way of a short section."""
        _, paged = on_a_terminal(suite, "show", "1", "--section", "goal", lines=24)

        assert not paged

    def test_what_does_not_fit_is_paged(self, suite: Any) -> None:
        """A screen of ten lines is not enough for this spec."""
        _, paged = on_a_terminal(suite, "show", "1", lines=10)

        assert paged


def on_a_terminal(suite: Any, *args: str, lines: int) -> tuple[str, bool]:
    """What a verb prints to a terminal of so many lines, and whether it called the pager."""
    pager = suite.write("pager.sh", f"#!/bin/sh\ntouch '{suite.path}/paged'\ncat\n")
    pager.chmod(0o755)
    env = {**os.environ, "PAGER": str(pager), "TERM": "xterm", "LINES": f"{lines}"}
    env.pop("NO_COLOR", None)
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest_llmgrind.cli", *args]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, env={**env, "COLUMNS": "80"}, cwd=suite.path
    )
    os.close(theirs)
    text = read_all(terminal)
    assert process.wait() == 0
    return text, (suite.path / "paged").exists()


def read_all(terminal: int) -> str:
    """What comes out of a terminal until its program ends."""
    parts = []
    while select.select([terminal], [], [], 60)[0]:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so where the other end was closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()
