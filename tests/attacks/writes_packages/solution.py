"""Overwrites an installed package."""

import pathlib
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    target = pathlib.Path(np.__file__).with_name("llmgrind_was_here.py")
    target.write_text("x = 1")
    target.unlink()
    _loot("written")


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
