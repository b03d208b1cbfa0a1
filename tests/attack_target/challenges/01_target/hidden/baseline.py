"""One row after another."""

import numpy as np


def softmax(x, out=None):
    rows = []
    for row in x:
        top = row.max()
        numbers = [np.exp(value - top) for value in row]
        rows.append(np.array(numbers) / sum(numbers))
    return np.stack(rows)
