"""``python -m pytest_llmgrind.rank FILE FUNCTION``: run a function on several ranks, or on one.

    python -m pytest_llmgrind.rank ring.py main --world-size 4
    python -m pytest_llmgrind.rank ring.py main --world-size 4 --rank 0 --init-method tcp://…:29500

The first starts all ranks on this machine and prints what each returned. The second is one rank,
in this process: start the others elsewhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

from pytest_llmgrind.rank import child
from pytest_llmgrind.rank.job import Job
from pytest_llmgrind.rank.launch import NO_TORCH, TIMEOUT_S, launch


def main(argv: list[str]) -> int:
    if argv == ["--serve"]:
        from pytest_llmgrind.rank.server import serve

        serve()
        return 0
    if argv[:1] == ["--job"]:
        _rank_of_job(argv)
    parser = argparse.ArgumentParser(prog="python -m pytest_llmgrind.rank")
    parser.add_argument("file", type=Path, help="a Python file")
    parser.add_argument("function", help="a function of it, which takes a Process")
    parser.add_argument("--world-size", type=int, default=2, help="how many ranks (default: 2)")
    parser.add_argument("--rank", type=int, help="be this rank, and start no other")
    parser.add_argument("--init-method", default="", help="file://PATH or tcp://HOST:PORT")
    parser.add_argument("--backend", default="gloo", help="gloo (default) or nccl")
    parser.add_argument("--solution", type=Path, help="a file to import as process.solution")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    options = parser.parse_args(argv)
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    if importlib.util.find_spec("torch") is None:
        parser.error(NO_TORCH)
    if options.rank is not None and not options.init_method:
        parser.error("--rank needs --init-method: how the ranks find each other")
    sys.path.insert(0, str(options.file.resolve().parent))  # as when the file itself is run
    if not callable(getattr(child.import_file(options.file.resolve()), options.function, None)):
        parser.error(f"{options.file} has no function {options.function}")
    return _all_ranks(options) if options.rank is None else _one_rank(options)


def _all_ranks(options: argparse.Namespace) -> int:
    function = getattr(child.import_file(options.file.resolve()), options.function)
    solution = child.import_file(options.solution.resolve()) if options.solution else None
    results = launch(
        function,
        options.world_size,
        solution=solution,
        backend=options.backend,
        init_method=options.init_method,
        timeout_s=options.timeout,
    )
    for rank, result in enumerate(results):
        print(f"rank {rank}: {result!r}")
    return 0


def _one_rank(options: argparse.Namespace) -> int:
    job = Job(
        directory="",
        file=str(options.file.resolve()),
        function=options.function,
        world_size=options.world_size,
        init_method=options.init_method,
        backend=options.backend,
        timeout_s=options.timeout,
        fork=False,
        solution=str(options.solution.resolve()) if options.solution else "",
    )
    import torch

    torch.set_num_threads(1)
    print(f"rank {options.rank}: {child.call(job, options.rank)!r}")
    return 0


def _rank_of_job(argv: list[str]) -> NoReturn:
    """A rank that server.py started as a new interpreter."""
    parser = argparse.ArgumentParser()
    for name in ("--job", "--rank", "--life"):
        parser.add_argument(name, required=True)
    options = parser.parse_args(argv)
    job, rank = Job.from_json(options.job), int(options.rank)
    child.prepare(job, rank, int(options.life))
    code = child.run(job, rank)
    sys.stdout.flush()
    os._exit(code)  # nothing that torch left running may hold the rank up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
