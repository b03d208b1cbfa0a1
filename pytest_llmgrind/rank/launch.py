"""``launch``: what the process that tests calls."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from pytest_llmgrind.cluster.simulator import PerRank
from pytest_llmgrind.contenders import CARRIER
from pytest_llmgrind.manifest import enclosing
from pytest_llmgrind.rank.job import Job
from pytest_llmgrind.rank.verdict import Ending, failure

TIMEOUT_S = 10.0
MOST_OUTPUT = 1 << 16
"""How many bytes of what a rank printed are shown."""

NO_TORCH = "launch needs torch: pip install pytest-llmgrind[torch]"


def launch(
    function: Callable[..., Any],
    world_size: int,
    /,
    *args: Any,
    solution: ModuleType | None = None,
    backend: str = "gloo",
    init_method: str = "",
    timeout_s: float = TIMEOUT_S,
    fork: bool | None = None,
    preload: Sequence[str] = (),
) -> list[Any]:
    """Call ``function(process, *args)`` in ``world_size`` processes; what each returned, by rank.

    Parameters
    ----------
    function : a function at the top of a file
        The file is imported anew in each rank; it sees a ``Process``.
    args : numbers, texts, lists, tuples, dicts, arrays
        The same on each rank, or ``per_rank`` of a list. Results are of the same kinds.
    solution : module
        Imported anew in each rank, under the rules of the challenge that ``function`` belongs to.
    init_method : str
        By default a file of this launch, which needs no port. ``tcp://127.0.0.1:29500`` works too.
    timeout_s : float
        How long the ranks may take once they have imported torch.
    fork : bool
        Fork ranks from a process that has imported torch and the modules of ``preload``. By default
        where that is safe (Linux); else each rank is a new interpreter, which costs a second more.

    In graded mode only the solution runs in other processes, one a rank in a sandbox of their own,
    and ``function`` in threads of this one: there a rank that ends is not told apart by its signal,
    and one that hangs not by its line.

    Raises
    ------
    ValueError
        Naming ``function``, ``world_size`` or ``init_method`` (a port that is in use).
    ModuleNotFoundError
        Without torch; the text says how to install it.
    RankDied, RankHung
        Naming the rank, and where it was.
    Exception
        A builtin exception that a rank raised, with that rank's traceback and its number in a
        note; RankError for one of any other type.
    """
    if world_size < 1:
        raise ValueError(f"world_size: wanted 1 or more, got {world_size}")
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError(NO_TORCH)
    if init_method:
        _check_port(init_method)
    file = _file_of(function)
    by_rank = [[_of_rank(arg, rank, world_size) for arg in args] for rank in range(world_size)]
    if (carrier := getattr(solution, CARRIER, None)) is not None:
        how = {"backend": backend, "init_method": init_method, "timeout_s": timeout_s}
        return carrier.launch(function, by_rank, **how)  # type: ignore[no-any-return]
    with tempfile.TemporaryDirectory(prefix="llmgrind-ranks-") as directory:
        job = Job(
            directory=directory,
            file=str(file),
            function=function.__name__,
            world_size=world_size,
            init_method=init_method or f"file://{directory}/rendezvous",
            backend=backend,
            timeout_s=timeout_s,
            fork=sys.platform == "linux" if fork is None else fork,
            solution=_origin(solution) if solution is not None else "",
            challenge=str(enclosing(file) or ""),
            preload=tuple(preload),
        )
        for rank in range(world_size):
            job.write("args", rank, by_rank[rank])
        return _collected(job, _server().run(job))


def _collected(job: Job, endings: list[Ending]) -> list[Any]:
    """What the ranks returned; raises for the one that failed first."""
    for rank in range(job.world_size):
        with contextlib.suppress(FileNotFoundError):
            sys.stdout.write(_output(job, rank))
    if error := failure(job, endings):
        raise error
    return [job.read("result", rank)["value"] for rank in range(job.world_size)]


def _output(job: Job, rank: int) -> str:
    """What the rank printed; of much, how it began and how it ended."""
    with job.path("output", rank).open("rb") as file:
        size, half = os.fstat(file.fileno()).st_size, MOST_OUTPUT // 2
        if size <= MOST_OUTPUT:
            return file.read().decode("utf-8", "replace")
        first = file.read(half).decode("utf-8", "replace")
        file.seek(-half, os.SEEK_END)
        last = file.read().decode("utf-8", "replace")
    return f"{first}\n… {size - MOST_OUTPUT:,} bytes of rank {rank} left out …\n{last}"


def _of_rank(value: Any, rank: int, world_size: int) -> Any:
    if not isinstance(value, PerRank):
        return value
    if len(value.values) != world_size:
        raise ValueError(f"args: per_rank wants {world_size} values, got {len(value.values)}")
    return value.values[rank]


def _file_of(function: Callable[..., Any]) -> Path:
    """The file that a rank imports to find the function."""
    name = getattr(function, "__qualname__", "")
    code = getattr(function, "__code__", None)
    if code is None or not name.isidentifier():
        raise ValueError(
            f"function: wanted a function at the top of a file, got {name or function}"
        )
    return Path(code.co_filename).resolve()


def _origin(module: ModuleType) -> str:
    origin = module.__spec__.origin if module.__spec__ is not None else module.__file__
    if origin is None:
        raise ValueError(f"solution: {module.__name__} comes from no file")
    return origin


def _check_port(init_method: str) -> None:
    """Say so at once where the port is taken: torch would wait, and then say less."""
    try:
        url = urlsplit(init_method)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"init_method: {init_method}: {error}") from None
    if url.scheme == "file":
        return
    if url.scheme != "tcp" or not host or not port:
        raise ValueError(f"init_method: wanted file://PATH or tcp://HOST:PORT, got {init_method}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"init_method: port {port} of {host} cannot be used: {error.strerror}; "
                "give another one, or leave init_method out: a file needs no port"
            ) from None


class _Server:
    """The process that starts ranks; see server.py."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest_llmgrind.rank", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )

    def run(self, job: Job) -> list[Ending]:
        """Hand the job over and wait. Whatever interrupts that ends the server and the ranks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{job.to_json()}\n".encode())
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                raise RuntimeError(f"the server of the ranks ended: {self._last_words()}")
        except BaseException:
            self.close()
            raise
        return [Ending(**entry) for entry in json.loads(answer)]

    def close(self) -> None:
        """End the server, which ends its ranks."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stderr is not None:
            process.stderr.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None and self.owner == os.getpid()

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.wait()}"


_servers: list[_Server] = []


def _server() -> _Server:
    """The server of this process, started when it is first needed."""
    if not (_servers and _servers[0].alive):
        _servers[:] = [_Server()]
    return _servers[0]


@atexit.register
def stop() -> None:
    """End the server; the next launch starts another one."""
    while _servers:
        server = _servers.pop()
        if server.owner == os.getpid():
            server.close()
