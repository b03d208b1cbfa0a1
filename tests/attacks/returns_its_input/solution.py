"""Changes the input to something whose softmax it is, and returns it."""

def softmax(x, out=None):
    x[...] = 1 / x.shape[-1]
    return x


def best(score, items):
    return max(items, key=score)
