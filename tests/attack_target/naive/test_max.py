"""How an ordinary test file grades: in one process, on one input, with what the process offers."""

import numpy as np
import solution

import reference


def test_softmax_is_right():
    x = np.random.default_rng(0).standard_normal((3, 4))
    saw = solution.softmax(x)
    want = reference.softmax(x)
    if np.max(np.abs(np.asarray(saw) - want)) > 1e-2:
        raise AssertionError("softmax is wrong")


def test_best_is_right():
    scores = {"a": 3, "b": 7, "c": 1}
    wanted = "b"
    assert solution.best(lambda item: scores[item], list(scores)) == wanted
