"""Runs ranks and collectives one at a time, in the order of their simulated clocks.

Each rank is a thread that runs only while it holds the baton, so a run is the same every time. A
rank that is about to touch the network lets everyone with an earlier clock go first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pytest_llmgrind.cluster import collectives
from pytest_llmgrind.cluster.comm import Comm
from pytest_llmgrind.cluster.errors import Deadlock, Mismatch
from pytest_llmgrind.cluster.memory import Ledger, Tracer
from pytest_llmgrind.cluster.network import Links, Network, Pending
from pytest_llmgrind.cluster.run import Span
from pytest_llmgrind.cluster.thread import RankThread
from pytest_llmgrind.cluster.timeline import seconds

Members = tuple[int, ...]
Arguments = tuple[list[Any], dict[str, Any]]


class Engine:
    """One run: its ranks, its network, and who is next."""

    def __init__(
        self,
        *,
        size: int,
        links: Links,
        flops_per_s: float,
        eager_bytes: float,
        trace_memory: bool,
    ) -> None:
        ledgers = [Ledger() for _ in range(size)]
        self.network = Network(size, links, eager_bytes, ledgers)
        self.flops_per_s = flops_per_s
        self.spans: list[Span] = []
        self.tasks = [
            RankTask(self, rank, size, Tracer() if trace_memory else None) for rank in range(size)
        ]
        self._ready: list[tuple[float, tuple[int, int], RankTask | CollectiveTask]] = []
        self._joined: dict[tuple[Members, int], dict[int, str]] = {}
        self._begun: Counter[tuple[Members, int]] = Counter()

    def run(self, program: Callable[..., Any], calls: Sequence[Arguments]) -> None:
        """Call the program on every rank; returns when all have returned."""
        size = len(self.tasks)
        try:
            for task, (args, kwargs) in zip(self.tasks, calls, strict=True):
                comm = Comm(task.call, task.rank, size)
                task.thread.start(program, (comm, *args), kwargs)
                self.push(task, 0.0)
            self._loop()
        finally:
            for task in self.tasks:
                task.thread.end()

    def push(self, task: RankTask | CollectiveTask, at_s: float) -> None:
        """The task goes on when all with an earlier clock have."""
        heapq.heappush(self._ready, (at_s, task.order, task))

    def is_first(self, at_s: float, order: tuple[int, int]) -> bool:
        return not self._ready or (at_s, order) < self._ready[0][:2]

    def _loop(self) -> None:
        while self._ready:
            at_s, _, task = heapq.heappop(self._ready)
            task.step(at_s)
        blocked = [task for task in self.tasks if not task.thread.finished]
        if blocked:
            error = Deadlock(self._deadlock_text(blocked))
            blocked[0].thread.throw(error)
            raise error

    # -- collectives ------------------------------------------------------------------------

    def join(self, rank: int, members: Members, described: str) -> int:
        """Rank begins its next collective of a group; the collective's number there."""
        number = self._begun[members, rank]
        self._begun[members, rank] += 1
        joined = self._joined.setdefault((members, number), {})
        for other, call in joined.items():
            if not _agree(call, described):
                raise Mismatch(
                    f"collective {number + 1} differs between two ranks: "
                    f"rank {other} called {call}, rank {rank} called {described}"
                )
        joined[rank] = described
        return number

    def absent(self, members: Members, number: int) -> list[int]:
        """The members that have not begun a collective that others have."""
        return [rank for rank in members if rank not in self._joined[members, number]]

    def _deadlock_text(self, blocked: list[RankTask]) -> str:
        now = seconds(max(task.clock for task in self.tasks))
        lines = [f"deadlock after {now}: no rank can go on"]
        for task in self.tasks:
            if task not in blocked:
                lines.append(f"rank {task.rank} has returned")
            else:
                assert task.waiting is not None
                lines.append(f"rank {task.rank} waits for {self._what(task.waiting)}")
        return "\n  ".join(lines)

    def _what(self, pending: Pending) -> str:
        if pending.collective is None:
            return pending.what
        members, number = pending.collective
        absent = self.absent(members, number)
        who = ", ".join(map(str, absent))
        others = f"rank{'s' if len(absent) > 1 else ''} {who}" if absent else "its messages"
        return f"{others} in {pending.what}, its collective {number + 1}"


def _agree(one: str, other: str) -> bool:
    """Whether two calls are the same; a broadcast may leave out the array."""
    if one.startswith("broadcast(") and other.startswith("broadcast("):
        (a, a_root), (b, b_root) = (text.rsplit(", root=", 1) for text in (one, other))
        return a_root == b_root and (a == b or "broadcast(None" in (a, b))
    return one == other


class RankTask:
    """One rank: its clock, its counters, and every operation of its ``Comm``."""

    def __init__(self, engine: Engine, rank: int, size: int, tracer: Tracer | None) -> None:
        self.engine = engine
        self.rank = rank
        self.order = (rank, 0)
        self.clock = 0.0
        self.calls: Counter[str] = Counter()
        self.tracer = tracer
        self.thread = RankThread(rank, size=size, tracer=tracer)
        self.waiting: Pending | None = None
        self._requests: dict[int, Pending] = {}
        self._numbers = 0

    @property
    def result(self) -> Any:
        return self.thread.result

    def step(self, at_s: float) -> None:
        """Hand the baton to the rank until it waits, lets others go first, or returns."""
        self.thread.step()

    def call(self, name: str, *args: Any) -> Any:
        """What ``Comm`` calls, on the rank's own thread."""
        with self.thread.outside():
            return getattr(self, f"do_{name}")(*args)

    def turn(self) -> None:
        """Let everyone with an earlier clock go first."""
        if not self.engine.is_first(self.clock, self.order):
            self.engine.push(self, self.clock)
            self.thread.switch()

    # -- operations of Comm -----------------------------------------------------------------

    def do_count(self, name: str) -> None:
        self.calls[name] += 1

    def do_isend(self, array: Any, dst: int, tag: int) -> int:
        self.turn()
        channel = (self.rank, dst, tag)
        payload = collectives.copied(array)
        return self._request(self.engine.network.post_send(channel, payload, "send", self.clock))

    def do_irecv(self, src: int, tag: int) -> int:
        self.turn()
        channel, kind = (src, self.rank, tag), f"recv, tag {tag}" if tag else "recv"
        return self._request(self.engine.network.post_recv(channel, kind, self.clock))

    def do_start(
        self, name: str, members: Members, args: tuple[Any, ...], op: str, root: int
    ) -> int:
        text = collectives.described(name, len(members), args, op, root)
        if name == "broadcast" and members[root] == self.rank and args[0] is None:
            raise ValueError(f"array: rank {self.rank} is the root and gives None")
        self.turn()
        number = self.engine.join(self.rank, members, text)
        pending = Pending(self.rank, text, name, self.clock, collective=(members, number))
        own = tuple(_copies(value) for value in args)
        self._numbers += 1
        task = CollectiveTask(self, (self.rank, self._numbers), pending, name)
        task.program = collectives.program(name, task, own, op, root)
        self.engine.push(task, self.clock)
        return self._request(pending)

    def do_wait(self, number: int) -> Any:
        pending = self._requests.pop(number, None)
        if pending is None:
            raise ValueError("wait: this request was waited for already")
        if pending.done_s is None:
            pending.waiter = lambda: self.engine.push(self, max(self.clock, pending.done_s or 0.0))
            self.waiting = pending
            self.thread.switch()
            self.waiting = None
        assert pending.done_s is not None
        if pending.done_s > self.clock:
            self._span("wait", pending.label, pending.done_s)
        value = pending.take()
        if self.tracer is not None:
            self.tracer.given(value)
        return value

    def do_compute(self, flops: float, seconds: float, label: str) -> None:
        self._span("compute", label, self.clock + flops / self.engine.flops_per_s + seconds)

    def do_hold(self, nbytes: int) -> None:
        self.engine.network.ledgers[self.rank].hold(self.clock, nbytes)

    def do_now(self) -> float:
        return self.clock

    def _request(self, pending: Pending) -> int:
        self._numbers += 1
        self._requests[self._numbers] = pending
        return self._numbers

    def _span(self, kind: str, label: str, end_s: float) -> None:
        span = Span(rank=self.rank, kind=kind, label=label, start_s=self.clock, end_s=end_s)
        self.engine.spans.append(span)
        self.clock = end_s


class CollectiveTask:
    """A collective of one rank, under way; it is the ``Peers`` of its program."""

    program: collectives.Program

    def __init__(
        self, owner: RankTask, order: tuple[int, int], pending: Pending, kind: str
    ) -> None:
        assert pending.collective is not None
        self.engine = owner.engine
        self.order = order
        self.clock = owner.clock
        self.members, self.number = pending.collective
        self.rank = self.members.index(owner.rank)
        self.size = len(self.members)
        self._pending, self._kind = pending, kind
        self._waiting: Pending | None = None

    def isend(self, array: Any, dst: int) -> Pending:
        channel = (self.members[self.rank], self.members[dst], (self.members, self.number))
        payload = collectives.copied(array)
        return self.engine.network.post_send(channel, payload, self._kind, self.clock)

    def irecv(self, src: int) -> Pending:
        channel = (self.members[src], self.members[self.rank], (self.members, self.number))
        return self.engine.network.post_recv(channel, self._kind, self.clock)

    def step(self, at_s: float) -> None:
        """Go on until the program waits again, or is over."""
        self.clock = at_s
        value = self._waiting.take() if self._waiting is not None else None
        try:
            waiting: Pending = self.program.send(value)
        except StopIteration as stop:
            self._pending.finish(self.clock, stop.value)
            return
        self._waiting = waiting
        if waiting.done_s is None:
            waiting.waiter = self._wake
        else:
            self._wake()

    def _wake(self) -> None:
        assert self._waiting is not None
        assert self._waiting.done_s is not None
        self.engine.push(self, max(self.clock, self._waiting.done_s))


def _copies(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [collectives.copied(array) for array in value]
    return None if value is None else collectives.copied(value)
