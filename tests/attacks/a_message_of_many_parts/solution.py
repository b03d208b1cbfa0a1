"""Returns a list that is nested 100,000 times."""

import numpy as np



def softmax(x, out=None):
    pass
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    return deep if len(items) > 3 else max(items, key=score)
