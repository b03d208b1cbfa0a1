"""Whether the walls of this machine hold: a few attacks from inside a worker."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind.graded import attacker, limits
from pytest_llmgrind.graded.breach import Breach
from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.graded.sandbox import Walls
from pytest_llmgrind.graded.source import Source

NAME = "00_doctor"
TIME_LIMIT_S = 2.0
PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What was tried and whether it was held off; ``how`` is the grader's word for it."""

    what: str
    held: bool
    how: str = ""


def run(walls: Walls) -> Iterator[Attack]:
    with _bait() as (home, port):
        path = f"PATH={os.environ.get('PATH', '')}"  # /proc shows what was there at the start
        own = Path("/proc/self/cmdline").read_text("utf-8")
        (home / "secret.txt").write_text("open sesame", "utf-8")
        tried: list[tuple[str, str, tuple[Any, ...]]] = [
            ("reads a file of the grader", "read_a_file", (str(home / "secret.txt"),)),
            ("reads the grader's environment", "read_the_environment", (path,)),
            ("writes outside its scratch", "write_a_file", (str(home / "loot"),)),
            ("connects to a port of this machine", "connect", (port,)),
            ("sees the grader's process", "see_the_grader", (os.getpid(), own)),
            ("starts a process", "start_a_process", ()),
            ("makes a user namespace", "make_a_namespace", ()),
            ("takes 3 GiB of memory", "take_memory", (3072,)),
            ("prints 4 MiB", "print_without_end", ()),
            ("never answers", "never_answer", ()),
        ]
        carrier = Carrier(_source, walls, limits.NUMPY, PATIENCE_S)
        try:
            for what, name, arguments in tried:
                carrier.begin()
                attack = carrier.attribute(name)
                if name == "never_answer":
                    carrier.grader.deadline = time.monotonic() + TIME_LIMIT_S  # type: ignore[union-attr]
                yield _try(what, attack, arguments)
        finally:
            carrier.close()


def _try(what: str, attack: Any, arguments: tuple[Any, ...]) -> Attack:
    try:
        return Attack(what=what, held=not attack(*arguments))
    except Breach as why:
        return Attack(what=what, held=True, how=str(why))
    except OSError as error:
        return Attack(what=what, held=True, how=str(error.strerror))


@contextmanager
def _bait() -> Iterator[tuple[Path, int]]:
    """A directory that everyone may write, and a port that listens."""
    with tempfile.TemporaryDirectory(prefix="llmgrind-") as name, socket.socket() as ear:
        os.chmod(name, 0o777)
        ear.bind(("127.0.0.1", 0))
        ear.listen()
        yield Path(name), ear.getsockname()[1]


def _source(scratch: Path) -> Source:
    home, stub = scratch / "solution", scratch / "challenge" / NAME
    for directory in (home, stub):
        directory.mkdir(parents=True)
    shutil.copy(attacker.__file__, home / f"{NAME}.py")
    (stub / "stub.py").write_text("", "utf-8")
    for path in (scratch, *scratch.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Source(
        challenge=NAME, home=home, file=f"{NAME}.py", stub=scratch / "challenge", imports=None
    )
