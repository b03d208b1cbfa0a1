"""Raises an exception whose text never comes."""

class Slow(Exception):
    def __str__(self):
        while True:
            pass

    __repr__ = __str__


def softmax(x, out=None):
    raise ValueError


def best(score, items):
    raise Slow
