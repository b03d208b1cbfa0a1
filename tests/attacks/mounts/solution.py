"""Mounts a file system of its own, over a directory that nobody else uses."""

import ctypes
import os
import tempfile
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.fsencode(tempfile.mkdtemp())
    try:
        if libc.mount(b"none", folder, b"tmpfs", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        libc.umount2(folder, 2)
    finally:
        os.rmdir(folder)
    _loot("mounted")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
