"""Grades one job: pytest in a session of its own, with a limit, and ended with all it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind.cohort.bundle import Bundle
from pytest_llmgrind.cohort.job import Job, Settings
from pytest_llmgrind.graded.limits import below
from pytest_llmgrind.plain import line
from pytest_llmgrind.report import result as results
from pytest_llmgrind.seeds import SECRET

RESULT, OUTPUT, SOLUTIONS = "result.json", "output.txt", "submission"
GRACE_S = 10.0
"""For pytest to write down what it has, once its time is up."""
POLL_S = 0.1
VERDICTS = (0, 1)
"""pytest's exit codes: all tests have passed; some have failed."""
OPTIONS = ["--graded", f"--solutions={SOLUTIONS}", f"--result={RESULT}", "-qq", "--tb=no"]
OPTIONS += ["-p", "llmgrind", "-p", "timeout", "-p", "no:cacheprovider"]
OPTIONS += ["-c", "pytest.ini", "--rootdir", "."]
KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
KEPT_FAMILIES = ("LC_", "CUDA_", "NVIDIA_")
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    ``result`` is the document of ``--result``, or None; ``reason`` says why there is none, or why
    it is not whole. ``final``: another try would give the same. ``cut_s`` is the limit that ended
    it, 0 where it ended by itself.
    """

    result: Mapping[str, Any] | None = None
    reason: str = ""
    seconds: float = 0.0
    final: bool = False
    cut_s: float = 0.0


def grade(
    job: Job,
    exam: Bundle,
    settings: Settings,
    *,
    stop: threading.Event | None = None,
    cores: Sequence[int] = (),
) -> Outcome:
    """The outcome of a job; no entrant makes this raise.

    Setting ``stop`` ends it early. It runs on ``cores``, or where it likes.
    """
    if job.refused:
        return Outcome(reason=job.refused, final=True)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="llmgrind-") as scratch:
            root = Path(scratch)
            exam.lay_out(root)
            job.solution.lay_out(root / SOLUTIONS)
            (root / "pytest.ini").write_text("[pytest]\n", "utf-8")
            code, cut = _run(root, job, settings, stop or threading.Event(), cores)
            found, reason = _read(root, job, code, cut=cut)
    except OSError as error:
        return Outcome(reason=f"could not be run: {line(str(error))}")
    if cut:
        reason = f"stopped after {settings.limit_s:g} s" + (f"; {reason}" if reason else "")
    return Outcome(
        result=found,
        reason=reason,
        seconds=round(time.monotonic() - began, 3),
        final=found is not None,
        cut_s=settings.limit_s if cut else 0.0,
    )


def environment(settings: Settings) -> dict[str, str]:
    """Of the process that grades: what it needs to run, and nothing that was meant for another."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(KEPT_FAMILIES)
    }
    kept |= {f"{name}_NUM_THREADS": "1" for name in THREADS}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return kept | ({SECRET: settings.seed} if settings.seed else {})


def _run(
    root: Path, job: Job, settings: Settings, stop: threading.Event, cores: Sequence[int]
) -> tuple[int, bool]:
    """pytest's exit code, and whether its time was up."""
    command = [sys.executable, "-m", "pytest_llmgrind.cohort.child", str(os.getpid())]
    command.append(",".join(map(str, cores)))
    with (root / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [*command, *OPTIONS, f"challenges/{job.challenge}"],
            cwd=root,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if _wait(process, settings.limit_s, stop) or stop.is_set():
            return process.returncode or 0, False
        process.send_signal(signal.SIGINT)
        _wait(process, GRACE_S, stop)
        return process.returncode or 0, True
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], limit_s: float, stop: threading.Event) -> bool:
    """Whether it has ended by itself, in time."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and not stop.is_set():
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of it, also what went into a session of its own."""
    left = list(below(process.pid)) if process.poll() is None else []
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _read(root: Path, job: Job, code: int, *, cut: bool) -> tuple[Mapping[str, Any] | None, str]:
    """The document, or why there is none."""
    if code < 0:
        return None, f"its grader died of {signal.Signals(-code).name}"
    if code not in VERDICTS and not cut:
        said = f": {last}" if (last := _last_line(root / OUTPUT)) else ""
        return None, f"pytest ended with exit code {code}{said}"
    try:
        found = json.loads((root / RESULT).read_text("utf-8"))
        (graded,) = found["challenges"]
        if found["schema"] != results.SCHEMA or graded["id"] != job.challenge:
            raise ValueError
    except FileNotFoundError:
        return None, "its grader wrote no result"
    except (KeyError, TypeError, ValueError, RecursionError):
        return None, "its grader wrote no result that can be read"
    return found, ""


def _last_line(output: Path) -> str:
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - 4096))
        lines = stream.read().decode("utf-8", "replace").split("\n")
    return next((text for each in reversed(lines) if (text := line(each, 200))), "")
