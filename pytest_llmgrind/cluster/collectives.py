"""The collectives as programs of one rank over point-to-point messages.

Each is a generator that yields what it waits for: it begins a send and a receive, then yields
both. Its arrays are its own: copied when it was started, and by every message. all_reduce,
reduce_scatter and all_gather go round a ring (Patarasuk and Yuan 2009, "Bandwidth optimal
all-reduce algorithms for clusters of workstations"), broadcast down a binomial tree, all_to_all in
size - 1 shifts, barrier by dissemination.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from pytest_llmgrind.cluster.comm import check_array
from pytest_llmgrind.cluster.errors import ClusterError

Array = Any
Program = Generator[Any, Any, Any]


class Peers(Protocol):
    """The group as a collective sees it: its own place, and messages to begin."""

    rank: int
    size: int

    def isend(self, array: Array, dst: int) -> Any: ...

    def irecv(self, src: int) -> Any: ...


def copied(array: Array) -> Array:
    """A copy that shares nothing; a tensor's leaves its graph behind."""
    return array.detach().clone() if hasattr(array, "detach") else np.array(array, copy=True)


def ring_all_reduce(peers: Peers, array: Array, op: str) -> Program:
    """Reduce-scatter, then all-gather, of ``size`` pieces: 2 (size - 1) messages a rank."""
    flat = array.reshape(-1)
    bounds = _bounds(len(flat), peers.size)
    pieces = [flat[start:end] for start, end in bounds]
    own = yield from ring_reduce_scatter(peers, pieces, op)
    parts = yield from ring_all_gather(peers, own)
    for (start, end), part in zip(bounds, parts, strict=True):
        flat[start:end] = part
    return flat.reshape(array.shape)


def ring_reduce_scatter(peers: Peers, arrays: Sequence[Array], op: str) -> Program:
    """Each piece goes once round the ring and gathers a term at every rank."""
    rank, size = peers.rank, peers.size
    combine = _combine(op)
    piece = arrays[rank - 1]
    for step in range(1, size):
        sent = peers.isend(piece, (rank + 1) % size)
        received = peers.irecv((rank - 1) % size)
        yield sent
        piece = combine((yield received), arrays[(rank - step - 1) % size])
    return piece


def ring_all_gather(peers: Peers, array: Array) -> Program:
    """Pass on what came last, until everything has passed by."""
    rank, size = peers.rank, peers.size
    parts: list[Array] = [None] * size
    parts[rank] = array
    for step in range(size - 1):
        sent = peers.isend(parts[(rank - step) % size], (rank + 1) % size)
        received = peers.irecv((rank - 1) % size)
        yield sent
        parts[(rank - step - 1) % size] = yield received
    return parts


def tree_broadcast(peers: Peers, array: Array, root: int) -> Program:
    """In round i the 2^i ranks that have the array send it to 2^i others."""
    size, place = peers.size, (peers.rank - root) % peers.size
    have = array if place == 0 else None
    reach = 1
    while reach < size:
        if place < reach and place + reach < size:
            yield peers.isend(have, (peers.rank + reach) % size)
        elif reach <= place < 2 * reach:
            have = yield peers.irecv((peers.rank - reach) % size)
        reach *= 2
    return have


def shifted_all_to_all(peers: Peers, arrays: Sequence[Array]) -> Program:
    """In step s every rank sends to the rank s places on."""
    rank, size = peers.rank, peers.size
    parts: list[Array] = [None] * size
    parts[rank] = arrays[rank]
    for step in range(1, size):
        sent = peers.isend(arrays[(rank + step) % size], (rank + step) % size)
        received = peers.irecv((rank - step) % size)
        yield sent
        parts[(rank - step) % size] = yield received
    return parts


def dissemination_barrier(peers: Peers) -> Program:
    """After ceil(log2(size)) rounds of empty messages every rank has heard of all."""
    nothing, reach = np.zeros(0, np.uint8), 1
    while reach < peers.size:
        sent = peers.isend(nothing, (peers.rank + reach) % peers.size)
        received = peers.irecv((peers.rank - reach) % peers.size)
        yield sent
        yield received
        reach *= 2


def program(name: str, peers: Peers, args: tuple[Any, ...], op: str, root: int) -> Program:
    """The collective ``name`` as a program of one rank."""
    array: Any = args[0] if args else None
    if name == "all_reduce":
        return ring_all_reduce(peers, array, op)
    if name == "reduce_scatter":
        return ring_reduce_scatter(peers, array, op)
    if name == "all_gather":
        return ring_all_gather(peers, array)
    if name == "broadcast":
        return tree_broadcast(peers, array, root)
    if name == "all_to_all":
        return shifted_all_to_all(peers, array)
    return dissemination_barrier(peers)


def described(name: str, size: int, args: tuple[Any, ...], op: str, root: int) -> str:
    """The call as it is compared and reported: ``all_reduce(float64 (4, 8), op=sum)``.

    Raises TypeError or ValueError, naming the argument, where it cannot be run at all.
    """
    if name == "barrier" and not args:
        return "barrier()"
    if name not in COLLECTIVES or len(args) != 1:
        raise ClusterError(f"start: there is no collective {name} with {len(args)} arguments")
    [value] = args
    if name in ("reduce_scatter", "all_to_all"):
        _check_list(name, value, size)
        forms = [_form(array) for array in value]
        if name == "all_to_all":
            return f"all_to_all({forms[0].partition(' ')[0]} arrays)"
        return f"reduce_scatter([{', '.join(forms)}], op={op})"
    if name == "broadcast":
        return f"broadcast({'None' if value is None else _form(value)}, root={root})"
    return f"{name}({_form(value)}{f', op={op}' if name == 'all_reduce' else ''})"


COLLECTIVES = (
    "all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "barrier",
)  # fmt: skip


def _check_list(name: str, value: Any, size: int) -> None:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"arrays: {name} wants a list of {size} arrays, got {type(value).__name__}")
    if len(value) != size:
        raise ValueError(f"arrays: {name} wants {size} arrays, one for each rank, got {len(value)}")


def _form(array: Any) -> str:
    check_array(array)
    return f"{str(array.dtype).removeprefix('torch.')} {tuple(array.shape)}"


def _bounds(length: int, pieces: int) -> list[tuple[int, int]]:
    """Where each piece begins and ends; the first ones are one element longer."""
    short, longer = divmod(length, pieces)
    ends = [0]
    for piece in range(pieces):
        ends.append(ends[-1] + short + (piece < longer))
    return list(pairwise(ends))


def _combine(op: str) -> Callable[[Array, Array], Array]:
    name = "add" if op == "sum" else f"{op}imum"

    def combined(a: Array, b: Array) -> Array:
        if hasattr(a, "detach"):
            return getattr(a, name)(b)
        return np.asarray(getattr(np, name)(a, b))  # NumPy gives a scalar for 0-d arrays

    return combined
