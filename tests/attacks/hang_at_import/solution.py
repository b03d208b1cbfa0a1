"""Hangs while it is imported."""

while True:
    pass


def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
