"""Functions of ranks for test_rank.py; each rank imports this file anew."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def _join(process):
    import torch.distributed as dist

    dist.init_process_group(
        process.backend,
        init_method=process.init_method,
        rank=process.rank,
        world_size=process.world_size,
    )
    return dist


def all_reduce(process, x):
    import torch

    dist = _join(process)
    total = torch.from_numpy(x.copy())
    dist.all_reduce(total)
    dist.destroy_process_group()
    return {"sum": total.numpy(), "who": (process.rank, process.world_size)}


def multiply(process, n):
    """Hangs where OpenMP's threads were lost in a fork."""
    import torch

    x = torch.ones(n, n)
    return float((x @ x).sum()), torch.get_num_threads()


def echo(process, *args):
    return list(args)


def say(process):
    print(f"rank {process.rank} was here")


def say_much(process, times):
    print("the first line")
    for _ in range(times):
        print("x" * 999)
    print("the last line")


def write_for_ever(process):
    """Far more than any rank has to say."""
    with Path("/proc/self/fd/1").open("wb") as output:
        output.truncate(2**40)


def raise_without_text(process):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    raise Mute


def raise_on(process, rank):
    dist = _join(process)
    if process.rank == rank:
        try:
            raise ValueError("heads: 3 ranks do not divide 4 heads")
        finally:
            dist.destroy_process_group()  # the others lose their connection first
    dist.barrier()


def raise_foreign(process):
    class Odd(Exception):
        pass

    raise Odd("nobody knows me")


def exit_on(process, rank, code):
    dist = _join(process)
    if process.rank == rank:
        os._exit(code)
    dist.barrier()


def crash_on(process, rank):
    import ctypes

    dist = _join(process)
    if process.rank == rank:
        ctypes.string_at(0)
    dist.barrier()


def return_early(process):
    dist = _join(process)
    if process.rank == 0:
        dist.barrier()


def hang_on(process, rank):
    dist = _join(process)
    while process.rank == rank:
        time.sleep(0.01)
    dist.barrier()


def wait_for_each_other(process, how):
    import torch

    dist = _join(process)
    if process.rank < 2 and how == "recv":
        dist.recv(torch.zeros(3), 1 - process.rank)
    if process.rank < 2 and how == "irecv":
        dist.irecv(torch.zeros(3), 1 - process.rank).wait()
    dist.barrier() if process.rank < 2 else time.sleep(0.1)


def give_a_set(process):
    return {1, 2}


def leave_a_process(process, directory):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    for pid in (os.getpid(), child.pid):
        (Path(directory) / f"pid-{pid}").touch()


def leave_a_session(process, directory):
    """A process that no longer belongs to the group of the rank."""
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    (Path(directory) / f"pid-{child.pid}").touch()


def leave_the_group(process, directory):
    if process.rank == 1:
        os.setsid()
        (Path(directory) / f"pid-{os.getpid()}").touch()
        time.sleep(100)


def leave_and_hang(process, directory):
    leave_a_process(process, directory)
    (Path(directory) / f"ready-{process.rank}").touch()
    time.sleep(100)


def answer(process):
    return process.solution.answer()
