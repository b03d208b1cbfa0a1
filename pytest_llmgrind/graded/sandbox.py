"""The walls: bubblewrap around a worker. Where it is missing, a process without walls.

Inside are the interpreter, the installed packages and this one, all read-only, the solution and
the challenge's stub, and an empty scratch of 32 MiB. There is no network, no other process, no
file of the grader, and nothing of its environment.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind.graded import namespaces
from pytest_llmgrind.graded.limits import Limits

BUBBLEWRAP, NONE = "bubblewrap", "none"
GRADER = "/grader"
SOLUTION = "/solution"
CHALLENGE = "/challenge"
SCRATCH = "/tmp"
PACKAGE = Path(__file__).resolve().parents[1]
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")
INSTALL = {
    "debian": "apt-get install bubblewrap",
    "ubuntu": "apt-get install bubblewrap",
    "fedora": "dnf install bubblewrap",
    "rhel": "dnf install bubblewrap",
    "arch": "pacman -S bubblewrap",
    "alpine": "apk add bubblewrap",
    "suse": "zypper install bubblewrap",
}
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": SCRATCH,
    "TMPDIR": SCRATCH,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 26),  # else each large array costs its page faults anew
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
}
BOOT = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':');"
    "from pytest_llmgrind.graded.worker import main; main(*sys.argv[1:])"
)


@dataclass(frozen=True)
class Walls:
    """What stands around a worker here, and why there is no more."""

    level: str
    why: str = ""
    with_user: bool = True
    """Whether a user namespace is made: root takes on another user's number instead."""


@functools.cache
def walls(wanted: str = "auto") -> Walls:
    """Tried out once, with the very options that a worker gets."""
    if wanted == NONE:
        return Walls(NONE, "asked for")
    if sys.platform != "linux":
        return Walls(NONE, "bubblewrap needs Linux")
    if shutil.which("bwrap") is None:
        return Walls(NONE, f"bubblewrap is not installed: {cure()}")
    why = ""
    for with_user in [False, True] if os.geteuid() == 0 and namespaces.can_refuse() else [True]:
        command = [*_bwrap(with_user, Limits()), "/bin/sh", "-c", "exit 0"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return Walls(BUBBLEWRAP, with_user=with_user)
        why = tried.stderr.strip().rpartition("\n")[2]
    return Walls(NONE, f"bubblewrap does not work here: {why}")


def cure(release: Path = Path("/etc/os-release")) -> str:
    """How bubblewrap is installed here."""
    try:
        pairs = (line.partition("=") for line in release.read_text("utf-8").splitlines())
        told = {key: value.strip('"') for key, _, value in pairs}
    except OSError:
        told = {}
    for id in (told.get("ID", ""), *told.get("ID_LIKE", "").split()):
        if id in INSTALL:
            return INSTALL[id]
    return "your system's package bubblewrap"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker finds what it needs: paths as it sees them."""

    solution: str
    stub: str
    scratch: str
    uid: int = 0


def command(
    walls: Walls, limits: Limits, *, solution: Path, stub: Path, arguments: Sequence[str]
) -> list[str]:
    """The command that starts a worker; ``arguments`` go to ``worker.main``."""
    python = [sys._base_executable, "-I", "-S", "-B", "-c", BOOT]  # type: ignore[attr-defined]
    if walls.level == NONE:
        return [*python, ":".join([str(PACKAGE.parent), *_packages()]), *arguments]
    inside = [*_bwrap(walls.with_user, limits)]
    parents = [str(p) for path in _readable() for p in reversed(Path(path).parents)]
    for path in dict.fromkeys([*parents, GRADER]):  # bwrap makes them for one user alone
        if path not in ("/", SCRATCH):
            inside += ["--perms", "755", "--dir", path]
    inside += [word for path in _readable() for word in ("--ro-bind", path, path)]
    for path in (*_packages(), sysconfig.get_path("purelib", vars={"base": sys.base_prefix})):
        if (Path(path) / "pytest_llmgrind").is_dir():  # with it, challenges and references
            inside += ["--tmpfs", f"{path}/pytest_llmgrind"]
    inside += ["--ro-bind", str(PACKAGE), f"{GRADER}/pytest_llmgrind"]
    if (PACKAGE / "suite").is_dir():
        inside += ["--tmpfs", f"{GRADER}/pytest_llmgrind/suite"]
    inside += ["--ro-bind", str(solution), SOLUTION, "--ro-bind", str(stub), CHALLENGE]
    inside += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH]
    return [*inside, *python, ":".join([GRADER, *_packages()]), *arguments]


def place(walls: Walls, *, solution: Path, stub: Path) -> Place:
    if walls.level == NONE:
        return Place(solution=str(solution), stub=str(stub), scratch=str(solution.parent))
    uid = 0 if walls.with_user else random.SystemRandom().randrange(200_000, 1 << 30)
    return Place(solution=SOLUTION, stub=CHALLENGE, scratch=SCRATCH, uid=uid)


def _bwrap(with_user: bool, limits: Limits) -> list[str]:
    """Namespaces, the system's files, an empty scratch, and no capability."""
    found = ["bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    found += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    found += ["--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL"]
    if with_user:
        found += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    else:
        found += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for name, value in ENVIRONMENT.items():
        found += ["--setenv", name, value]
    for path in SYSTEM:
        if os.path.islink(path):
            found += ["--symlink", os.readlink(path), path]
        else:
            found += ["--ro-bind-try", path, path]
    found += ["--proc", "/proc", "--dev", "/dev"]
    size = str(limits.scratch_bytes)
    for path in (SCRATCH, "/dev/shm"):
        found += ["--perms", "1777", "--size", size, "--tmpfs", path]
    return found


def _readable() -> list[str]:
    """The interpreter and the packages, those inside others left out."""
    paths = [sys.base_prefix, *_packages()]
    return [p for p in paths if not any(p.startswith(f"{other}/") for other in (*paths, *SYSTEM))]


@functools.cache
def _packages() -> list[str]:
    """The directories that hold NumPy and msgspec, and torch where it is."""
    found = []
    for name in ("numpy", "msgspec", "torch"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            found.append(str(Path(spec.origin).resolve().parents[1]))
    return list(dict.fromkeys(found))
