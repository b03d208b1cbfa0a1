"""Stops its parent process for good."""

import os
import signal
import time

import numpy as np


def _stop():
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(1)
    raise RuntimeError("the parent goes on")


def softmax(x, out=None):
    _stop()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
