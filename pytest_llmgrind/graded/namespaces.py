"""No user namespace for a worker that root has started: a seccomp filter refuses it.

Who makes one is root in it, may mount without limit there, and meets more of the kernel. Where
bubblewrap makes a user namespace itself, it sees to this (``--disable-userns``); root gets none,
since in one of root's, the limit on processes would not hold.

Numbers: linux/audit.h, linux/seccomp.h, linux/filter.h and the tables of system calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

NEW_USER = 0x10000000
X32 = 0x40000000
"""System calls of x86-64's other ABI have this bit."""
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Where a filter finds them; of the argument, the lower half, where its flags are."""
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026
"""As it is, with EPERM, and with ENOSYS, after which the C library calls clone."""
SET_FILTER, ALL_THREADS, KEEP_SPECULATION = 1, 1, 4
NO_NEW_PRIVILEGES, HAS_FILTERS = 38, 21
MACHINES = {
    "x86_64": (0xC000003E, 56, 272, 435, 317),
    "aarch64": (0xC00000B7, 220, 97, 435, 277),
}
"""Architecture, then clone, unshare, clone3 and seccomp."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def can_refuse() -> bool:
    """Whether the system calls of this machine are known here, and its kernel has filters."""
    return platform.machine() in MACHINES and ctypes.CDLL(None).prctl(HAS_FILTERS) >= 0


def refuse() -> None:
    """For this process and all that it starts, for good. Raises OSError where it cannot be."""
    architecture, clone, unshare, clone3, seccomp = MACHINES[platform.machine()]
    filters = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 0, 8, architecture),  # else refuse
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 6, 0, X32),  # refuse
        (IF_EQUAL, 6, 0, clone3),  # unknown: its flags lie in memory, which no filter reads
        (IF_EQUAL, 1, 0, unshare),
        (IF_EQUAL, 0, 2, clone),  # else allow
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (IF_ANY_BIT, 1, 0, NEW_USER),  # refuse
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, UNKNOWN),
    ]
    packed = b"".join(struct.pack("=HBBI", *one) for one in filters)
    program = _Program(len(filters), packed)
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ALL_THREADS | KEEP_SPECULATION
    if (
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0
        or libc.syscall(seccomp, SET_FILTER, flags, ctypes.byref(program)) != 0
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
