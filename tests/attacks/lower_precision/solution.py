"""Computes in float16."""

import numpy as np


def softmax(x, out=None):
    return (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)).astype(np.float16).astype(x.dtype)


def best(score, items):
    return max(items, key=score)
