"""The gate's side of session.py: asks, listens, and ends a process that hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_llmgrind.estimate import UNDECIDED
from pytest_llmgrind.manifest import Manifest

WAIT_S = 600.0
"""Outside a test: to import, to collect, to wait until other workers let a timed test run."""
POLL_S = 0.5
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
DROPPED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "GITHUB_STEP_SUMMARY")


@dataclass(frozen=True)
class HiddenTest:
    """A hidden test, as pytest collected it."""

    id: str
    name: str
    path: Path
    line: int
    stage: str
    rules: tuple[str, ...]
    fixtures: tuple[str, ...]
    tiers: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What became of one test; ``outcome`` is a word of design §3."""

    test: HiddenTest
    outcome: str
    saw: str
    text: str
    budget: dict[str, Any] | None
    cpu_s: float

    @property
    def undecided(self) -> bool:
        """It was measured, and the interval still holds the limit."""
        return (self.budget or {}).get("verdict") == UNDECIDED


@dataclass
class Run:
    """One session: what was collected, what came of it, and how it died, if it did."""

    tests: dict[str, HiddenTest] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    broken: list[dict[str, str]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    died: str = ""
    died_in: str = ""

    def add(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "collected":
                self.tests = {test["id"]: _test(test) for test in event["tests"]}
            case "result":
                self.results.append(_result(self.tests[event["test"]], event))
            case "broken":
                self.broken.append(event)
            case "example":
                self.examples.append(event)


class Stopped(Exception):
    """The gate was interrupted."""


class Worker:
    """A process that grades one challenge; started anew where a test hung or killed it.

    ``lock`` is the file by which timed tests of several workers keep apart. ``stop`` ends a
    question that waits for its answer.
    """

    def __init__(self, manifest: Manifest, lock: Path, stop: threading.Event) -> None:
        self.manifest = manifest
        self._scratch = tempfile.TemporaryDirectory(prefix="llmgrind-check-")
        self.scratch = Path(self._scratch.name)
        self._lock, self._stop = lock, stop
        self._process: subprocess.Popen[bytes] | None = None
        (self.scratch / "pytest.ini").write_text("[pytest]\n", "utf-8")
        self.solutions.mkdir()

    @property
    def solutions(self) -> Path:
        """Empty at first: the stub is graded until a file is written here."""
        return self.scratch / "solutions"

    def grade(
        self,
        solutions: Path,
        *,
        rule: str = "",
        measured: bool = False,
        alone: bool = True,
        limit_s: float | None = None,
        diagnose: bool = False,
    ) -> Run:
        """Run all tests, or up to the first failure of those of one rule.

        ``alone``: while a test is timed, no test of another worker runs. ``diagnose``: failures
        are told what they look like, and nothing is timed; of a rule, the first that is told ends
        the run.
        """
        options = {"rule": rule, "measured": measured, "alone": alone, "limit_s": limit_s}
        options |= {"diagnose": diagnose}
        return self._ask({"kind": "tests", "solutions": str(solutions), **options})

    def examples(self) -> Run:
        return self._ask({"kind": "examples"})

    def close(self) -> None:
        if self._process is not None:
            _kill(self._process)
        self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
        self._scratch.cleanup()

    def _ask(self, request: dict[str, Any]) -> Run:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        places = {"root": str(self.manifest.root), "scratch": str(self.scratch)}
        message = {**request, **places}
        run, died = Run(), ""
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            for event in self._listen(process, run):
                run.add(event)
        except TimeoutError as error:
            died = str(error)
        except (EOFError, BrokenPipeError):
            died = self._how(process)
        if died:
            run.died = died
            self.close()
        return run

    def _start(self) -> subprocess.Popen[bytes]:
        """A process group of its own, so that what a test starts ends with it."""
        env = {k: v for k, v in os.environ.items() if k not in DROPPED}
        env |= {f"{name}_NUM_THREADS": "1" for name in THREADS}
        env |= {
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.scratch / "hypothesis"),
            "LLMGRIND_LOCK": str(self._lock),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONHASHSEED": "0",
        }
        with (self.scratch / "stderr").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest_llmgrind.gate.session"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.manifest.root.parent.parent,
                env=env,
                start_new_session=True,
            )

    def _how(self, process: subprocess.Popen[bytes]) -> str:
        """How a process ended: ``SIGSEGV``, ``exit code 1 (ImportError: …)``."""
        code = process.wait()
        if code < 0:
            return signal.Signals(-code).name
        lines = (self.scratch / "stderr").read_text("utf-8", "replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "")
        return f"exit code {code}" + (f" ({said.strip()})" if said else "")

    def _listen(self, process: subprocess.Popen[bytes], run: Run) -> Iterator[dict[str, Any]]:
        """The events up to the last; a test that is silent for too long ends the process."""
        lines = _Lines(process, self._stop)
        for line in lines:
            event = json.loads(line)
            if event["event"] == "begun":
                lines.limit_s, run.died_in = event["limit_s"], event["test"]
            elif event["event"] == "result":
                lines.limit_s, run.died_in = WAIT_S, ""
            elif event["event"] == "end":
                return
            yield event


class _Lines:
    """The lines that a process writes; silence for ``limit_s`` is a TimeoutError."""

    def __init__(self, process: subprocess.Popen[bytes], stop: threading.Event) -> None:
        assert process.stdout is not None
        self._number, self._stop = process.stdout.fileno(), stop
        self.limit_s = WAIT_S

    def __iter__(self) -> Iterator[bytes]:
        buffer = b""
        while True:
            *lines, buffer = (buffer + self._read()).split(b"\n")
            yield from lines

    def _read(self) -> bytes:
        until = time.monotonic() + self.limit_s
        while not select.select([self._number], [], [], POLL_S)[0]:
            if self._stop.is_set():
                raise Stopped
            if time.monotonic() > until:
                raise TimeoutError(f"no answer within {self.limit_s:g} s")
        chunk = os.read(self._number, 1 << 16)
        if not chunk:
            raise EOFError
        return chunk


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _test(data: dict[str, Any]) -> HiddenTest:
    lists = {key: tuple(data[key]) for key in ("rules", "fixtures", "tiers")}
    return HiddenTest(**{**data, **lists, "path": Path(data["path"])})


def _result(test: HiddenTest, event: dict[str, Any]) -> Result:
    outcome, saw = event.get("outcome", "lost"), event.get("saw", "")
    return Result(test, outcome, saw, event.get("text", ""), event.get("budget"), event["cpu_s"])
