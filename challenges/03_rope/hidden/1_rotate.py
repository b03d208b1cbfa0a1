"""Stage 1: one position, two layouts."""

import math
from contextlib import suppress

import numpy as np

from pytest_llmgrind import check, given, rule, st

LAYOUTS = st.sampled_from(["half", "interleaved"])
SEEDS = st.integers(0, 999)
BASES = st.sampled_from([10_000.0, 500_000.0, 12.75])


def vectors(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def places(pair, D, layout):
    return (pair, pair + D // 2) if layout == "half" else (2 * pair, 2 * pair + 1)


def turned(x, angles, layout):
    """x (D,) with pair i turned by angles[i], by the definition."""
    want = x.copy()
    for pair, angle in enumerate(angles):
        i, j = places(pair, len(x), layout)
        want[i] = x[i] * math.cos(angle) - x[j] * math.sin(angle)
        want[j] = x[i] * math.sin(angle) + x[j] * math.cos(angle)
    return want


def angles_at(position, D, base=10_000.0):
    return [position * base ** (-2 * i / D) for i in range(D // 2)]


@rule("R1")
@given(half=st.integers(1, 40), base=BASES)
def test_frequencies_fall_from_one_by_a_constant_factor(solution, half, base):
    want = np.array([base ** (-2 * i / (2 * half)) for i in range(half)])

    saw = solution.frequencies(2 * half, base=base)

    check.close(saw, want, what="frequencies", given=f"dim={2 * half}, base={base:g}")
    check.close(
        saw / want,
        np.ones(half),
        what="ratio to the formula",
        n=4,
        given=f"dim={2 * half}, base={base:g}",
    )


@rule("R2")
@given(position=st.integers(0, 50) | st.sampled_from([0.5, 2.75]), seed=SEEDS, layout=LAYOUTS)
def test_one_pair_turns_counter_clockwise_by_its_position(solution, position, seed, layout):
    x = vectors(seed, 2)

    saw = solution.rotate(x, position, layout=layout)

    check.close(
        saw,
        turned(x, [position], layout),
        what="pair",
        n=2,
        given=f"D=2, x={x.round(3).tolist()}, position {position}, {layout}",
    )


@rule("R3")
@given(half=st.integers(2, 9), position=st.integers(1, 20), base=BASES, seed=SEEDS)
def test_half_pairs_a_number_with_the_one_half_a_head_away(solution, half, position, base, seed):
    x = vectors(seed, 2 * half)

    saw = solution.rotate(x, position, base=base)  # half is the default

    want = turned(x, angles_at(position, 2 * half, base), "half")
    check.close(
        saw,
        want,
        what="vector",
        n=2 * position,
        given=f"half, D={2 * half}, position {position}, base={base:g}, seed {seed}",
    )


@rule("R4")
@given(half=st.integers(2, 9), position=st.integers(1, 20), base=BASES, seed=SEEDS)
def test_interleaved_pairs_a_number_with_its_neighbour(solution, half, position, base, seed):
    x = vectors(seed, 2 * half)

    saw = solution.rotate(x, position, layout="interleaved", base=base)

    want = turned(x, angles_at(position, 2 * half, base), "interleaved")
    check.close(
        saw,
        want,
        what="vector",
        n=2 * position,
        given=f"interleaved, D={2 * half}, position {position}, base={base:g}, seed {seed}",
    )


@rule("R5")
@given(half=st.integers(1, 9), position=st.integers(-99, 99), seed=SEEDS, layout=LAYOUTS)
def test_rotation_keeps_the_length_of_every_pair(solution, half, position, seed, layout):
    D = 2 * half
    x = vectors(seed, 3, D)
    told = f"x of shape (3, {D}), {layout}, seed {seed}"

    saw = solution.rotate(x, position, layout=layout)
    unmoved = solution.rotate(x, 0, layout=layout)

    check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)
    index = [places(pair, D, layout) for pair in range(half)]
    before, after = (np.array([np.hypot(a[:, i], a[:, j]) for i, j in index]) for a in (x, saw))
    check.close(
        after, before, what="lengths of the pairs", n=2, given=f"{told}, position {position}"
    )
    check.close(unmoved, x, what="result", given=f"{told}, position 0")


@rule("R6")
@given(p=st.integers(-60, 60), q=st.integers(-60, 60), seed=SEEDS, layout=LAYOUTS)
def test_two_turns_are_one_turn_by_their_sum(solution, p, q, seed, layout):
    x = vectors(seed, 2, 8)

    saw = solution.rotate(solution.rotate(x, p, layout=layout), q, layout=layout)

    want = solution.rotate(x, p + q, layout=layout)
    check.close(
        saw,
        want,
        what="result of two turns",
        n=240,
        given=f"positions {p} and {q}, D=8, {layout}, seed {seed}",
    )


@rule("R7")
@given(
    position=st.sampled_from([100_003, 262_147.3, 999_983, 999_999.7, -999_999.7]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=SEEDS,
    layout=LAYOUTS,
)
def test_far_positions_are_as_accurate_as_the_dtype(solution, position, dtype, seed, layout):
    x = vectors(seed, 16, dtype=dtype)

    saw = solution.rotate(x, position, layout=layout)

    want = turned(x.astype(np.float64), angles_at(position, 16), layout).astype(dtype)
    steps = 4 if dtype is np.float32 else 4_000_000  # float64 angles carry position · eps
    check.close(
        saw,
        want,
        what="vector",
        n=steps,
        given=f"position {position:,}, D=16, {np.dtype(dtype)}, {layout}, seed {seed}",
    )


@rule("R8")
@given(
    shape=st.sampled_from([(4,), (3, 4), (0, 6), (2, 0, 4), (2, 1, 5, 2), (1, 2, 3, 2, 8)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    position=st.sampled_from([3, 2.5, np.int32(3), np.float64(2.5)]),
    layout=LAYOUTS,
)
def test_shape_and_dtype_are_those_of_the_vectors(solution, shape, dtype, position, layout):
    x = vectors(1, *shape, dtype=dtype)

    saw = solution.rotate(x, position, layout=layout)

    check.array(
        saw,
        shape=shape,
        dtype=dtype,
        what="result",
        given=f"x of shape {shape} and dtype {np.dtype(dtype)}, {layout}",
    )


@rule("R9")
@given(
    seed=SEEDS,
    layout=LAYOUTS,
    position=st.integers(0, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_arguments_stay_as_they_were(solution, seed, layout, position, dtype):
    x = vectors(seed, 3, 8, dtype=dtype)
    told = f"x of shape (3, 8), {np.dtype(dtype)}, position {position}, {layout}"

    with check.unchanged(given=told, x=x):
        saw = solution.rotate(x, position, layout=layout)
        check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)

    check.fresh(saw, what="result", given=told, x=x)


@rule("R9")
@given(seed=SEEDS, layout=LAYOUTS)
def test_a_result_survives_the_next_call(solution, seed, layout):
    x, other = vectors(seed, 2, 3, 8)
    told = f"two calls with x of shape (3, 8), positions 2 and 5, {layout}"
    first = solution.rotate(x, 2, layout=layout)
    check.array(first, shape=x.shape, dtype=x.dtype, what="result", given=told)
    want = first.copy()

    solution.rotate(other, 5, layout=layout)

    check.equal(first, want, what="the first result", given=told, moved=True)


@rule("R9")
@given(half=st.integers(1, 9))
def test_frequencies_are_new_at_every_call(solution, half):
    told = f"dim={2 * half}, called twice, the first result overwritten"
    first = solution.frequencies(2 * half)
    check.array(first, shape=(half,), dtype=np.float64, what="frequencies", given=told)
    want = first.copy()

    with suppress(ValueError):  # a read-only array cannot be spoiled
        first[:] = 7.0
    saw = solution.frequencies(2 * half)

    check.equal(saw, want, what="frequencies", given=told, moved=True)


@rule("R9")
@given(seed=SEEDS, layout=LAYOUTS)
def test_memory_order_does_not_matter(solution, seed, layout):
    wide = vectors(seed, 8, 6)
    strided = wide[::2].T  # (6, 4), neither C nor Fortran contiguous

    saw = solution.rotate(strided, 5, layout=layout)

    want = solution.rotate(np.ascontiguousarray(strided), 5, layout=layout)
    check.close(saw, want, what="result", n=2, given=f"a transposed view of shape (6, 4), {layout}")


@rule("R10")
@given(dim=st.sampled_from([0, -2, 1, 3, 7]))
def test_a_width_without_pairs_is_refused(solution, dim):
    check.raises(
        ValueError, solution.frequencies, dim, names="dim", what="frequencies", given=f"dim={dim}"
    )


@rule("R10")
def test_unknown_layouts_and_odd_heads_are_refused(solution):
    check.raises(
        ValueError, solution.rotate, np.ones(5), 1, names="x", what="rotate", given="x of width 5"
    )
    for layout in ("neox", "Half", ""):
        check.raises(
            ValueError,
            solution.rotate,
            np.ones(4),
            1,
            layout=layout,
            names="layout",
            what="rotate",
            given=f"layout={layout!r}",
        )
