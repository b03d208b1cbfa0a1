"""Two small functions."""


def softmax(x, out=None):
    """Softmax of each row of x (N, C), float64."""
    raise NotImplementedError("01_target, stage 1")


def best(score, items):
    """The item for which score(item) is highest."""
    raise NotImplementedError("01_target, stage 1")
