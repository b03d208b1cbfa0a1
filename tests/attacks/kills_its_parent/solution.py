"""Kills its parent process."""

import os
import signal
import time

import numpy as np


def _kill():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)
    raise RuntimeError("the parent lives")


def softmax(x, out=None):
    _kill()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
