"""What a run leaves behind: results, counters, messages and spans. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Link:
    """The cost of a message from one rank to another: ``latency_s + nbytes / bytes_per_s``."""

    latency_s: float = 1e-6
    bytes_per_s: float = 1e9

    def __post_init__(self) -> None:
        if not self.latency_s >= 0:
            raise ValueError(f"latency_s: wanted 0 or more, got {self.latency_s}")
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s: wanted more than 0, got {self.bytes_per_s}")

    def seconds(self, nbytes: int) -> float:
        return self.latency_s + nbytes / self.bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message on the network. ``kind`` is ``send`` or the collective that it belongs to."""

    src: int
    dst: int
    kind: str
    nbytes: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Span:
    """What the program of a rank did from start to end: ``compute`` or ``wait``."""

    rank: int
    kind: str
    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Traffic:
    """Messages of one kind and their bytes."""

    messages: int = 0
    nbytes: int = 0

    def plus(self, nbytes: int) -> Traffic:
        return Traffic(self.messages + 1, self.nbytes + nbytes)


@dataclass(frozen=True, kw_only=True)
class Rank:
    """The counters of one rank.

    ``calls`` counts what the program called (``send``, ``recv``, ``all_reduce``, …), ``sent`` and
    ``received`` what went over the network, by the kind of message. ``peak_bytes`` is the most
    that was held (``Comm.hold``) and buffered at a time, ``traced_bytes`` the peak of what the
    program allocated, where the cluster traces memory.
    """

    rank: int
    finish_s: float
    compute_s: float
    wait_s: float
    calls: Mapping[str, int]
    sent: Mapping[str, Traffic]
    received: Mapping[str, Traffic]
    peak_bytes: int
    traced_bytes: int | None = None

    @property
    def sent_bytes(self) -> int:
        return sum(traffic.nbytes for traffic in self.sent.values())

    @property
    def sent_messages(self) -> int:
        return sum(traffic.messages for traffic in self.sent.values())

    @property
    def received_bytes(self) -> int:
        return sum(traffic.nbytes for traffic in self.received.values())

    @property
    def received_messages(self) -> int:
        return sum(traffic.messages for traffic in self.received.values())


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything about one run of a cluster.

    ``results`` holds what each rank returned, ``ranks`` their counters, ``messages`` the traffic
    in the order in which it began, ``spans`` what the programs did, ``unreceived`` the messages
    that no rank ever received.
    """

    size: int
    results: tuple[Any, ...] = field(repr=False)
    ranks: tuple[Rank, ...] = field(repr=False)
    messages: tuple[Message, ...] = field(repr=False)
    spans: tuple[Span, ...] = field(repr=False)
    unreceived: tuple[Message, ...] = field(repr=False)

    @property
    def time_s(self) -> float:
        """When the last rank finished."""
        return max(rank.finish_s for rank in self.ranks)

    def timeline(self, *, width: int = 72, log: bool = True) -> str:
        """The run as text: a chart of ``width`` columns, then a line for each message."""
        from pytest_llmgrind.cluster.timeline import text

        return text(self, width=width, log=log)

    def svg(self) -> str:
        """The run as a picture: a lane for each rank, an arrow for each message."""
        from pytest_llmgrind.cluster.picture import svg

        return svg(self)
