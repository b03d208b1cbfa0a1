"""Stage 2: any positions, part of a head, each angle once."""

import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

LAYOUTS = st.sampled_from(["half", "interleaved"])
SEEDS = st.integers(0, 999)
BASES = st.sampled_from([10_000.0, 500_000.0, 12.75])


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
@given(layout=LAYOUTS, seed=SEEDS, base=BASES)
def test_positions_are_read_at_every_call(solution, reference, layout, seed, base):
    x, positions = draw(seed, 3, 6), np.array([0.0, 4.0, 9.5])
    solution.rope(x, positions, layout=layout, base=10_000.0)
    positions += 1.0  # one array all the time, as a loop that decodes has it

    saw = solution.rope(x, positions, layout=layout, base=base)

    want = reference.rope(x, positions, layout=layout, base=base)
    told = f"second call, positions [0, 4, 9.5] raised in place by 1, {layout}, base={base:g}"
    check.close(saw, want, what="result", n=44, given=told)


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


@rule("R12")
@given(T=st.integers(1, 3), heads=st.integers(1, 3), seed=SEEDS, layout=LAYOUTS)
def test_rows_have_positions_of_their_own(solution, reference, T, heads, seed, layout):
    x = draw(seed, 3, heads, T, 8)  # T = 1 is a step of decoding: one new token a row
    positions = np.random.default_rng(seed).integers(0, 50, size=(3, 1, T))

    saw = solution.rope(x, positions, layout=layout)

    want = reference.rope(x, np.broadcast_to(positions, x.shape[:-1]), layout=layout)
    told = f"x of shape {x.shape}, positions of shape {positions.shape}, {layout}, seed {seed}"
    check.close(saw, want, what="result", n=100, given=told)


@rule("R13")
@given(quarter=st.integers(1, 3), rest=st.integers(1, 8), seed=SEEDS, layout=LAYOUTS)
def test_part_of_a_head_is_a_vector_of_its_own(solution, reference, quarter, rest, seed, layout):
    R, D = 2 * quarter, 2 * quarter + rest  # only the rotated part has to be even
    x, positions = draw(seed, 5, D), np.arange(5) + 7

    saw = solution.rope(x, positions, rotary_dim=R, layout=layout)

    told = f"rotary_dim={R} of D={D}, {layout}, seed {seed}"
    check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)
    want = reference.rope(x[..., :R].copy(), positions, layout=layout)
    check.close(np.ascontiguousarray(saw[..., :R]), want, what="rotated part", n=24, given=told)
    kept = np.ascontiguousarray(saw[..., R:])
    check.equal(kept, x[..., R:].copy(), what="rest", given=told, moved=True)


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
@given(layout=LAYOUTS, rotary_dim=st.sampled_from([None, 4]), seed=SEEDS)
def test_sines_come_from_the_function_that_was_passed_in(
    solution, reference, layout, rotary_dim, seed
):
    x, positions = draw(seed, 3, 8), np.array([2, 5, 11])
    options = {"layout": layout, "rotary_dim": rotary_dim}

    def other(angles):
        return np.sin(angles / 2), np.cos(angles / 2)

    saw = solution.rope(x, positions, sincos=other, **options)
    after = solution.rope(x, positions, **options)

    told = f"rotary_dim={rotary_dim}, {layout}"
    want = reference.rope(x, positions / 2, **options)
    check.close(saw, want, what="result", n=24, given=f"a sincos that halves its angles, {told}")
    want = reference.rope(x, positions, **options)
    check.close(
        after, want, what="result", n=24, given=f"the given sincos, after another one, {told}"
    )


@rule("R14")
@given(layout=LAYOUTS, dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_what_sincos_returned_is_not_written_to(solution, layout, dtype, seed):
    table = []

    def looking_up(angles):
        parts = np.sin(angles).astype(dtype), np.cos(angles).astype(dtype)
        table.extend((part, part.copy()) for part in parts)
        return parts

    solution.rope(draw(seed, 3, 8, dtype=dtype), np.arange(3), layout=layout, sincos=looking_up)

    told = f"a sincos that keeps what it returned, {np.dtype(dtype)}, {layout}"
    for part, before in table:
        check.equal(part, before, what="what sincos returned", given=told, moved=True)


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
@given(
    seed=SEEDS,
    layout=LAYOUTS,
    rotary_dim=st.sampled_from([None, 4]),
    at=st.sampled_from([[4, 0, 2], [0, 0, 0], [4.0, 0.5, 2.0]]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_vectors_and_positions_are_not_modified(solution, seed, layout, rotary_dim, at, dtype):
    x, positions = draw(seed, 3, 8, dtype=dtype), np.array(at)
    told = f"x (3, 8) of {np.dtype(dtype)}, positions {at}, rotary_dim={rotary_dim}, {layout}"

    with check.unchanged(given=told, x=x, positions=positions):
        saw = solution.rope(x, positions, layout=layout, rotary_dim=rotary_dim)
        check.array(saw, shape=x.shape, dtype=x.dtype, what="result", given=told)

    check.fresh(saw, what="result", given=told, x=x)


@rule("R9")
@given(seed=SEEDS, layout=LAYOUTS, rotary_dim=st.sampled_from([None, 4]))
def test_a_result_of_rope_survives_the_next_call(solution, seed, layout, rotary_dim):
    x, other = draw(seed, 2, 3, 8)
    told = f"two calls with x of shape (3, 8), rotary_dim={rotary_dim}, {layout}"
    first = solution.rope(x, np.arange(3), layout=layout, rotary_dim=rotary_dim)
    check.array(first, shape=x.shape, dtype=x.dtype, what="result", given=told)
    want = first.copy()

    solution.rope(other, np.arange(3) + 4, layout=layout, rotary_dim=rotary_dim)

    check.equal(first, want, what="the first result", given=told, moved=True)


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
@given(
    shapes=st.sampled_from(
        [
            ((4, 8), (3,)),
            ((4, 8), (2, 3)),
            ((2, 8), (1, 4)),
            ((4, 8), (4, 1, 1)),
            ((4, 8), (1, 1, 4)),  # fits, but for its axes
            ((1, 8), (3,)),  # would make three vectors of one
            ((2, 3, 4, 8), (2, 4)),  # rows have to be (2, 1, 4)
        ]
    )
)
def test_positions_that_do_not_broadcast_are_refused(solution, shapes):
    x, positions = shapes

    check.raises(
        ValueError,
        solution.rope,
        np.ones(x),
        np.zeros(positions, np.int64),
        names="positions",
        what="rope",
        given=f"x of shape {x}, positions of shape {positions}",
    )


@rule("R10")
def test_rope_refuses_unknown_layouts_and_odd_heads(solution):
    for shape, layout, wrong in (
        ((2, 5), "half", "x"),
        ((2, 7), "interleaved", "x"),
        ((2, 4), "neox", "layout"),
        ((2, 4), "INTERLEAVED", "layout"),
    ):
        check.raises(
            ValueError,
            solution.rope,
            np.ones(shape),
            np.arange(2),
            layout=layout,
            names=wrong,
            what="rope",
            given=f"x of shape {shape}, layout={layout!r}",
        )


@rule("R15")
@given(
    shape=st.sampled_from([(3,), (1,), (), (2, 1, 3), (2, 1, 1), (4, 3)]),
    rotary_dim=st.sampled_from([None, 4]),
    layout=LAYOUTS,
)
def test_heads_share_the_angles_of_their_position(solution, shape, rotary_dim, layout):
    taken = []

    def counting(angles):
        taken.append(int(np.size(angles)))
        return np.sin(angles), np.cos(angles)

    x, positions = draw(1, 2, 4, 3, 8), np.arange(math.prod(shape)).reshape(shape)
    solution.rope(x, positions, rotary_dim=rotary_dim, layout=layout, sincos=counting)

    told = f"x of shape {x.shape}, positions of shape {shape}, rotary_dim={rotary_dim}, {layout}"
    most = (rotary_dim or 8) * math.prod(shape)
    check.that(sum(taken) <= most, saw=f"sincos was handed {sum(taken)} angles", given=told)


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
        return rng.normal(size=(2, 8, 64, 16)).astype(np.float32), np.arange(start, start + 64)

    def verify(result, x, positions):
        check.close(result, reference.rope(x, positions), what="result", n=8, given="a timed call")

    race(lambda impl, x, positions: impl.rope(x, positions), inputs=inputs, verify=verify)
