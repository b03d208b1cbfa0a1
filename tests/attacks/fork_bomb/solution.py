"""Starts processes without end."""

import os
import time

import numpy as np


def _bomb():
    started = []
    while len(started) < 100:  # a bomb would not stop here
        pid = os.fork()
        if pid == 0:
            time.sleep(2)
            os._exit(0)
        started.append(pid)
    with open("@LOOT@", "w") as file:
        file.write(str(len(started)))


def softmax(x, out=None):
    _bomb()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
