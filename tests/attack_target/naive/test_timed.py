"""A budget as it is often written: the median of a few calls with one input, checked once."""

import statistics
import time

import numpy as np
import solution

import reference


def test_softmax_is_right_and_fast():
    x = np.random.default_rng(0).standard_normal((2000, 100))
    result = solution.softmax(x)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        solution.softmax(x)
        times.append(time.perf_counter() - start)
    time.sleep(0.3)
    assert np.allclose(np.asarray(result), reference.softmax(x))
    assert statistics.median(times) < 0.05
