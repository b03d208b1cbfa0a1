"""One rank: runs the function and writes down what came of it."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind.rank.job import Job, Process

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_PACKAGE = "llmgrind_rank_files"

MOST_BYTES = 1 << 30
"""How long a file of a rank may become, its output among them: a loop that prints fills no disk."""


def run(job: Job, rank: int) -> int:
    """The exit code of a rank; its result stands in the job's directory."""
    import torch

    torch.set_num_threads(1)  # first: a forked child must not use OpenMP's dead threads
    job.path("ready", rank).touch()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK.get(sys.platform, "lo"))
    try:
        value = call(job, rank)
        job.write("result", rank, {"value": value})
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        job.write("result", rank, told(error))
        return 1
    return 0


def call(job: Job, rank: int) -> Any:
    """Import what is needed, and call the function."""
    function = getattr(import_file(Path(job.file)), job.function)
    process = Process(rank, job.world_size, job.init_method, job.backend, solution=_solution(job))
    args = job.read("args", rank) if job.directory else ()
    return function(process, *args)


def told(error: BaseException) -> dict[str, Any]:
    """An exception as plain values: type, arguments, text, places, full traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    args = [arg for arg in error.args if isinstance(arg, (str, int, float))]
    return {
        "at_s": time.time(),
        "type": type(error).__name__,
        "args": args if len(args) == len(error.args) else [],
        "text": _text(error),
        "places": [[frame.filename, frame.lineno or 1, frame.name] for frame in frames],
        "traceback": "".join(traceback.format_exception(error)),
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        return f"<its text raised {type(another).__name__}>"


def prepare(job: Job, rank: int, life: int) -> None:
    """In a process of its own: output to a file, stacks on demand, an end with its server.

    ``life`` is the reading end of a pipe whose other end only the server holds.
    """
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    soft = MOST_BYTES if most == resource.RLIM_INFINITY else min(MOST_BYTES, most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, most))
    with job.path("output", rank).open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    stack = job.path("stack", rank).open("w")
    faulthandler.enable(file=stack, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=stack, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_server, args=(life,), daemon=True).start()


def _end_with_server(life: int) -> None:
    os.read(life, 1)
    os._exit(1)


def import_file(path: Path) -> ModuleType:
    """A file as a module; ``from . import other`` finds the files beside it."""
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(path.parent)]
    sys.modules[_PACKAGE] = package
    spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _solution(job: Job) -> ModuleType | None:
    """The solution under the rules of its challenge."""
    if not job.solution:
        return None
    if not job.challenge:
        return import_file(Path(job.solution))
    from pytest_llmgrind import manifest, solution

    return solution.load(manifest.load(Path(job.challenge)), solution.Candidate(Path(job.solution)))
