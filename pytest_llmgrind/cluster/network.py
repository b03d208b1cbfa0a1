"""Messages between ranks: matching, ports, cost and counters.

The cost of a message is ``latency_s + nbytes / bytes_per_s`` of its link. For that long it keeps
the sender's outgoing port and the receiver's incoming port, and each port carries one message at a
time. Ports are given out in the order of the clocks of those who ask.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from pytest_llmgrind.cluster.memory import Ledger
from pytest_llmgrind.cluster.run import Link, Message, Traffic

Channel = tuple[int, int, Hashable]  # source, destination, tag or collective
Links = Callable[[int, int], Link]


@dataclass(eq=False)
class Pending:
    """An operation that was begun at ``posted_s``; it is over when ``done_s`` is known.

    ``what`` says in words what its rank waits for, ``label`` names it in a timeline. ``waiter`` is
    called when it is over. A ``collective`` has its members and its number among theirs.
    """

    rank: int
    what: str
    label: str
    posted_s: float
    collective: tuple[tuple[int, ...], int] | None = None
    done_s: float | None = None
    value: Any = None
    waiter: Callable[[], None] | None = None

    def finish(self, at_s: float, value: Any = None) -> None:
        self.done_s = at_s
        self.value = value
        if self.waiter is not None:
            self.waiter()

    def take(self) -> Any:
        """The value, of which nothing is kept: whoever takes it decides when it is dropped."""
        value, self.value, self.waiter = self.value, None, None
        return value


@dataclass(eq=False)
class _Letter:
    """A message on its way; ``message`` is None until it has the ports."""

    payload: Any
    kind: str
    sent: Pending
    message: Message | None = None


@dataclass(eq=False)
class Network:
    """The links of one run and all that went over them."""

    size: int
    links: Links
    eager_bytes: float
    ledgers: list[Ledger]
    messages: list[Message] = field(default_factory=list)
    sent: list[dict[str, Traffic]] = field(init=False)
    received: list[dict[str, Traffic]] = field(init=False)

    def __post_init__(self) -> None:
        self.sent = [{} for _ in range(self.size)]
        self.received = [{} for _ in range(self.size)]
        self._out_free = [0.0] * self.size
        self._in_free = [0.0] * self.size
        self._letters: dict[Channel, deque[_Letter]] = defaultdict(deque)
        self._wanted: dict[Channel, deque[Pending]] = defaultdict(deque)

    def post_send(self, channel: Channel, payload: Any, kind: str, now_s: float) -> Pending:
        """Begin to send ``payload``, which is the network's own from now on."""
        src, dst, _ = channel
        nbytes = int(payload.nbytes)
        sent = Pending(
            src, f"rank {dst} to receive {nbytes:,} bytes ({kind})", f"{kind} to {dst}", now_s
        )
        letter = _Letter(payload, kind, sent)
        if nbytes <= self.eager_bytes:
            self._carry(channel, letter, now_s)
        if self._wanted[channel]:
            self._deliver(channel, letter, self._wanted[channel].popleft(), now_s)
        else:
            self._letters[channel].append(letter)
        return sent

    def post_recv(self, channel: Channel, kind: str, now_s: float) -> Pending:
        """Begin to receive the next message of a channel."""
        src, dst, _ = channel
        received = Pending(dst, f"a message from rank {src} ({kind})", f"{kind} from {src}", now_s)
        if self._letters[channel]:
            self._deliver(channel, self._letters[channel].popleft(), received, now_s)
        else:
            self._wanted[channel].append(received)
        return received

    def unreceived(self) -> tuple[Message, ...]:
        """Messages that nobody asked for; those that never left count from their sender's clock."""
        left = [
            letter.message
            or Message(
                src=channel[0],
                dst=channel[1],
                kind=letter.kind,
                nbytes=int(letter.payload.nbytes),
                start_s=letter.sent.posted_s,
                end_s=letter.sent.posted_s,
            )
            for channel, letters in self._letters.items()
            for letter in letters
        ]
        return tuple(sorted(left, key=lambda m: (m.start_s, m.src, m.dst)))

    def _deliver(self, channel: Channel, letter: _Letter, received: Pending, now_s: float) -> None:
        if letter.message is None:
            self._carry(channel, letter, now_s)
        assert letter.message is not None
        at_s = max(received.posted_s, letter.message.end_s)
        self.ledgers[channel[1]].add(at_s, -letter.message.nbytes)
        received.finish(at_s, letter.payload)

    def _carry(self, channel: Channel, letter: _Letter, now_s: float) -> None:
        """Give the message its ports, and count it."""
        src, dst, _ = channel
        nbytes = int(letter.payload.nbytes)
        start_s = max(now_s, self._out_free[src], self._in_free[dst])
        end_s = start_s + self.links(src, dst).seconds(nbytes)
        self._out_free[src] = self._in_free[dst] = end_s
        letter.message = Message(
            src=src, dst=dst, kind=letter.kind, nbytes=nbytes, start_s=start_s, end_s=end_s
        )
        self.messages.append(letter.message)
        for side, counts in ((src, self.sent), (dst, self.received)):
            counts[side][letter.kind] = counts[side].get(letter.kind, Traffic()).plus(nbytes)
        self.ledgers[dst].add(start_s, nbytes)
        letter.sent.finish(end_s)
