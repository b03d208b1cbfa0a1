"""Brings a .pth file, which runs when an interpreter starts."""


def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
