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
HEADER = struct.Struct("<4sII")
PIECE = struct.Struct("<qQ")
INLINE = -1

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


@dataclass
class Wire:
    """One end. Messages alternate: who sent one waits for the other's before sending again."""

    sock: socket.socket
    outbox: mmap.mmap | None = None
    inbox: mmap.mmap | None = None

    def send(self, body: bytes, buffers: Sequence[memoryview], deadline: float = 0.0) -> None:
        if len(body) > BODY_BYTES or len(buffers) > BUFFERS:
            raise ValueError("a message of more than 32 MiB, or of more than 16,384 arrays")
        if sum(buffer.nbytes for buffer in buffers) > BUFFER_BYTES:
            raise ValueError("arrays of more than 512 MiB in one message")
        head, inline, at = [HEADER.pack(MAGIC, len(body), len(buffers))], [], 0
        for buffer in buffers:
            size, place = buffer.nbytes, INLINE
            if self.outbox is not None and SHARED_BYTES <= size <= len(self.outbox) - at:
                place = at
                self.outbox[at : at + size] = buffer
                at += -(-size // 64) * 64
            else:
                inline.append(buffer)
            head.append(PIECE.pack(place, size))
        try:
            self._patience(deadline)
            self.sock.sendall(b"".join([*head, body]))
            for buffer in inline:
                if buffer.nbytes:
                    self.sock.sendall(buffer)
        except TimeoutError:
            raise Late from None
        except OSError:
            raise Closed from None

    def receive(self, deadline: float = 0.0) -> tuple[bytes, list[bytearray]]:
        magic, length, number = HEADER.unpack(self._read(HEADER.size, deadline))
        if magic != MAGIC:
            raise ProtocolError("a message that does not begin like one")
        if length > BODY_BYTES or number > BUFFERS:
            raise ProtocolError(f"a message of {length:,} bytes and {number:,} arrays")
        pieces = list(PIECE.iter_unpack(self._read(PIECE.size * number, deadline)))
        if sum(size for _, size in pieces) > BUFFER_BYTES:
            raise ProtocolError("arrays of more than 512 MiB in one message")
        body = bytes(self._read(length, deadline))
        return body, [self._piece(place, size, deadline) for place, size in pieces]

    def _piece(self, place: int, size: int, deadline: float) -> bytearray:
        if place == INLINE:
            return self._read(size, deadline)
        if self.inbox is None or not 0 <= place <= len(self.inbox) - size:
            raise ProtocolError("an array outside the shared memory")
        return bytearray(memoryview(self.inbox)[place : place + size])

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            try:
                self._patience(deadline)
                got = self.sock.recv_into(view[at:], size - at)
            except TimeoutError:
                raise Late from None
            except OSError:
                raise Closed from None
            if not got:
                raise Closed
            at += got
        return data

    def _patience(self, deadline: float) -> None:
        """``deadline`` on the monotonic clock; 0 waits for ever."""
        if deadline:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            self.sock.settimeout(left)

    def close(self) -> None:
        self.sock.close()


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
