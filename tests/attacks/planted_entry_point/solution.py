"""Brings a dist-info that makes it a plugin of pytest."""

def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
