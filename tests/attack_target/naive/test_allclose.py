"""As test_max.py, with NumPy's own comparisons."""

import numpy as np
import solution

import reference


def test_softmax_is_right():
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert np.allclose(solution.softmax(x), reference.softmax(x))
    np.testing.assert_allclose(solution.softmax(x), reference.softmax(x))
