"""llmgrind: what each verb does, says and refuses."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_llmgrind import gate, workspace
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cli import main

MANIFEST = """
title = "Sums"
track = "core"
summary = "Add."
minutes = 20
[solution]
[[stage]]
name = "pairs"
file = "hidden/1_pairs.py"
title = "Add two arrays"
hints = ["where", "idea", "line"]
"""
STUB = '''"""Stub of {id}."""


def add(a, b):
    """The sum."""
    raise NotImplementedError("{id}, stage 1")


def total(xs):
    """The sum."""
    raise NotImplementedError("{id}, stage 1")
'''


class Shell:
    """A workspace, and the verbs run in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        monkeypatch.chdir(root)
        monkeypatch.delenv("NO_COLOR", raising=False)

    def challenge(self, id: str) -> Path:
        directory = self.root / "challenges" / id
        self.write(f"challenges/{id}/challenge.toml", MANIFEST)
        self.write(f"challenges/{id}/stub.py", STUB.format(id=id))
        self.write(f"challenges/{id}/hidden/1_pairs.py", "")
        return directory

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def cd(self, path: str) -> None:
        self.monkeypatch.chdir(self.root / path)

    def run(self, *args: str) -> Result:
        result = CliRunner().invoke(main, args, prog_name="llmgrind")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def lines(self, *args: str) -> list[str]:
        return self.run(*args).output.splitlines()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell(tmp_path, monkeypatch)
    for id in ("02_attention", "04_kv_cache", "10_paged_attention"):
        shell.challenge(id)
    return shell


class TestStart:
    def test_it_copies_the_stub_and_says_what_to_do(self, shell: Shell) -> None:
        """start writes solutions/<id>.py, and names the spec and the next command."""
        result = shell.run("start", "04_kv_cache")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "solutions/04_kv_cache.py is yours: Sums, 1 stage, about 20 minutes",
            "spec  challenges/04_kv_cache/spec.md",
            "next  pytest challenges/04_kv_cache",
        ]
        stub = shell.root / "challenges/04_kv_cache/stub.py"
        assert (shell.root / "solutions/04_kv_cache.py").read_text() == stub.read_text()

    @pytest.mark.parametrize(
        "name", ["4", "04", "kv_cache", "challenges/04_kv_cache", "challenges/04_kv_cache/stub.py"]
    )
    def test_a_challenge_has_several_names(self, shell: Shell, name: str) -> None:
        """A number, a slug and a path stand for the id."""
        shell.run("start", name)

        assert (shell.root / "solutions/04_kv_cache.py").is_file()

    def test_it_works_from_below_the_workspace(self, shell: Shell) -> None:
        """From inside a challenge, paths are those that the user would type there."""
        shell.cd("challenges/04_kv_cache")

        lines = shell.lines("start", "4")

        assert lines == [
            "../../solutions/04_kv_cache.py is yours: Sums, 1 stage, about 20 minutes",
            "spec  spec.md",
            "next  pytest .",
        ]

    def test_it_never_overwrites(self, shell: Shell) -> None:
        """Where there is a solution, start says what is there, writes nothing and exits with 1."""
        mine = STUB.format(id="04_kv_cache").replace("raise", "return 1  # raise", 1)
        shell.write("solutions/04_kv_cache.py", mine)

        result = shell.run("start", "04_kv_cache")

        assert result.exit_code == 1
        first, *rest = result.output.splitlines()
        assert re.fullmatch(
            r"solutions/04_kv_cache\.py is there already: 1 of 2 functions to do, "
            r"changed \d{4}-\d\d-\d\d \d\d:\d\d; nothing was written",
            first,
        )
        assert rest == [
            "spec  challenges/04_kv_cache/spec.md",
            "next  pytest challenges/04_kv_cache",
        ]
        assert (shell.root / "solutions/04_kv_cache.py").read_text() == mine

    def test_a_package_is_a_solution_too(self, shell: Shell) -> None:
        """A solution that is a package is not shadowed by a fresh stub."""
        shell.write("solutions/04_kv_cache/__init__.py", "")

        result = shell.run("start", "04_kv_cache")

        assert result.exit_code == 1
        assert result.output.splitlines()[0] == (
            "solutions/04_kv_cache is there already: a package; nothing was written"
        )
        assert not (shell.root / "solutions/04_kv_cache.py").exists()

    def test_the_directory_is_the_one_that_pytest_grades(self, shell: Shell) -> None:
        """The ini setting llmgrind_solutions moves the directory for start as well."""
        shell.write("pyproject.toml", '[tool.pytest.ini_options]\nllmgrind_solutions = "mine"\n')

        shell.run("start", "04_kv_cache")

        assert (shell.root / "mine/04_kv_cache.py").is_file()

    def test_another_directory_can_be_named(self, shell: Shell) -> None:
        """--solutions DIR puts the stub there, and the next command names it too."""
        lines = shell.lines("start", "04_kv_cache", "--solutions", "submissions/ada")

        assert (shell.root / "submissions/ada/04_kv_cache.py").is_file()
        assert lines[-1] == "next  pytest challenges/04_kv_cache --solutions submissions/ada"

    def test_a_broken_manifest_is_one_line(self, shell: Shell) -> None:
        """A challenge.toml that cannot be used is named with its key, without a traceback."""
        shell.write("challenges/04_kv_cache/challenge.toml", MANIFEST + "hint = 1\n")

        result = shell.run("start", "04_kv_cache")

        assert result.exit_code == 1
        file = shell.root / "challenges/04_kv_cache/challenge.toml"
        assert result.output.startswith(f"Error: {file}: stage 1.hint: unknown key")
        assert result.output.count("\n") == 1

    def test_a_directory_that_cannot_be_written_is_one_line(self, shell: Shell) -> None:
        """Where the solutions directory is a file, the system's reason is given."""
        shell.write("mine", "")
        shell.write("pyproject.toml", '[tool.pytest.ini_options]\nllmgrind_solutions = "mine"\n')

        result = shell.run("start", "04_kv_cache")

        assert result.exit_code == 1
        file = shell.root / "mine"
        assert result.output == f"Error: {file}: File exists; nothing was written\n"


class TestUnknownId:
    @pytest.mark.parametrize("verb", ["start", "check"])
    def test_the_nearest_are_named(self, shell: Shell, verb: str) -> None:
        """An unknown id is a wrong command line: exit code 2, and the nearest ids."""
        result = shell.run(verb, "04_kv_cach")

        assert result.exit_code == 2
        assert result.output == "Error: unknown challenge '04_kv_cach'; nearest: 04_kv_cache\n"

    def test_a_slug_is_near_too(self, shell: Shell) -> None:
        """A misspelt slug finds its challenge without the number."""
        result = shell.run("start", "atention")

        assert result.output.splitlines() == [
            "Error: unknown challenge 'atention'; nearest: 02_attention, 10_paged_attention"
        ]

    def test_some_are_named_where_none_is_near(self, shell: Shell) -> None:
        """Where nothing is near, some ids show what an id looks like."""
        result = shell.run("start", "zzz")

        assert result.output == (
            "Error: unknown challenge 'zzz'; "
            "there are: 02_attention, 04_kv_cache, 10_paged_attention\n"
        )

    def test_a_number_that_two_have_is_not_guessed(self, shell: Shell) -> None:
        """A name that several challenges answer to is refused, and they are named."""
        shell.challenge("04_other")

        result = shell.run("start", "4")

        assert result.output == "Error: unknown challenge '4'; nearest: 04_kv_cache, 04_other\n"

    def test_outside_of_a_workspace_start_says_how_to_get_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """start writes nothing where there is no workspace, and names the cure."""
        monkeypatch.chdir(tmp_path)
        id = workspace.suite().ids[0]

        result = CliRunner().invoke(main, ["start", id])

        assert result.exit_code == 2
        assert result.output == (
            f"Error: no challenges/ in {tmp_path} or above; "
            "`llmgrind init DIR` lays out a workspace\n"
        )


class TestNew:
    def test_it_takes_the_next_free_number(self, shell: Shell) -> None:
        """A slug without a number gets the number after the highest."""
        lines = shell.lines("new", "losses")

        assert lines == [
            "wrote challenges/11_losses/challenge.toml",
            "wrote challenges/11_losses/spec.md",
            "wrote challenges/11_losses/stub.py",
            "wrote challenges/11_losses/hidden/1_first.py",
            "wrote challenges/11_losses/hidden/bugs.toml",
            "wrote reference/11_losses.py",
            "next  llmgrind check 11_losses",
        ]

    def test_the_manifest_is_valid(self, shell: Shell) -> None:
        """What new writes loads, with the title and the kit that were asked for."""
        shell.run("new", "42_losses", "--title", "Loss functions", "--kit", "torch")

        manifest = manifests.load(shell.root / "challenges/42_losses")
        assert (manifest.title, manifest.kit) == ("Loss functions", "torch")
        assert manifest.solution.imports == ("torch",)

    def test_it_fails_the_gate_only_in_what_the_author_writes(self, shell: Shell) -> None:
        """Each finding of a new challenge is something that only its author can write."""
        shell.run("new", "42_losses")

        lines = shell.lines("check", "42_losses")

        root = "challenges/42_losses"
        assert lines == [
            f"{root}/challenge.toml:3: 5 lines say TODO; write what is missing",
            f"{root}/spec.md:5: 9 lines say TODO; write what is missing",
            "reference/42_losses.py:3: 2 lines say TODO; write what is missing",
            f"{root}/hidden/bugs.toml:1: 1 line says TODO; write what is missing",
            f"{root}/hidden/1_first.py:1: 1 line says TODO; write what is missing",
            f"{root}/hidden/bugs.toml: 0 planted bugs, wanted at least 6; "
            "plant mistakes that people make",
            f"{root}/hidden/1_first.py:7: the reference fails test_the_name_says_the_rule: "
            "42_losses, stage 1; correct the test or 42_losses.py",
            f"{root}/stub.py:20: the example `solve(np.array([1.0, 2.0]))` raises "
            "NotImplementedError: 42_losses, stage 1; correct it, or the reference",
            "1 challenge, 8 findings",
        ]

    @pytest.mark.parametrize(
        ("slug", "text"),
        [
            ("04_losses", "number 04 is taken by 04_kv_cache"),
            ("Losses!", "'Losses!' is no id: wanted small letters, digits and _, like '11_losses'"),
            ("1_sums", "'1_sums' is no id: wanted small letters, digits and _, like '01_sums'"),
            ("7", "'7' is no id: wanted small letters, digits and _, like '07_losses'"),
        ],
    )
    def test_a_slug_that_will_not_do(self, shell: Shell, slug: str, text: str) -> None:
        """A taken number and a slug that is no name are wrong command lines."""
        result = shell.run("new", slug)

        assert result.exit_code == 2
        assert result.output == f"Error: {text}\n"

    def test_it_never_overwrites(self, shell: Shell) -> None:
        """An id that exists is left as it is."""
        before = (shell.root / "challenges/04_kv_cache/stub.py").read_text()

        result = shell.run("new", "04_kv_cache")

        assert result.exit_code == 1
        assert result.output == (
            "Error: challenges/04_kv_cache/challenge.toml is there already; nothing was written\n"
        )
        assert (shell.root / "challenges/04_kv_cache/stub.py").read_text() == before


class TestCheck:
    def test_json_says_the_same(self, shell: Shell) -> None:
        """--json gives each finding as path, line, what and cure, and nothing else on stdout."""
        shell.write("challenges/04_kv_cache/challenge.toml", MANIFEST + "hint = 1\n")

        result = shell.run("check", "04_kv_cache", "--json")

        assert result.exit_code == 1
        data = json.loads(result.output)
        [challenge] = data["challenges"]
        [finding] = challenge.pop("findings")
        assert challenge.pop("seconds") >= 0
        assert challenge == {"id": "04_kv_cache", "counts": False, "fixed": False}
        assert finding == {
            "path": str(shell.root / "challenges/04_kv_cache/challenge.toml"),
            "line": None,
            "what": "stage 1.hint: unknown key; did you mean hints?",
            "cure": "see docs/writing-a-challenge.md",
            "note": False,
        }
        assert data["workspace"] == []

    def test_every_challenge_is_checked_where_none_is_named(self, shell: Shell) -> None:
        """A broken challenge hides no other, and references without a challenge are named."""
        shell.write("reference/03_gone.py", "")
        for id in ("02_attention", "04_kv_cache", "10_paged_attention"):
            shell.write(f"challenges/{id}/challenge.toml", "")
        shell.write("challenges/11_new/spec.md", "")

        lines = shell.lines("check")

        cure = "see docs/writing-a-challenge.md"
        missing = f"title: missing, wanted a text; {cure}"
        assert lines == [
            f"challenges/02_attention/challenge.toml: {missing}",
            f"challenges/04_kv_cache/challenge.toml: {missing}",
            f"challenges/10_paged_attention/challenge.toml: {missing}",
            f"challenges/11_new/challenge.toml: cannot be read: No such file or directory; {cure}",
            "reference/03_gone.py: a reference without a challenge; "
            "add challenges/03_gone or remove it",
            "4 challenges, 5 findings",
        ]

    def test_fix_writes_the_table_of_budgets(self, shell: Shell) -> None:
        """--fix writes what challenge.toml says between the two comments, and says so."""
        spec = "# Sums\n\n## Budgets\n\n<!-- budgets -->\n<!-- /budgets -->\n"
        shell.write("challenges/04_kv_cache/spec.md", spec)

        lines = shell.lines("check", "04_kv_cache", "--fix")

        assert lines[0] == (
            "04_kv_cache: fixed: spec.md has the table of budgets of challenge.toml"
        )
        text = (shell.root / "challenges/04_kv_cache/spec.md").read_text()
        assert text == spec.replace(
            "<!-- budgets -->\n", "<!-- budgets -->\nThis challenge has no budget.\n"
        )

    def test_ctrl_c_is_no_finding(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupt has an exit code of its own, and no traceback."""

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(gate, "check", interrupted)

        result = shell.run("check")

        assert result.exit_code == 130
        assert result.output == "Interrupted\n"

    def test_jobs_has_to_be_a_number_above_0(self, shell: Shell) -> None:
        """A wrong option is a wrong command line."""
        result = shell.run("check", "--jobs", "0")

        assert result.exit_code == 2


class TestOutput:
    def test_a_terminal_shows_progress(self, shell: Shell) -> None:
        """On a terminal a bar counts challenges; what is found goes to standard output alone."""
        shell.write("challenges/04_kv_cache/challenge.toml", "")
        terminal, theirs = pty.openpty()
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "check", "4", "2"]

        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=theirs, text=True)

        os.close(theirs)
        bar = os.read(terminal, 1 << 16).decode()
        os.close(terminal)
        assert "0/2" in bar
        assert done.stdout.splitlines() == [
            "challenges/04_kv_cache/challenge.toml: title: missing, wanted a text; "
            "see docs/writing-a-challenge.md",
            "challenges/02_attention/spec.md: the file is missing; write the task and its rules",
            "reference/02_attention.py: the file is missing; write the model solution",
            "challenges/02_attention/hidden/bugs.toml: the file is missing; write the planted bugs",
            "2 challenges, 4 findings",
        ]

    @pytest.mark.parametrize("setting", [{}, {"NO_COLOR": "1"}, {"NO_COLOR": ""}])
    def test_there_is_no_colour_off_a_terminal(self, shell: Shell, setting: dict[str, str]) -> None:
        """What a pipe gets holds no escape."""
        shell.write("challenges/04_kv_cache/challenge.toml", "")

        result = CliRunner().invoke(main, ["check", "04_kv_cache"], env=setting)

        assert "\x1b" not in result.output

    @pytest.mark.parametrize(("value", "coloured"), [(None, True), ("1", False), ("", True)])
    def test_no_color_is_respected(self, shell: Shell, value: str | None, coloured: bool) -> None:
        """NO_COLOR takes colour away where there would be some, if it is not empty."""
        shell.write("challenges/04_kv_cache/challenge.toml", "")

        result = CliRunner().invoke(
            main, ["check", "04_kv_cache"], env={"NO_COLOR": value}, color=True
        )

        assert ("\x1b" in result.output) == coloured

    def test_the_version_is_the_package_s(self, shell: Shell) -> None:
        """--version prints the version of the distribution."""
        lines = shell.lines("--version")

        assert lines == [f"llmgrind {version('pytest-llmgrind')}"]

    def test_the_module_is_the_script(self) -> None:
        """python -m pytest_llmgrind.cli is llmgrind."""
        args = [sys.executable, "-m", "pytest_llmgrind.cli", "--version"]

        done = subprocess.run(args, capture_output=True, text=True, check=True)

        assert done.stdout == f"llmgrind {version('pytest-llmgrind')}\n"
