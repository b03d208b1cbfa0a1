"""Random networks and data for all stages."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pytest_llmgrind import st

SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from([np.float32, np.float64])
INTEGERS = st.sampled_from([np.int64, np.int32, np.uint8, np.int8, np.uint64])
# Labels that do not fit three rows of three logits.
MISFITS = st.sampled_from(
    [
        [0, 1, 2, 0],
        [0, 1],
        [1],
        1,
        [[0, 1, 2]],
        [[0], [1], [2]],
        [0, 1, 3],
        [0, -1, 2],
        [0.0, 1.0, 2.0],
    ]
)
# Two classes or more: the one logit of a single class is 0 after many a mistake.
WIDTHS = st.tuples(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(2, 6)).map(
    lambda drawn: (*drawn[0], drawn[1])
)


def network(seed, widths, dtype=np.float64):
    """Random layers whose biases are not zero."""
    rng = np.random.default_rng(seed)
    return [
        {"w": rng.normal(size=(a, b)).astype(dtype), "b": rng.normal(size=b).astype(dtype)}
        for a, b in pairwise(widths)
    ]


def data(seed, N, C, V, dtype=np.float64):
    """N random examples and their labels."""
    rng = np.random.default_rng(seed + 1)
    return rng.normal(size=(N, C)).astype(dtype), rng.integers(0, V, size=N)


def named(params):
    """The arrays of a network under names of their own, for check.unchanged."""
    return {f"params_{i}_{name}": layer[name] for i, layer in enumerate(params) for name in layer}


def check_is_float(check, loss, *, given):
    """A Python float itself: NumPy's float64 is an instance of float too."""
    kind = type(loss).__name__
    check.that(kind == "float", saw=f"the loss is a {kind}", given=given, value=loss)


def check_layers(check, saw, want, *, what, given, n):
    """A list of layers, each a dictionary of arrays like want's."""
    check.that(
        isinstance(saw, list),
        saw=f"{what} came back as a {type(saw).__name__}, wanted a list",
        given=given,
    )
    check.that(
        len(saw) == len(want), saw=f"{what} has {len(saw)} layers of {len(want)}", given=given
    )
    for index, (left, right) in enumerate(zip(saw, want, strict=True)):
        check.that(
            isinstance(left, dict) and sorted(left) == ["b", "w"],
            saw=f"layer {index} of {what} is no dictionary with the keys w and b",
            given=given,
        )
        for name in ("w", "b"):
            check.close(
                left[name], right[name], what=f"{name} of layer {index} of {what}", given=given, n=n
            )


def params_like(saw, params):
    """What has the values of saw and the form of params: a comparison with it checks the form."""
    if not isinstance(saw, list) or len(saw) != len(params):
        return params
    return [
        {
            k: np.asarray(left[k]).astype(right[k].dtype).reshape(right[k].shape)
            if isinstance(left, dict) and k in left and np.size(left[k]) == right[k].size
            else right[k]
            for k in right
        }
        for left, right in zip(saw, params, strict=True)
    ]
