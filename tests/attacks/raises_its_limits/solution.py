"""Gives itself more than its limits."""

import resource
import numpy as np


def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))
    _loot("more")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
