"""Every attack succeeds against an ordinary grader, and none in graded mode.

`tests/attacks/<name>/solution.py` is what somebody hands in, for the challenge of
`tests/attack_target`. Its `expect.toml` says what becomes of it in graded mode (the worst verdict
of all tests), and how it is shown to work where there are no walls: otherwise an attack that never
worked would count as one that was held off. Files that it brings along are listed there as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import py_compile
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind.graded.sandbox import BUBBLEWRAP, walls
from pytest_llmgrind.verdicts import SEVERITY

HERE = Path(__file__).parent
TARGET = HERE / "attack_target"
ATTACKS = sorted(path.parent for path in HERE.glob("attacks/*/expect.toml"))
SECRET = {"LLMGRIND_SECRET_OF_THE_TEST": "open sesame"}
TIMED = {"test_timed", "test_peak"}
"""Ordinary graders that measure."""
MEASURING = ("test_little_memory", "test_rows_beat_a_loop")
"""Tests that measure in graded mode, for seconds: for attacks on graders that measure, alone."""
MOST_OUTPUT = 100_000
PATIENCE_S = 60
HANGS_S = 3
PLUGINS = ["-p", "llmgrind", "-p", "timeout", "-p", "benchmark"]
"""What alone is loaded, as in `llmgrind grade`, where an attack brings no files that might be taken
for plugins: every other one costs time."""
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

needs_walls = pytest.mark.skipif(
    walls().level != BUBBLEWRAP and not os.environ.get("CI"), reason=walls().why
)


@dataclass(frozen=True)
class Run:
    """How a grader's process ended: ``code`` is None where it had to be killed."""

    code: int | None
    output: str


@dataclass(frozen=True)
class Attack:
    """One attack by one test, laid out in a directory of its own."""

    home: Path
    scratch: Path
    port: int
    by: str

    @property
    def expect(self) -> dict[str, Any]:
        return tomllib.loads((self.home / "expect.toml").read_text("utf-8"))

    @property
    def id(self) -> str:
        """Nobody else's: two tests of one attack may run beside each other."""
        return f"{10 + ATTACKS.index(self.home)}_{self.home.name}_{self.by}"

    @property
    def is_timed(self) -> bool:
        return self.expect["without_walls"]["naive"] in TIMED

    @property
    def loot(self) -> Path:
        return self.scratch / "loot"

    @property
    def plugins(self) -> list[str]:
        """Options for those that alone are loaded; none where all are that are installed."""
        return [] if self.expect.get("files") else PLUGINS

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "CI"))}
        github = self.scratch / "github_env"
        github.touch()
        kept |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if self.plugins else {}
        kept |= {"OPENBLAS_NUM_THREADS": "1"}  # no user namespace for who has a second thread
        return kept | SECRET | {"GITHUB_ENV": str(github)}

    def text(self, text: str, grader: Path) -> str:
        for mark, value in (
            ("@LOOT@", self.loot),
            ("@GRADER@", grader),
            ("@PORT@", self.port),
            ("@VERSION@", VERSION),
        ):
            text = text.replace(mark, str(value))
        return text

    def hand_in(self, file: Path, grader: Path, *, reference: Path) -> None:
        """Put the solution at ``file``, as its author would, and beside it what it brings."""
        file.parent.mkdir(parents=True, exist_ok=True)
        text = self.text((self.home / "solution.py").read_text("utf-8"), grader)
        special = self.expect.get("special", "")
        if special == "symlink":
            file.symlink_to(reference)
        elif special == "symlinked directory":
            (self.scratch / "elsewhere").mkdir(exist_ok=True)
            shutil.copy(reference, self.scratch / "elsewhere/__init__.py")
            file.with_suffix("").symlink_to(self.scratch / "elsewhere")
        elif special == "fifo":
            os.mkfifo(file)
        else:
            file.write_text(text + "#" * (2_000_000 if special == "huge" else 0), "utf-8")
        for name, content in self.expect.get("files", {}).items():
            target = file.parent / self.text(name, grader)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.text(content, grader), "utf-8")
            if name.endswith(".pyc.py"):
                self._hide_bytecode(target, file)

    def _hide_bytecode(self, text: Path, file: Path) -> None:
        cached = file.parent / "__pycache__" / f"{file.stem}.{sys.implementation.cache_tag}.pyc"
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(text), str(cached), invalidation_mode=mode)
        text.unlink()

    # -- graders ------------------------------------------------------------------------------

    def ordinary(self, name: str, *, patience_s: float = PATIENCE_S) -> Run:
        """Graded as by most: tests, reference and solution in one directory and one process."""
        place = self.scratch / "ordinary"
        shutil.copytree(TARGET / "naive", place)
        reference = TARGET / "reference/01_target.py"
        shutil.copy(reference, place / "reference.py")
        _commit(place)
        self.hand_in(place / "solution.py", place, reference=reference)
        command = [sys.executable, f"{name}.py"]
        if name.startswith("test_"):
            options = ["-q", "--rootdir", str(place), "-p", "no:cacheprovider"]
            command = [sys.executable, "-m", "pytest", *options, f"{name}.py"]
        places = {"PYTHONPATH": str(place), "PYTHONUSERBASE": str(place)}
        inherited = os.open(place / "test_max.py", os.O_RDONLY)
        try:
            return _run(
                command, place, self.environment | places, patience_s, pass_fds=(inherited,)
            )
        finally:
            os.close(inherited)

    def graded(self, *options: str, patience_s: float = PATIENCE_S) -> Run:
        """Graded mode. The challenge's name is this attack's, so that its processes are known."""
        grader = self.scratch / "grader"
        shutil.rmtree(grader, ignore_errors=True)
        shutil.copytree(TARGET / "challenges/01_target", grader / "challenges" / self.id)
        if self.expect["verdict"] == "time limit":
            manifest = grader / "challenges" / self.id / "challenge.toml"
            manifest.write_text(manifest.read_text("utf-8").replace("timeout = 60", "timeout = 3"))
        if not self.is_timed:
            options = ("-k", " and ".join(f"not {name}" for name in MEASURING), *options)
        (grader / "reference").mkdir()
        reference = grader / "reference" / f"{self.id}.py"
        shutil.copy(TARGET / "reference/01_target.py", reference)
        _commit(grader)
        solutions = self.scratch / "head" / "solutions"
        shutil.rmtree(solutions, ignore_errors=True)
        self.hand_in(solutions / f"{self.id}.py", grader, reference=reference)
        command = [sys.executable, "-m", "pytest", f"challenges/{self.id}", "--graded", *options]
        command += [f"--solutions={solutions}", f"--result={self.result}"]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "--color=no"]
        command += self.plugins
        inherited = os.open(grader / f"challenges/{self.id}/hidden/1_all.py", os.O_RDONLY)
        os.set_inheritable(inherited, True)
        try:
            return _run(command, grader, self.environment, patience_s, pass_fds=(inherited,))
        finally:
            os.close(inherited)

    @property
    def result(self) -> Path:
        return self.scratch / "result.json"

    def verdicts(self) -> dict[str, str]:
        (challenge,) = json.loads(self.result.read_text("utf-8"))["challenges"]
        return {test["name"]: test["verdict"] for test in challenge["tests"]}

    def processes(self) -> list[int]:
        """What runs that knows the name of this attack's challenge."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"pytest_llmgrind.graded" in (told := path.read_bytes()):
                    found += [int(path.parent.name)] if self.id.encode() in told else []
        return found


@pytest.fixture(params=ATTACKS, ids=lambda path: path.name)
def attack(request: pytest.FixtureRequest, tmp_path: Path, port: int) -> Attack:
    return Attack(request.param, tmp_path, port, by=request.function.__name__)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Something to connect to: a server that says hello over whatever it is asked."""
    with contextlib.ExitStack() as stack:
        ears: list[socket.socket] = []
        number = 0
        for family, kind in (
            (socket.AF_INET, socket.SOCK_STREAM),
            (socket.AF_INET, socket.SOCK_DGRAM),
            (socket.AF_INET6, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_STREAM),
        ):
            ear = stack.enter_context(socket.socket(family, kind))
            if family == socket.AF_UNIX:
                ear.bind(f"\0llmgrind-{number}")
            else:
                ear.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", number))
            number = number or ear.getsockname()[1]
            if kind == socket.SOCK_STREAM:
                ear.listen()
            ears.append(ear)
            threading.Thread(target=_greet, args=(ear, kind), daemon=True).start()
        yield number


def _greet(ear: socket.socket, kind: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            if kind == socket.SOCK_DGRAM:
                _, sender = ear.recvfrom(100)
                ear.sendto(b"hello", sender)
            else:
                caller, _ = ear.accept()
                with caller, contextlib.suppress(OSError):
                    caller.sendall(b"hello")


@needs_walls
def test_walls_hold(attack: Attack) -> None:
    """In graded mode it gets its verdict, gets nothing else, and leaves nothing behind."""
    run = attack.graded()

    verdicts = attack.verdicts()
    if not attack.is_timed:
        verdicts = {test: word for test, word in verdicts.items() if test not in MEASURING}
    worst = min(verdicts.values(), key=lambda word: SEVERITY.get(word, 99))
    assert run.code == 1, run.output
    assert worst == attack.expect["verdict"], (verdicts, run.output[-3000:])
    assert "passed" not in verdicts.values() or len(set(verdicts.values())) > 1
    assert len(run.output) < MOST_OUTPUT
    assert "\x1b" not in run.output
    assert not (attack.scratch / "github_env").read_text()
    assert attack.processes() == []
    assert not attack.loot.exists()


def test_attack_works_without_walls(attack: Attack) -> None:
    """It would have succeeded: the walls are what held it off."""
    without = attack.expect["without_walls"]
    proof, naive = without["proof"], without["naive"]

    if proof == "passes":
        assert attack.ordinary(naive).code == 0
    elif proof == "nothing failed":
        run = attack.ordinary(naive)
        assert "failed" not in run.output
        assert "no tests ran" in run.output
    elif proof == "hangs":
        assert attack.ordinary(naive, patience_s=HANGS_S).code is None
    elif proof == "prints escapes":
        assert "\x1b]0;owned" in attack.ordinary(naive).output
    elif proof == "prints a lot":
        assert len(attack.ordinary(naive).output) > 1_000_000
    elif proof == "dies without walls":
        run = attack.graded("--sandbox", "none", patience_s=2 * HANGS_S)
        assert run.code is None or run.code < 0
    else:
        _get_loot(attack, proof, naive)


def _get_loot(attack: Attack, proof: str, naive: str) -> None:
    if proof == "loot as root" and os.geteuid() != 0:
        pytest.skip("only root gets this far")
    if proof == "loot without walls":
        attack.graded("--sandbox", "none")
    else:
        attack.ordinary(naive)
    deadline = time.monotonic() + (3 if proof == "loot later" else 0)
    while not attack.loot.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert attack.loot.exists(), f"{proof}: nothing was taken"
    assert attack.loot.read_text()


def test_the_target_can_be_solved(tmp_path: Path, port: int) -> None:
    """The reference passes where attacks are rejected: it is not the grader that fails everyone."""
    attack = Attack(ATTACKS[0], tmp_path, port, by="solved")
    run = attack.graded()
    grader = tmp_path / "grader"
    command = [sys.executable, "-m", "pytest", f"challenges/{attack.id}", "--graded"]
    command += ["--solutions=handed_in", f"--result={attack.result}", *attack.plugins]
    (grader / "handed_in").mkdir()
    shutil.copy(grader / "reference" / f"{attack.id}.py", grader / "handed_in")

    run = _run(command, grader, attack.environment, PATIENCE_S)

    assert run.code == 0, run.output
    assert set(attack.verdicts().values()) == {"passed"}


def _commit(place: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.looseCompression=1"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *identity, *words], cwd=place, check=True)


def _run(
    command: list[str],
    cwd: Path,
    environment: dict[str, str],
    patience_s: float,
    *,
    pass_fds: tuple[int, ...] = (),
) -> Run:
    """Run a grader. Who does not end in time is asked to, and then killed with all it started."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    code: int | None = None
    try:
        output, _ = process.communicate(timeout=patience_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.terminate()
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return Run(code, output.decode("utf-8", "replace"))
