"""Opens 3,000 files."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(3000)]
    _loot(len(opened))
    for descriptor in opened:
        os.close(descriptor)


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
