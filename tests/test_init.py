"""llmgrind init: a workspace out of a checkout, and out of a wheel that was just built."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_llmgrind import workspace
from pytest_llmgrind.cli import main

REPOSITORY = Path(__file__).parent.parent


def files_below(directory: Path) -> set[str]:
    """Relative paths of all files but those that Python and pytest leave behind."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


class TestFromTheCheckout:
    def test_it_lays_out_a_workspace(self, tmp_path: Path) -> None:
        """init copies challenges and references, and makes an empty solutions directory."""
        target = tmp_path / "grind"

        result = CliRunner().invoke(main, ["init", str(target)])

        ids = workspace.suite().ids
        assert result.output.splitlines() == [
            f"{target} is a workspace with {len(ids)} challenges",
            f"next  cd {target} && llmgrind start {ids[0]}",
        ]
        for name in ("challenges", "reference"):
            assert files_below(target / name) == files_below(REPOSITORY / name)
        assert list((target / "solutions").iterdir()) == []
        table = tomllib.loads((target / "pyproject.toml").read_text())["tool"]["pytest"]
        assert table["ini_options"]["testpaths"] == ["challenges"]
        assert workspace.find(target / "challenges").root == target

    def test_an_empty_directory_will_do(self, tmp_path: Path) -> None:
        """A directory that exists and is empty is used."""
        result = CliRunner().invoke(main, ["init", str(tmp_path)])

        assert result.exit_code == 0

    def test_a_directory_that_holds_something_is_refused(self, tmp_path: Path) -> None:
        """Nothing is written where anything is, be it hidden."""
        (tmp_path / ".git").mkdir()

        result = CliRunner().invoke(main, ["init", str(tmp_path)])

        assert result.exit_code == 1
        assert result.output == (
            f"Error: {tmp_path} is not empty (it holds .git); name a new or an empty directory\n"
        )
        assert [path.name for path in tmp_path.iterdir()] == [".git"]

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        """A file in the place of the directory is left alone."""
        (tmp_path / "grind").write_text("mine")

        result = CliRunner().invoke(main, ["init", str(tmp_path / "grind")])

        assert result.exit_code == 1
        assert result.output == (
            f"Error: {tmp_path / 'grind'} is a file; name a new or an empty directory\n"
        )
        assert (tmp_path / "grind").read_text() == "mine"


class Installed:
    """A wheel of this checkout, unpacked where Python looks first."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "site"
        args = [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), "."]
        if importlib.util.find_spec("hatchling"):
            args.insert(-1, "--no-isolation")
        subprocess.run(args, cwd=REPOSITORY, check=True, capture_output=True)
        [wheel] = directory.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(self.home)

    def run(self, module: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", module, *args]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


class TestFromAWheel:
    def test_the_wheel_holds_the_suite(self, installed: Installed) -> None:
        """Every file of challenges and references is in the wheel, and the templates of new."""
        suite = installed.home / "pytest_llmgrind/suite"

        for name in ("challenges", "reference"):
            assert files_below(suite / name) == files_below(REPOSITORY / name)
        assert (installed.home / "pytest_llmgrind/cli/template/stub.py.txt").is_file()
        assert (installed.home / "pytest_llmgrind/py.typed").is_file()

    def test_it_lays_out_a_workspace_that_pytest_grades(
        self, installed: Installed, tmp_path: Path
    ) -> None:
        """From a wheel: init, start, and pytest finds the tests of the challenge."""
        target = tmp_path / "grind"

        made = installed.run("pytest_llmgrind.cli", "init", str(target), cwd=tmp_path)

        assert made.returncode == 0, made.stderr
        assert files_below(target / "challenges") == files_below(REPOSITORY / "challenges")
        id = "02_attention"
        started = installed.run("pytest_llmgrind.cli", "start", id, cwd=target)
        assert started.stdout.startswith(f"solutions/{id}.py is yours")
        listed = installed.run("pytest", "--co", "-q", f"challenges/{id}", cwd=target)
        ids = [line for line in listed.stdout.splitlines() if "::" in line]
        assert len(ids) >= 12
        assert all(line.startswith(f"challenges/{id}/hidden/") for line in ids)

    def test_verbs_that_only_read_work_anywhere(self, installed: Installed, tmp_path: Path) -> None:
        """Outside of a workspace, check knows the challenges that the wheel carries."""
        done = installed.run("pytest_llmgrind.cli", "check", "02_atention", cwd=tmp_path)

        assert done.returncode == 2
        assert (
            done.stderr
            == "Error: unknown challenge '02_atention'; nearest: 02_attention, 10_paged_attention\n"
        )
