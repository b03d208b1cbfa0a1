"""Frames over a socket, with the bytes of large arrays in memory that both ends have mapped.

What comes from the other end is believed in nothing: sizes are bounded before memory is taken,
and what lies in shared memory is copied out before it is looked at.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

MAGIC = b"llmg"
HEADER = struct.Struct("<4sIIQ")
PIECE = struct.Struct("<qQ")
INLINE = -1
FIRST_BYTES = 1 << 13

BODY_BYTES = 1 << 25
BUFFERS = 1 << 14
BUFFER_BYTES = 1 << 29
"""Of one message: its structure, how many arrays, and all their bytes."""
REGION_BYTES = 1 << 24
SHARED_BYTES = 1 << 15
"""Arrays from this size on go through shared memory, as long as they fit."""

F_ADD_SEALS, SEALS = 1033, 0x0002 | 0x0004
"""Linux's fcntl to forbid shrinking and growing: a region that shrank would kill its reader."""


class ProtocolError(Exception):
    """What came is no message."""


class Closed(Exception):
    """The other end is gone."""


class Late(Exception):
    """No answer in time."""


class TooLarge(ValueError):
    """More than one message may hold."""


@dataclass
class Wire:
    """One end. Messages alternate: who sent one waits for the other's before sending again."""

    sock: socket.socket
    outbox: mmap.mmap | None = None
    inbox: mmap.mmap | None = None

    def send(self, body: bytes, buffers: Sequence[memoryview], deadline: float = 0.0) -> None:
        if len(body) > BODY_BYTES or len(buffers) > BUFFERS:
            raise TooLarge("a message of more than 32 MiB, or of more than 16,384 arrays")
        check_sizes(buffers)
        pieces, inline, at = [], [], 0
        for buffer in buffers:
            size, place = buffer.nbytes, INLINE
            if self.outbox is not None and SHARED_BYTES <= size <= len(self.outbox) - at:
                place = at
                self.outbox[at : at + size] = buffer
                at += -(-size // 64) * 64
            else:
                inline.append(buffer)
            pieces.append(PIECE.pack(place, size))
        total = HEADER.size + PIECE.size * len(pieces) + len(body)
        total += sum(buffer.nbytes for buffer in inline)
        head = HEADER.pack(MAGIC, len(body), len(pieces), total)
        try:
            self._patience(deadline)
            self.sock.sendall(b"".join([head, *pieces, body, *inline]))
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Closed from None

    def receive(self, deadline: float = 0.0) -> tuple[bytes, list[bytearray]]:
        data = self._read(deadline)
        _, length, number, _ = HEADER.unpack_from(data)
        at = HEADER.size + PIECE.size * number
        pieces = list(PIECE.iter_unpack(data[HEADER.size : at]))
        inline = sum(size for place, size in pieces if place == INLINE)
        if sum(size for _, size in pieces) > BUFFER_BYTES or at + length + inline != len(data):
            raise ProtocolError("a message whose arrays do not fill it")
        body, at = bytes(data[at : at + length]), at + length
        buffers = []
        for place, size in pieces:
            if place == INLINE:
                buffers.append(bytearray(data[at : at + size]))
                at += size
            else:
                buffers.append(self._shared(place, size))
        return body, buffers

    def _shared(self, place: int, size: int) -> bytearray:
        if self.inbox is None or not 0 <= place <= len(self.inbox) - size:
            raise ProtocolError("an array outside the shared memory")
        return bytearray(memoryview(self.inbox)[place : place + size])

    def _read(self, deadline: float) -> memoryview:
        """One whole message: most come in one piece."""
        data = memoryview(bytearray(FIRST_BYTES))
        got, wanted = 0, HEADER.size
        while got < wanted:
            got += self._some(data[got:], deadline)
            if wanted == HEADER.size and got >= wanted:
                wanted = _size(data)
                if wanted > len(data):
                    whole = memoryview(bytearray(wanted))
                    whole[:got] = data[:got]
                    data = whole
        if got > wanted:
            raise ProtocolError("a message that nobody asked for")
        return data[:wanted]

    def _some(self, into: memoryview, deadline: float) -> int:
        try:
            self._patience(deadline)
            got = self.sock.recv_into(into)
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Closed from None
        if not got:
            raise Closed
        return got

    def _patience(self, deadline: float) -> None:
        """``deadline`` on the monotonic clock; 0 waits for ever."""
        if deadline:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            self.sock.settimeout(left)

    def close(self) -> None:
        self.sock.close()


def check_sizes(buffers: Sequence[memoryview]) -> None:
    """Raises TooLarge for arrays of which one message cannot hold all."""
    if sum(buffer.nbytes for buffer in buffers) > BUFFER_BYTES:
        raise TooLarge(f"arrays of more than {BUFFER_BYTES >> 20} MiB in one message")


def _size(data: memoryview) -> int:
    """What the header says of the whole message, if that is possible."""
    magic, length, number, total = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError("a message that does not begin like one")
    if length > BODY_BYTES or number > BUFFERS or total > BODY_BYTES + BUFFER_BYTES:
        raise ProtocolError(f"a message of {total:,} bytes and {number:,} arrays")
    least = HEADER.size + PIECE.size * number + length
    if total < least:
        raise ProtocolError("a message that is shorter than it says")
    return int(total)


def region() -> int:
    """A file descriptor of memory to share, of a size that nobody can change."""
    fd = os.memfd_create("llmgrind", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, REGION_BYTES)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    return fd


def mapped(fd: int) -> mmap.mmap:
    """The memory of a descriptor, which is closed."""
    try:
        return mmap.mmap(fd, REGION_BYTES)
    finally:
        os.close(fd)
