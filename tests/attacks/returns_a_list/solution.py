"""Returns a list where an array is wanted."""

import numpy as np


def softmax(x, out=None):
    return (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)).tolist()


def best(score, items):
    return max(items, key=score)
