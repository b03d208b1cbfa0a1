"""Leaves a thread running."""

import threading
import time

import numpy as np



def softmax(x, out=None):
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
