"""What `llmgrind doctor` tries from inside a worker. Each returns whether it got what it wanted.

Nothing is harmed where there are no walls: files and sockets are those that doctor has laid out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from pathlib import Path

from pytest_llmgrind.graded.namespaces import NEW_USER


def read_a_file(path: str) -> bool:
    return bool(Path(path).read_bytes())


def read_the_environment(secret: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if secret.encode() in process.read_bytes():
                return True
    return False


def write_a_file(path: str) -> bool:
    return bool(Path(path).write_text("here", "utf-8"))


def connect(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def see_the_grader(pid: int, command: str) -> bool:
    os.kill(pid, 0)
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8") == command


def start_a_process() -> bool:
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    time.sleep(1)
    return True


def make_a_namespace() -> bool:
    """In a process with one thread: others are told that they cannot, walls or none."""
    if (pid := os.fork()) == 0:
        os._exit(int(ctypes.CDLL(None).unshare(NEW_USER) != 0))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def take_memory(mebibytes: int) -> bool:
    held = [b"x" * (1 << 26) for _ in range(mebibytes // 64)]
    time.sleep(1)
    return bool(held)


def print_without_end() -> bool:
    for _ in range(4096):
        os.write(1, b"x" * 1024)
    time.sleep(1)
    return True


def never_answer() -> bool:
    time.sleep(3600)
    return True
