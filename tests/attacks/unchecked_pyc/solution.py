"""Brings bytecode that differs from its text, and that Python does not check."""

def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
