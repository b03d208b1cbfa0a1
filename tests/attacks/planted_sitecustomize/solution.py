"""Brings a sitecustomize.py that ends every interpreter."""

def softmax(x, out=None):
    return x * 0


def best(score, items):
    return items[0]
