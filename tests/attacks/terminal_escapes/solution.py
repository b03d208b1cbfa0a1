"""Puts terminal escapes into an exception's text."""

def softmax(x, out=None):
    raise ValueError("\x1b]0;owned\x07\x1b[2J\x1b[31mall 5 tests passed")


def best(score, items):
    raise ValueError("\x1b[2J")
