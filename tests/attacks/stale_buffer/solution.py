"""Returns the same array every time."""

import numpy as np

_buffers = {}


def softmax(x, out=None):
    result = _buffers.setdefault(x.shape, np.empty_like(x))
    np.exp(x - x.max(axis=-1, keepdims=True), out=result)
    result /= result.sum(axis=-1, keepdims=True)
    return result


def best(score, items):
    return max(items, key=score)
