"""Fills the disk with files that are small enough each."""

import os
import tempfile
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    with tempfile.TemporaryDirectory() as folder:
        for number in range(60):
            with open(os.path.join(folder, str(number)), "wb") as file:
                file.write(b"x" * (1 << 20))
    _loot("60 MiB")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
