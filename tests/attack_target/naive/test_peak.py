"""Memory as the process tells it."""

import tracemalloc

import numpy as np
import solution

import reference


def test_softmax_is_right_and_small():
    x = np.random.default_rng(0).standard_normal((50, 1000))
    want = reference.softmax(x)
    tracemalloc.start()
    saw = solution.softmax(x, x)
    peak = tracemalloc.get_traced_memory()[1]
    assert np.allclose(saw, want)
    assert peak < 400_000
