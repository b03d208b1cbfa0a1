"""Makes its parent process slow."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)
    _loot("slow")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
