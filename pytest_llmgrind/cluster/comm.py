"""What the code of a rank sees of the cluster.

A ``Comm`` holds its rank, its group and one function: every operation is one call of it. So the
code of a rank may live in another process, where that function is a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Array = Any  # a NumPy array or a CPU tensor of torch
OPERATORS = ("sum", "max", "min")
Call = Callable[..., Any]


class Request:
    """An operation that was begun. ``wait`` ends it."""

    def __init__(self, call: Call, number: int) -> None:
        self._call = call
        self._number = number

    def wait(self) -> Any:
        """Wait until the operation is over; what it gives, None for a send."""
        return self._call("wait", self._number)


class Comm:
    """One rank's end of a group of ranks.

    ``rank`` is its number, from 0 to ``size`` - 1. What is sent is copied: no two ranks ever share
    an array. An array is a NumPy array or a CPU tensor of torch; results have the same kind.
    """

    def __init__(self, call: Call, rank: int, size: int, *, members: Sequence[int] = ()) -> None:
        self._call = call
        self.rank = rank
        self.size = size
        self._members = tuple(members) or tuple(range(size))

    def __repr__(self) -> str:
        return f"Comm(rank={self.rank}, size={self.size})"

    # -- point to point ---------------------------------------------------------------------

    def send(self, array: Array, dst: int, *, tag: int = 0) -> None:
        """Send to rank ``dst``; return when the message is there."""
        self._call("count", "send")
        self._call("wait", self._send(array, dst, tag))

    def recv(self, src: int, *, tag: int = 0) -> Array:
        """The next message from rank ``src`` under ``tag``; waits for it."""
        self._call("count", "recv")
        return self._call("wait", self._recv(src, tag))

    def sendrecv(self, array: Array, dst: int, src: int, *, tag: int = 0) -> Array:
        """Send to ``dst`` and receive from ``src`` at the same time; what was received."""
        self._call("count", "sendrecv")
        sent, received = self._send(array, dst, tag), self._recv(src, tag)
        self._call("wait", sent)
        return self._call("wait", received)

    def isend(self, array: Array, dst: int, *, tag: int = 0) -> Request:
        """Begin a send and go on. The array is copied at once and may change afterwards."""
        self._call("count", "isend")
        return Request(self._call, self._send(array, dst, tag))

    def irecv(self, src: int, *, tag: int = 0) -> Request:
        """Begin a receive and go on; ``wait`` gives the array."""
        self._call("count", "irecv")
        return Request(self._call, self._recv(src, tag))

    # -- collectives ------------------------------------------------------------------------

    def all_reduce(self, array: Array, *, op: str = "sum") -> Array:
        """The sum (or ``max``, ``min``) of every rank's array, on every rank."""
        return self.start("all_reduce", array, op=op).wait()

    def all_gather(self, array: Array) -> list[Array]:
        """Every rank's array, in the order of the ranks. All have one shape and dtype."""
        gathered: list[Array] = self.start("all_gather", array).wait()
        return gathered

    def reduce_scatter(self, arrays: Sequence[Array], *, op: str = "sum") -> Array:
        """Each rank gives ``size`` arrays and gets the sum of those at its own place."""
        return self.start("reduce_scatter", arrays, op=op).wait()

    def broadcast(self, array: Array | None, *, root: int = 0) -> Array:
        """The array of rank ``root``, on every rank. The others may give None."""
        return self.start("broadcast", array, root=root).wait()

    def all_to_all(self, arrays: Sequence[Array]) -> list[Array]:
        """Send ``arrays[r]`` to rank r; what each rank sent here, in the order of the ranks."""
        received: list[Array] = self.start("all_to_all", arrays).wait()
        return received

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.start("barrier").wait()

    def start(self, collective: str, *args: Any, op: str = "sum", root: int = 0) -> Request:
        """Begin a collective by its name and go on: ``start("all_reduce", x)``.

        The arrays are copied at once. Every rank of the group begins its collectives in the same
        order.
        """
        if op not in OPERATORS:
            raise ValueError(f"op: wanted one of {', '.join(OPERATORS)}, got {op!r}")
        self._peer(root, "root", may_be_own=True)
        self._call("count", collective)
        number = self._call("start", collective, self._members, args, op, root)
        return Request(self._call, number)

    # -- what the program costs --------------------------------------------------------------

    def compute(self, flops: float = 0.0, *, seconds: float = 0.0, label: str = "compute") -> None:
        """Let time pass: ``flops`` at the cluster's speed and ``seconds``."""
        for name, value in (("flops", flops), ("seconds", seconds)):
            if not value >= 0:
                raise ValueError(f"{name}: wanted 0 or more, got {value}")
        self._call("compute", float(flops), float(seconds), label)

    def hold(self, nbytes: int) -> None:
        """Count ``nbytes`` as held by this rank from now on."""
        self._call("hold", _whole(nbytes))

    def free(self, nbytes: int) -> None:
        """Hold ``nbytes`` less."""
        self._call("hold", -_whole(nbytes))

    @property
    def time_s(self) -> float:
        """This rank's clock."""
        now: float = self._call("now")
        return now

    def group(self, ranks: Sequence[int]) -> Comm:
        """A communicator of some of these ranks, numbered in the order given.

        Costs nothing. Every member makes the same group; this rank is one of them.
        """
        for rank in ranks:
            self._peer(rank, "ranks", may_be_own=True)
        if len(set(ranks)) != len(ranks) or self.rank not in ranks:
            raise ValueError(
                f"ranks: wanted different ranks, {self.rank} among them, got {list(ranks)}"
            )
        members = [self._members[rank] for rank in ranks]
        return Comm(self._call, list(ranks).index(self.rank), len(members), members=members)

    def _send(self, array: Array, dst: int, tag: int) -> int:
        check_array(array)
        number: int = self._call("isend", array, self._peer(dst, "dst"), tag)
        return number

    def _recv(self, src: int, tag: int) -> int:
        number: int = self._call("irecv", self._peer(src, "src"), tag)
        return number

    def _peer(self, rank: int, name: str, *, may_be_own: bool = False) -> int:
        """The rank's number in the whole cluster."""
        if not isinstance(rank, int) and not hasattr(rank, "__index__"):
            raise TypeError(f"{name}: wanted a rank, got {type(rank).__name__}")
        if not 0 <= rank < self.size:
            raise ValueError(f"{name}: wanted a rank from 0 to {self.size - 1}, got {rank}")
        if rank == self.rank and not may_be_own:
            raise ValueError(f"{name}: rank {rank} cannot send to itself or receive from itself")
        return self._members[rank]


def check_array(value: Any) -> None:
    """Raise TypeError where a value is no array of numbers."""
    if not all(hasattr(value, attribute) for attribute in ("shape", "dtype", "nbytes")):
        raise TypeError(f"array: wanted a NumPy array or a tensor, got {type(value).__name__}")
    if getattr(value.dtype, "kind", "f") not in "biufc":  # a dtype of torch has no kind
        raise TypeError(f"array: wanted numbers, got an array of dtype {value.dtype}")


def _whole(nbytes: int) -> int:
    if int(nbytes) != nbytes or nbytes < 0:
        raise ValueError(f"nbytes: wanted a whole number of 0 or more, got {nbytes}")
    return int(nbytes)
