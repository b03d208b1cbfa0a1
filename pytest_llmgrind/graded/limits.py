"""How much of the machine a solution gets in graded mode, and what it has used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one worker, with all processes that it starts."""

    memory_bytes: int = 2048 * MIB
    mapped_bytes: int = 4096 * MIB
    """Addresses that a process may have; the memory behind them is taken when it is written."""
    processes: int = 24
    """And threads, those of NumPy's libraries among them."""
    file_bytes: int = 16 * MIB
    scratch_bytes: int = 32 * MIB
    open_files: int = 128
    output_bytes: int = MIB
    cpu_s: int = 3600

    @property
    def of_process(self) -> dict[str, int]:
        """By the names of setrlimit."""
        return {
            "AS": self.mapped_bytes,
            "NPROC": self.processes,
            "FSIZE": self.file_bytes,
            "NOFILE": self.open_files,
            "CPU": self.cpu_s,
            "CORE": 0,
        }


NUMPY = Limits()
TORCH = Limits(memory_bytes=6144 * MIB, mapped_bytes=24_576 * MIB, processes=64)
TREE_FILES = 256
SOLUTION_BYTES = MIB
"""Of all files of a solution together."""


@dataclass(frozen=True)
class Use:
    """What a process and its descendants hold at a moment."""

    processes: int = 0
    threads: int = 0
    memory_bytes: int = 0
    cpu_s: float = 0.0


def use_of(root: int) -> Use:
    """Of a process and all below it."""
    found = [each for pid in (root, *below(root)) if (each := _stat(pid)) is not None]
    return Use(
        len(found),
        sum(threads for threads, _, _ in found),
        sum(memory for _, memory, _ in found),
        sum(cpu for _, _, cpu in found),
    )


def below(pid: int) -> Iterator[int]:
    """The descendants of a process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children = file.read().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from below(int(child))


def _stat(pid: int) -> tuple[int, int, float] | None:
    """Threads, bytes of memory, seconds of CPU."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    cpu_s = sum(map(int, fields[11:15])) / TICKS
    return int(fields[17]), int(fields[21]) * PAGE, cpu_s
