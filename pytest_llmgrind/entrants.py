"""Grades other directories of solutions beside yours, each in a process of its own.

One after another: two that run at once would spoil each other's timings. What comes back is the
leaderboard that the other run wrote; nothing of it touches your verdict or your exit code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import solution as solutions
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.report import json
from pytest_llmgrind.report.words import clean
from pytest_llmgrind.standing import Outside
from pytest_llmgrind.verdicts import by_challenge, is_in_play

if TYPE_CHECKING:
    from pytest_llmgrind.grading import Grading

LIMIT_S = 300.0
"""How long an entrant may take for each challenge."""
PLUGINS = ("llmgrind", "timeout", "benchmark")
FLAGS = ("slow", "benchmark_disable", "benchmark_enable", "benchmark_skip", "benchmark_only")
PRIVATE = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_", "GITHUB_STEP_SUMMARY")


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A directory of solutions, and the challenges in play that it has a file for."""

    directory: Path
    challenges: tuple[Manifest, ...]

    @property
    def name(self) -> str:
        return self.directory.name


def grade_all(
    config: pytest.Config, grading: Grading, directory: str, terminal: Any
) -> tuple[list[Outside], list[str]]:
    """Run every entrant of ``directory``; what they reached, and remarks of one line each."""
    start = config.invocation_params.dir
    entrants, remarks = find(start / directory, in_play(grading.results), but=grading.directory)
    tell = _teller(terminal)
    reached: list[Outside] = []
    for number, entrant in enumerate(entrants, start=1):
        tell(f"grading {clean(entrant.name)}, {number} of {len(entrants)}")
        try:
            reached += grade(entrant, arguments(config), cwd=start)
        except KeyboardInterrupt:
            left = ", ".join(clean(entrant.name) for entrant in entrants[number - 1 :])
            remarks.append(f"--entrants: interrupted; not graded: {left}")
            break
    tell("")
    return reached, remarks


def in_play(results: Sequence[Mapping[str, Any]]) -> list[Manifest]:
    """The challenges that a session graded and somebody began or asked for."""
    found = []
    for root, its in by_challenge(results).items():
        if is_in_play(its):
            try:
                found.append(manifests.load(root))
            except ManifestError:
                continue
    return found


def find(
    directory: Path, challenges: Sequence[Manifest], *, but: Path
) -> tuple[list[Entrant], list[str]]:
    """The entrants of ``directory`` that have something to grade; ``but`` is your own."""
    shown = clean(str(directory))
    if not directory.is_dir():
        return [], [f"--entrants: there is no directory {shown}"]
    try:
        homes = [home for home in sorted(directory.iterdir()) if _is_home(home, but)]
    except OSError as error:
        return [], [f"--entrants: {shown} cannot be read: {error.strerror}"]
    if not homes:
        return [], [f"--entrants: {shown} holds no directory of solutions"]
    if not challenges:
        return [], ["--entrants: no challenge is in play; name one: pytest challenges/<id>"]
    entrants = [Entrant(directory=home, challenges=_with_file(home, challenges)) for home in homes]
    entrants = [entrant for entrant in entrants if entrant.challenges]
    if not entrants:
        ids = ", ".join(manifest.id for manifest in challenges)
        return [], [f"--entrants: nobody in {shown} has a file for {ids}"]
    return entrants, []


def grade(
    entrant: Entrant, options: Sequence[str], *, cwd: Path, limit_s: float = LIMIT_S
) -> Iterator[Outside]:
    """Run pytest on an entrant's challenges; what it reached in each, or why it reached nothing."""
    with tempfile.TemporaryDirectory(prefix="llmgrind-") as scratch:
        file = Path(scratch) / "board.json"
        paths = [str(manifest.root) for manifest in entrant.challenges]
        own = [f"--solutions={entrant.directory}", f"--leaderboard-json={file}"]
        command = [sys.executable, "-m", "pytest", *options, *own, *paths]
        reason = _run(command, cwd=cwd, limit_s=limit_s * len(paths))
        found: Mapping[str, Any] = {}
        if file.exists():
            try:
                found = json.read(file)
            except ValueError as error:
                reason = f"no result: its leaderboard: {error}"
    for manifest in entrant.challenges:
        if manifest.id in found:
            yield read(found[manifest.id], entrant.name, manifest, reason)
        else:
            why = reason or "no result: its process ended before its tests did"
            yield Outside(name=entrant.name, challenge=manifest.id, reason=why)


def arguments(config: pytest.Config) -> list[str]:
    """pytest's options for an entrant: the same tests as yours, and none of your reports."""
    found = ["-q", "--rootdir", str(config.rootpath), "--entrants=", "-p", "no:cacheprovider"]
    found += ["-o", "addopts="]
    if config.inipath:
        found += ["-c", str(config.inipath)]
    for name in PLUGINS:
        found += ["-p", name if config.pluginmanager.hasplugin(name) else f"no:{name}"]
    for flag in FLAGS:
        if config.getoption(flag, False):
            found.append(f"--{flag.replace('_', '-')}")
    for tier in config.getoption("require_tier"):
        found += ["--require-tier", tier]
    for option, value in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
        found += [option, value] if value else []
    return found


def _run(command: Sequence[str], *, cwd: Path, limit_s: float) -> str:
    """Why the process gave no result; empty where it ended by itself with a verdict."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PRIVATE)}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that what it started can be ended with it
    )
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"no result: not done after {limit_s:g} s"
    finally:
        _end(process)
    if code < 0:
        return f"its process died of {signal.Signals(-code).name}"
    done = code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    return "" if done else f"pytest ended with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it left behind."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _is_home(path: Path, but: Path) -> bool:
    return path.is_dir() and path.name[0] not in "._" and path.resolve() != but.resolve()


def _with_file(home: Path, challenges: Sequence[Manifest]) -> tuple[Manifest, ...]:
    return tuple(m for m in challenges if not solutions.find(m, home).is_stub)


def read(found: Any, name: str, manifest: Manifest, reason: str = "") -> Outside:
    """What a leaderboard says of its own solution.

    Read with care: it was written by a process that ran other people's code.
    """
    try:
        budgets = {str(budget["name"]): budget for budget in found["budgets"]}
        return Outside(
            name=name,
            challenge=manifest.id,
            kept=len(found["rules"]["kept"]),
            stages=sum(stage["word"] == "ok" for stage in found["stages"]),
            figures={n: _number(budget["figure"]) for n, budget in budgets.items()},
            reference={n: _number(budget["reference"]) for n, budget in budgets.items()},
            baseline={n: _number(budget["baseline"]) for n, budget in budgets.items()},
            reason=reason or _blocked(found),
        )
    except (KeyError, TypeError, ValueError):
        reason = "no result: what it wrote is no leaderboard"
        return Outside(name=name, challenge=manifest.id, reason=reason)


def _blocked(found: Mapping[str, Any]) -> str:
    return str(found["next"]["text"])[:200] if found["next"]["kind"] == "mend" else ""


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _teller(terminal: Any) -> Callable[[str], None]:
    """Shows who is graded, in one line that is written over; nothing where there is no terminal."""
    if terminal is None or not terminal.isatty or terminal.config.get_verbosity() < 0:
        return lambda text: None

    def tell(text: str) -> None:
        terminal.rewrite(text, erase=True)

    return tell
