"""``Cluster``: one program on R ranks, in the order of simulated time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmgrind.cluster.collectives import copied
from pytest_llmgrind.cluster.engine import Engine
from pytest_llmgrind.cluster.run import Link, Rank, Run


@dataclass(frozen=True)
class PerRank:
    """An argument that is another one on each rank."""

    values: Sequence[Any]


def per_rank(values: Sequence[Any]) -> Any:
    """Marks an argument of ``Cluster.run``: rank r gets ``values[r]``."""
    return PerRank(values)


class Cluster:
    """R ranks and the links between them.

    Parameters
    ----------
    size : int
        R, at least 1.
    link : Link, or a function of source and destination that gives one
        What a message costs. By default 1 µs and 1 GB/s, so 1 ns for each byte.
    flops_per_s : float
        The speed behind ``Comm.compute``.
    eager_bytes : float
        A send of more bytes waits until its receiver asks for it (MPI's eager limit). By default
        no send waits; with 0 every send that has a byte in it does.
    trace_memory : bool
        Trace what each rank's program allocates (tracemalloc, several times slower).

    Raises
    ------
    ValueError
        Naming ``size``, ``flops_per_s`` or ``eager_bytes``.
    """

    def __init__(
        self,
        size: int,
        *,
        link: Link | Callable[[int, int], Link] | None = None,
        flops_per_s: float = 1e12,
        eager_bytes: float = float("inf"),
        trace_memory: bool = False,
    ) -> None:
        if int(size) != size or size < 1:
            raise ValueError(f"size: wanted a whole number of ranks, 1 or more, got {size}")
        if not flops_per_s > 0:
            raise ValueError(f"flops_per_s: wanted more than 0, got {flops_per_s}")
        if not eager_bytes >= 0:
            raise ValueError(f"eager_bytes: wanted 0 or more, got {eager_bytes}")
        self.size = int(size)
        self.flops_per_s = flops_per_s
        self.eager_bytes = eager_bytes
        self.trace_memory = trace_memory
        self._link = link or Link()

    def link(self, src: int, dst: int) -> Link:
        """The link from one rank to another."""
        return self._link if isinstance(self._link, Link) else self._link(src, dst)

    def run(self, program: Callable[..., Any], *args: Any, **kwargs: Any) -> Run:
        """Call ``program(comm, *args, **kwargs)`` on every rank.

        Each rank gets its own copy of every array in the arguments, also inside dicts, lists and
        tuples. An argument made by ``per_rank`` is another one on each rank.

        Raises
        ------
        Deadlock
            When no rank can go on; says what each one waits for.
        Mismatch
            When two ranks make different collective calls; names both.
        Exception
            Whatever the program raised first, with that rank's traceback and its number in a note.
        """
        calls = [_own(args, kwargs, rank, self.size) for rank in range(self.size)]
        engine = Engine(
            size=self.size,
            links=self.link,
            flops_per_s=self.flops_per_s,
            eager_bytes=self.eager_bytes,
            trace_memory=self.trace_memory,
        )
        started = self.trace_memory and not tracemalloc.is_tracing()
        if started:
            tracemalloc.start()
        try:
            engine.run(program, calls)
        finally:
            if started:
                tracemalloc.stop()
        return _result(engine)


def _own(
    args: tuple[Any, ...], kwargs: dict[str, Any], rank: int, size: int
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of one rank."""

    def own(name: str, value: Any) -> Any:
        if not isinstance(value, PerRank):
            return _copied(value)
        if len(value.values) != size:
            raise ValueError(f"{name}: per_rank wants {size} values, got {len(value.values)}")
        return _copied(value.values[rank])

    positional = [own(f"argument {place}", value) for place, value in enumerate(args, start=1)]
    return positional, {name: own(name, value) for name, value in kwargs.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    if hasattr(value, "_fields"):  # a tuple with names
        return type(value)(*map(_copied, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(_copied, value))
    return copied(value) if hasattr(value, "nbytes") and hasattr(value, "shape") else value


def _result(engine: Engine) -> Run:
    network, tasks = engine.network, engine.tasks
    ranks = tuple(
        Rank(
            rank=task.rank,
            finish_s=task.clock,
            compute_s=_total(engine, task.rank, "compute"),
            wait_s=_total(engine, task.rank, "wait"),
            calls=dict(task.calls),
            sent=network.sent[task.rank],
            received=network.received[task.rank],
            peak_bytes=network.ledgers[task.rank].peak_bytes,
            traced_bytes=task.tracer.peak_bytes if task.tracer else None,
        )
        for task in tasks
    )
    return Run(
        size=len(tasks),
        results=tuple(task.result for task in tasks),
        ranks=ranks,
        messages=tuple(sorted(network.messages, key=lambda m: (m.start_s, m.src, m.dst))),
        spans=tuple(engine.spans),
        unreceived=network.unreceived(),
    )


def _total(engine: Engine, rank: int, kind: str) -> float:
    spans = [span for span in engine.spans if (span.rank, span.kind) == (rank, kind)]
    return sum(span.end_s - span.start_s for span in spans)
