"""Stage 2: any positions, part of a head, each angle once."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

LAYOUTS = st.sampled_from(["half", "interleaved"])
SEEDS = st.integers(0, 999)
BASES = st.sampled_from([10_000.0, 500_000.0, 10.0])


def draw(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@rule("R11")
@given(T=st.integers(0, 7), seed=SEEDS, layout=LAYOUTS, base=BASES, fractional=st.booleans())
def test_each_vector_turns_to_its_own_position(
    solution, reference, T, seed, layout, base, fractional
):
    x = draw(seed, T, 6)
    positions = np.random.default_rng(seed).integers(-9, 30, size=T)
    positions = positions / 4 if fractional else positions

    saw = solution.rope(x, positions, layout=layout, base=base)

    rows = [
        reference.rotate(row, p, layout=layout, base=base)
        for row, p in zip(x, positions, strict=True)
    ]
    check.close(
        saw,
        np.array(rows).reshape(T, 6),
        what="result",
        n=60,
        given=f"positions {positions.tolist()}, D=6, {layout}, base={base:g}, seed {seed}",
    )


@rule("R11")
@given(dtype=st.sampled_from([np.int32, np.int8, np.uint8, np.float32, np.float16]), layout=LAYOUTS)
def test_positions_of_any_dtype_are_the_numbers_they_hold(solution, reference, dtype, layout):
    positions = np.array([0, 3, 100, 127] if dtype is np.int8 else [0, 3, 130, 255], dtype)
    x = draw(5, 4, 6)

    saw = solution.rope(x, positions, layout=layout)

    want = reference.rope(x, positions.astype(np.float64), layout=layout)
    told = f"positions {positions.tolist()} of dtype {np.dtype(dtype)}, D=6, {layout}"
    check.close(saw, want, what="result", n=600, given=told)


@rule("R12")
@given(
    shape=st.sampled_from(
        [(4,), (1,), (), (1, 4), (4, 1), (4, 1, 4), (4, 4, 4), (4, 4), (4, 1, 1)]
    ),
    seed=SEEDS,
    layout=LAYOUTS,
)
def test_positions_broadcast_against_the_vectors(solution, reference, shape, seed, layout):
    x = draw(seed, 4, 4, 4, 8)  # four rows, heads and positions: a wrong axis fits and shows
    positions = np.random.default_rng(seed).integers(0, 50, size=shape)

    saw = solution.rope(x, positions, layout=layout)

    want = reference.rope(x, np.broadcast_to(positions, (4, 4, 4)), layout=layout)
    check.close(
        saw,
        want,
        what="result",
        n=100,
        given=f"x of shape (4, 4, 4, 8), positions of shape {shape}, {layout}, seed {seed}",
    )


@rule("R13")
@given(quarter=st.integers(1, 3), seed=SEEDS, layout=LAYOUTS)
def test_part_of_a_head_is_a_vector_of_its_own(solution, reference, quarter, seed, layout):
    R, D = 2 * quarter, 2 * quarter + 3  # an odd rest: only the rotated part has to be even
    x, positions = draw(seed, 5, D), np.arange(5) + 7

    saw = solution.rope(x, positions, rotary_dim=R, layout=layout)

    told = f"rotary_dim={R} of D={D}, {layout}, seed {seed}"
    check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)
    want = reference.rope(x[..., :R].copy(), positions, layout=layout)
    check.close(np.ascontiguousarray(saw[..., :R]), want, what="rotated part", n=24, given=told)
    rest = np.ascontiguousarray(saw[..., R:])
    check.equal(rest, x[..., R:].copy(), what="rest", given=told, moved=True)


@rule("R13")
@given(dtype=st.sampled_from([np.float32, np.float64]), layout=LAYOUTS)
def test_a_whole_head_is_the_default(solution, reference, dtype, layout):
    x, positions = draw(3, 2, 4, 10, dtype=dtype), np.arange(4)

    saw = solution.rope(x, positions, rotary_dim=10, layout=layout)

    want = reference.rope(x, positions, layout=layout)
    check.close(
        saw, want, what="result", n=8, given=f"rotary_dim=D=10, {np.dtype(dtype)}, {layout}"
    )


@rule("R14")
@given(layout=LAYOUTS, seed=SEEDS)
def test_sines_come_from_the_function_that_was_passed_in(solution, reference, layout, seed):
    x, positions = draw(seed, 3, 8), np.array([2, 5, 11])

    def other(angles):
        return np.sin(angles / 2), np.cos(angles / 2)

    saw = solution.rope(x, positions, layout=layout, sincos=other)

    want = reference.rope(x, positions / 2, layout=layout)
    check.close(saw, want, what="result", n=24, given=f"a sincos that halves its angles, {layout}")


@rule("R14")
@given(layout=LAYOUTS, dtype=st.sampled_from([np.float32, np.float64]))
def test_angles_are_float64_whatever_the_vectors_are(solution, layout, dtype):
    seen = []

    def watching(angles):
        seen.append(str(getattr(angles, "dtype", type(angles).__name__)))
        return np.sin(angles), np.cos(angles)

    solution.rope(draw(1, 3, 8, dtype=dtype), np.arange(3), layout=layout, sincos=watching)

    told = f"x of dtype {np.dtype(dtype)}, {layout}"
    check.that(seen, saw="sincos was not called", given=told)
    check.that(set(seen) == {"float64"}, saw=f"sincos was called with {seen[0]}", given=told)


@rule("R7")
@given(dtype=st.sampled_from([np.float32, np.float64]), layout=LAYOUTS, seed=SEEDS)
def test_long_contexts_keep_their_angles(solution, reference, dtype, layout, seed):
    positions = np.array([0, 32_768, 131_071.3, 999_999.7])
    x = draw(seed, 4, 8, dtype=dtype)

    saw = solution.rope(x, positions, layout=layout)

    want = reference.rope(x.astype(np.float64), positions, layout=layout).astype(dtype)
    steps = 4 if dtype is np.float32 else 4_000_000
    check.close(
        saw,
        want,
        what="result",
        n=steps,
        given=f"positions {positions.tolist()}, {np.dtype(dtype)}, {layout}",
    )


@rule("R8")
@given(
    shape=st.sampled_from([(0, 4), (2, 0, 4), (0, 3, 4), (3, 4), (2, 2, 1, 6)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=LAYOUTS,
)
def test_batches_keep_their_shape_and_dtype(solution, shape, dtype, layout):
    x = draw(2, *shape, dtype=dtype)

    saw = solution.rope(x, np.arange(shape[-2]), layout=layout)

    check.array(
        saw,
        shape=shape,
        dtype=dtype,
        what="result",
        given=f"x of shape {shape} and dtype {np.dtype(dtype)}, {layout}",
    )


@rule("R9")
@given(seed=SEEDS, layout=LAYOUTS, rotary_dim=st.sampled_from([None, 4]))
def test_vectors_and_positions_are_not_modified(solution, seed, layout, rotary_dim):
    x, positions = draw(seed, 3, 8), np.array([4, 0, 2])
    told = f"x of shape (3, 8), rotary_dim={rotary_dim}, {layout}"

    with check.unchanged(given=told, x=x, positions=positions):
        saw = solution.rope(x, positions, layout=layout, rotary_dim=rotary_dim)
        check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)
        saw += 1.0


@rule("R9")
@given(seed=SEEDS, layout=LAYOUTS, rotary_dim=st.sampled_from([None, 4]), strided=st.booleans())
def test_memory_order_does_not_matter_to_rope(solution, seed, layout, rotary_dim, strided):
    x = draw(seed, 8, 10).T[::2] if strided else np.asfortranarray(draw(seed, 5, 8))  # (5, 8)
    positions = np.arange(10)[::2]
    told = "a transposed, strided view" if strided else "an array in Fortran order"

    saw = solution.rope(x, positions, layout=layout, rotary_dim=rotary_dim)

    want = solution.rope(x.copy("C"), positions.copy(), layout=layout, rotary_dim=rotary_dim)
    told = f"{told} of shape (5, 8), rotary_dim={rotary_dim}, {layout}, seed {seed}"
    check.close(saw, want, what="result", n=20, given=told)


@rule("R10")
@given(rotary_dim=st.sampled_from([0, -2, 3, 10]))
def test_a_part_that_does_not_fit_the_head_is_refused(solution, rotary_dim):
    check.raises(
        ValueError,
        solution.rope,
        np.ones((2, 8)),
        np.arange(2),
        rotary_dim=rotary_dim,
        names="rotary_dim",
        what="rope",
        given=f"rotary_dim={rotary_dim}, D=8",
    )


@rule("R10")
@given(shape=st.sampled_from([(3,), (2, 3), (1, 4), (4, 1, 1)]))
def test_positions_that_do_not_broadcast_are_refused(solution, shape):
    positions = np.zeros(shape, np.int64)

    check.raises(
        ValueError,
        solution.rope,
        np.ones((4, 8)) if shape != (1, 4) else np.ones((2, 8)),
        positions,
        names="positions",
        what="rope",
        given=f"positions of shape {shape}",
    )


@rule("R15")
def test_each_angle_is_evaluated_once(count):
    def angles(impl, x, positions):
        taken = []

        def counting(angles):
            taken.append(int(np.size(angles)))
            return np.sin(angles), np.cos(angles)

        impl.rope(x, positions, sincos=counting)
        return sum(taken)

    count(angles, inputs=lambda rng: (rng.normal(size=(2, 4, 64, 32)), np.arange(64) + 4_096))


@rule("R16")
def test_arrays_beat_a_loop_over_vectors(race, reference):
    def inputs(rng):
        start = int(rng.integers(0, 500))
        return rng.normal(size=(2, 8, 64, 64)).astype(np.float32), np.arange(start, start + 64)

    def verify(result, x, positions):
        check.close(result, reference.rope(x, positions), what="result", n=8, given="a timed call")

    race(lambda impl, x, positions: impl.rope(x, positions), inputs=inputs, verify=verify)
