"""Followed by two million characters of comment."""

import numpy as np



def softmax(x, out=None):
    pass
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
