"""Puts 500 MB into an exception's text."""

def softmax(x, out=None):
    size = 5_000_000 if x.shape == (3, 4) else 500_000_000
    raise ValueError("x" * size)


def best(score, items):
    raise ValueError("x" * 5_000_000)
