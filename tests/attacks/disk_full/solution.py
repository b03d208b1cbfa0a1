"""Fills the disk."""

import os
import tempfile
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    with tempfile.TemporaryFile() as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
    _loot("100 MiB")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
