"""No user namespace behind the walls, and nothing else that is refused."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import pytest

from pytest_llmgrind.graded import namespaces, sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="graded mode's walls need Linux")
TRIES = """
import ctypes, errno, os, subprocess, sys, threading
from pytest_llmgrind.graded import namespaces

libc = ctypes.CDLL(None, use_errno=True)
CLONE = namespaces.MACHINES[os.uname().machine][1]


def told(call):
    ctypes.set_errno(0)
    found = call()
    if found == 0 and os.getpid() != own:
        os._exit(0)  # a child of clone
    return errno.errorcode[ctypes.get_errno()] if found < 0 else "done"


own = os.getpid()
if "refuse" in sys.argv:
    namespaces.refuse()
for flag in (namespaces.NEW_USER, namespaces.NEW_USER | 0x20000):
    print("unshare", told(lambda: libc.unshare(flag)))
print("clone", told(lambda: libc.syscall(CLONE, namespaces.NEW_USER | 17, 0, 0, 0, 0)))
print("unshare files", told(lambda: libc.unshare(0x400)))
thread = threading.Thread(target=print, args=("thread done",))
thread.start()
thread.join()
sys.stdout.flush()
if os.fork() == 0:
    print("fork done", flush=True)
    os._exit(0)
os.wait()
print(subprocess.run(["echo", "program done"], capture_output=True, text=True).stdout, end="")
"""


def tried(*arguments: str) -> list[str]:
    command = [sys.executable, "-c", TRIES, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_user_namespace_is_refused() -> None:
    """By unshare and by clone, with others or alone; threads, forks and programs are not."""
    assert tried("refuse") == [
        "unshare EPERM",
        "unshare EPERM",
        "clone EPERM",
        "unshare files done",
        "thread done",
        "fork done",
        "program done",
    ]


def test_without_the_filter_one_is_made() -> None:
    """Else the test above would prove nothing."""
    first = tried()[0]
    if first == "unshare EPERM":
        pytest.skip("this machine gives nobody a user namespace")
    assert first == "unshare done"


def test_a_machine_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of a system call is guessed: root gets a user namespace of bubblewrap's there."""
    assert namespaces.can_refuse()

    monkeypatch.setattr(platform, "machine", lambda: "sparc64")

    assert not namespaces.can_refuse()
    if shutil.which("bwrap"):
        found = sandbox.walls.__wrapped__()
        assert found.with_user or found.level == sandbox.NONE
