"""`llmgrind doctor`: what is here, and whether walls hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_llmgrind.cli import main
from pytest_llmgrind.graded import namespaces, sandbox, trial
from pytest_llmgrind.graded.sandbox import BUBBLEWRAP, NONE, Walls, walls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="graded mode needs Linux")
needs_walls = pytest.mark.skipif(walls().level != BUBBLEWRAP, reason=walls().why)


@needs_walls
def test_walls_hold_here() -> None:
    """Every attack is held off, and --strict agrees."""
    result = CliRunner().invoke(main, ["doctor", "--strict", "--json"])

    found = json.loads(result.stdout)
    assert [attack["what"] for attack in found["attacks"] if not attack["held"]] == []
    assert len(found["attacks"]) == 10
    assert (result.exit_code, found["walls"]) == (0, BUBBLEWRAP)


def test_without_walls_only_limits_hold() -> None:
    """The attacks are real: with nothing around it a worker reads, writes and connects."""
    found = list(trial.run(Walls(NONE)))

    assert [attack.what for attack in found if not attack.held] == [
        "reads a file of the grader",
        "reads the grader's environment",
        "writes outside its scratch",
        "connects to a port of this machine",
        "sees the grader's process",
        *["makes a user namespace"] * _has_user_namespaces(),
    ]


def _has_user_namespaces() -> bool:
    """Some systems give them to nobody, or to root alone."""
    code = f"import ctypes; exit(ctypes.CDLL(None).unshare({namespaces.NEW_USER}) != 0)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_strict_fails_without_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bubblewrap is told how to get it; only --strict makes that a failure."""
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setattr(trial, "run", lambda walls: iter(()))
    walls.cache_clear()
    try:
        plain, strict = (
            CliRunner().invoke(main, ["doctor", *words]) for words in ([], ["--strict"])
        )
    finally:
        walls.cache_clear()

    assert (plain.exit_code, strict.exit_code) == (0, 1)
    assert f"walls      none: bubblewrap is not installed: {sandbox.cure()}" in plain.stdout


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ('ID=debian\nNAME="Debian"\n', "apt-get install bubblewrap"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install bubblewrap"),
        ("ID=arch\n", "pacman -S bubblewrap"),
        ("ID=haiku\n", "your system's package bubblewrap"),
        (None, "your system's package bubblewrap"),
    ],
)
def test_how_bubblewrap_is_installed(tmp_path: Path, release: str | None, said: str) -> None:
    """By the distribution, or by the one that it is like."""
    file = tmp_path / "os-release"
    if release is not None:
        file.write_text(release, "utf-8")

    assert sandbox.cure(file) == said
