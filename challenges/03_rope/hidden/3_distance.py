"""Stage 3: scores that depend on distance alone."""

import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

LAYOUTS = st.sampled_from(["half", "interleaved"])
SEEDS = st.integers(0, 999)
BASES = st.sampled_from([10_000.0, 500_000.0, 12.75])


def draw(seed, *shapes, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def chosen(layout, base, part):
    """Options as a caller writes them: what is at its default is left out."""
    options = {"layout": layout, "base": base, "rotary_dim": 4 if part else None}
    defaults = {"layout": "half", "base": 10_000.0, "rotary_dim": None}
    return {name: value for name, value in options.items() if value != defaults[name]}


@rule("R17")
@given(
    T=st.integers(1, 4),
    S=st.integers(1, 5),
    D=st.sampled_from([4, 7, 8, 10]),
    start=st.integers(0, 6),
    part=st.booleans(),
    layout=LAYOUTS,
    base=BASES,
    seed=SEEDS,
)
def test_scores_are_scaled_dot_products(
    solution, reference, T, S, D, start, part, layout, base, seed
):
    q, k = draw(seed, (T, D), (S, D))
    at_q, at_k = np.arange(T) + 3, np.arange(S) * 2 + start  # keys stand before and after
    options = chosen(layout, base, part or D % 2 == 1)  # an odd head can be rotated in part

    saw = solution.attention_scores(q, k, at_q, at_k, **options)

    turned = [reference.rope(x, at, **options) for x, at in ((q, at_q), (k, at_k))]
    want = turned[0] @ turned[1].T / math.sqrt(D)
    check.close(
        saw,
        want,
        what="scores",
        n=8 * D,
        given=f"T={T} from 3, S={S} from {start}, D={D}, options {options}, seed {seed}",
    )


@rule("R17")
@given(
    T=st.sampled_from([1, 4]),
    layout=LAYOUTS,
    dtype=st.sampled_from([np.float32, np.float64]),
    whole=st.sampled_from([np.int64, np.uint8]),
    seed=SEEDS,
)
def test_every_row_and_head_has_scores_of_its_own(
    solution, reference, T, layout, dtype, whole, seed
):
    q, k = draw(seed, (2, 3, T, 8), (2, 3, 5, 8), dtype=dtype)
    # (2, 1, T) and (2, 1, 5): rows start elsewhere, and some keys stand after the queries
    at_q, at_k = (
        (np.array(starts)[:, None, None] + np.arange(length)).astype(whole)
        for starts, length in (([4, 9], T), ([6, 0], 5))
    )

    saw = solution.attention_scores(q, k, at_q, at_k, layout=layout)

    want = reference.attention_scores(q, k, at_q, at_k, layout=layout)
    check.close(
        saw,
        want,
        what="scores",
        n=40,
        given=f"2 rows, 3 heads, T={T} from 4 and 9, S=5 from 6 and 0, D=8, "
        f"{np.dtype(dtype)}, positions of dtype {np.dtype(whole)}, {layout}, seed {seed}",
    )


@rule("R7")
@given(layout=LAYOUTS, dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_far_apart_is_as_accurate_as_near(solution, reference, layout, dtype, seed):
    q, k = draw(seed, (2, 8), (3, 8), dtype=dtype)
    at_q, at_k = np.array([999_999.7, 131_071.3]), np.array([0, 70_001, 1_000_000])
    steps = 40 if dtype is np.float32 else 4_000_000

    saw = solution.attention_scores(q, k, at_q, at_k, layout=layout)
    moved = solution.shift(k, -999_999.7, layout=layout)

    wide = [x.astype(np.float64) for x in (q, k)]
    told = f"{np.dtype(dtype)}, D=8, {layout}, seed {seed}"
    want = reference.attention_scores(*wide, at_q, at_k, layout=layout).astype(dtype)
    positions = f"positions {at_q.tolist()} and {at_k.tolist()}"
    check.close(saw, want, what="scores", n=steps, given=f"{positions}, {told}")
    want = reference.shift(wide[1], -999_999.7, layout=layout).astype(dtype)
    check.close(moved, want, what="shifted keys", n=steps, given=f"delta=-999,999.7, {told}")


@rule("R18")
@given(offset=st.integers(-500, 500), part=st.booleans(), layout=LAYOUTS, seed=SEEDS)
def test_moving_the_whole_sequence_changes_no_score(solution, offset, part, layout, seed):
    q, k = draw(seed, (3, 8), (4, 8))
    at_q, at_k, R = np.array([9, 2, 5]), np.array([0, 3, 6, 7]), 4 if part else None

    saw = solution.attention_scores(q, k, at_q + offset, at_k + offset, layout=layout, rotary_dim=R)

    want = solution.attention_scores(q, k, at_q, at_k, layout=layout, rotary_dim=R)
    check.close(
        saw,
        want,
        what="scores",
        n=2_000,
        given=f"all positions moved by {offset}, rotary_dim={R}, {layout}, seed {seed}",
    )


@rule("R18")
@given(distance=st.integers(-20, 20), layout=LAYOUTS, seed=SEEDS)
def test_equal_pairs_at_equal_distances_have_equal_scores(solution, distance, layout, seed):
    q, k = draw(seed, (1, 6), (1, 6))
    at_k = np.array([0, 40, 7, 199])

    saw = solution.attention_scores(
        np.repeat(q, 4, axis=0)[:, None],
        np.repeat(k, 4, axis=0)[:, None],
        (at_k + distance)[:, None],
        at_k[:, None],
        layout=layout,
    )

    check.array(saw, shape=(4, 1, 1), dtype=q.dtype, what="scores", given="four pairs, each alone")
    check.close(
        saw,
        np.broadcast_to(saw[:1], saw.shape).copy(),
        what="scores",
        n=900,
        given=f"one query and one key {distance} apart, at four places, {layout}, seed {seed}",
    )


@rule("R19")
@given(
    T=st.integers(1, 4),
    S=st.integers(1, 6),
    D_v=st.sampled_from([1, 2, 5, 8, 9, 19]),
    start=st.integers(0, 8),
    part=st.booleans(),
    layout=LAYOUTS,
    base=BASES,
    seed=SEEDS,
)
def test_values_are_weighed_by_the_softmax_of_scores(
    solution, reference, T, S, D_v, start, part, layout, base, seed
):
    options = chosen(layout, base, part)
    q, k, v = draw(seed, (2, T, 8), (2, S, 8), (2, S, D_v))
    at_q, at_k = np.arange(T) + start, np.arange(S)  # keys stand before and after the queries

    saw = solution.attend(q, k, v, at_q, at_k, **options)

    want = reference.attend(q, k, v, at_q, at_k, **options)
    check.close(
        saw,
        want,
        what="output",
        n=100,
        given=f"T={T} from {start}, S={S} from 0, D=8, D_v={D_v}, options {options}, seed {seed}",
    )


@rule("R19")
@given(T=st.sampled_from([1, 3]), layout=LAYOUTS, seed=SEEDS)
def test_rows_attend_from_positions_of_their_own(solution, reference, T, layout, seed):
    q, k, v = draw(seed, (2, 3, T, 8), (2, 3, 4, 8), (2, 3, 4, 5))
    at_q, at_k = (
        np.array(starts)[:, None, None] + np.arange(length)
        for starts, length in (([4, 9], T), ([0, 6], 4))
    )

    saw = solution.attend(q, k, v, at_q, at_k, layout=layout)

    want = reference.attend(q, k, v, at_q, at_k, layout=layout)
    told = f"2 rows, 3 heads, T={T} from 4 and 9, S=4 from 0 and 6, D=8, {layout}, seed {seed}"
    check.close(saw, want, what="output", n=100, given=told)


@rule("R20")
@given(S=st.integers(1, 6), D_v=st.sampled_from([3, 8]), layout=LAYOUTS, seed=SEEDS)
def test_equal_values_come_out_as_they_went_in(solution, S, D_v, layout, seed):
    q, k, value = draw(seed, (3, 8), (S, 8), (1, D_v))
    at = np.arange(S) + 11

    saw = solution.attend(q, k, np.repeat(value, S, axis=0), np.arange(3) + 20, at, layout=layout)

    check.close(
        saw,
        np.repeat(value, 3, axis=0),
        what="output",
        n=16,
        given=f"{S} keys with one and the same value, D=8, D_v={D_v}, {layout}, seed {seed}",
    )


@rule("R20")
@given(offset=st.integers(1, 300), layout=LAYOUTS, seed=SEEDS)
def test_moving_the_whole_sequence_changes_no_output(solution, offset, layout, seed):
    q, k, v = draw(seed, (3, 8), (5, 8), (5, 8))
    at_q, at_k = np.arange(3) + 2, np.arange(5)

    saw = solution.attend(q, k, v, at_q + offset, at_k + offset, layout=layout)

    want = solution.attend(q, k, v, at_q, at_k, layout=layout)
    check.close(
        saw,
        want,
        what="output",
        n=4_000,
        given=f"all positions moved by {offset}, D=D_v=8, {layout}, seed {seed}",
    )


@rule("R21")
@given(
    delta=st.integers(-60, 60) | st.sampled_from([-0.5, 2.75]),
    part=st.booleans(),
    layout=LAYOUTS,
    base=BASES,
    seed=SEEDS,
)
def test_rotated_keys_move_to_new_positions(solution, reference, delta, part, layout, base, seed):
    (k,) = draw(seed, (2, 5, 8))
    at = np.array([0, 3, 4, 17, 60])
    options = chosen(layout, base, part)
    rotated = reference.rope(k, at, **options)

    saw = solution.shift(rotated, delta, **options)

    want = reference.rope(k, at + delta, **options)
    check.close(
        saw,
        want,
        what="keys",
        n=300,
        given=f"positions {at.tolist()} moved by {delta}, options {options}, seed {seed}",
    )


@rule("R19")
@given(
    size=st.sampled_from([100.0, 1_000.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=LAYOUTS,
    seed=SEEDS,
)
def test_large_scores_have_a_softmax_too(solution, reference, size, dtype, layout, seed):
    q, k, v = draw(seed, (2, 3, 8), (2, 5, 8), (2, 5, 4), dtype=dtype)
    at_q, at_k = np.arange(3) + 5, np.arange(5)
    q *= dtype(size)

    with np.errstate(all="ignore"):
        saw = solution.attend(q, k, v, at_q, at_k, layout=layout)

    want = reference.attend(q, k, v, at_q, at_k, layout=layout)
    told = f"queries {size:g} times as large, T=3, S=5, D=8, {np.dtype(dtype)}, {layout}"
    check.close(saw, want, what="output", n=100 * int(size), given=f"{told}, seed {seed}")


@rule("R19")
@given(
    score=st.sampled_from([-2_000.0, -95.0, 95.0, 2_000.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=LAYOUTS,
)
def test_equal_scores_weigh_equally_whatever_they_are(solution, score, dtype, layout):
    q, k = (np.full((2, 4), size, dtype) for size in (score / 2, 1.0))
    v = np.array([[1.0, 5.0], [3.0, -1.0]], dtype)
    at = np.full(2, 3)  # nothing is turned against anything: every score is 4 · score/2 / √4

    with np.errstate(all="ignore"):
        saw = solution.attend(q, k, v, at, at, layout=layout)

    want = np.array([[2.0, 2.0]] * 2, dtype)
    told = f"all scores about {score:g}, T=S=2, D=4, {np.dtype(dtype)}, {layout}"
    check.close(saw, want, what="output", n=8 * int(abs(score)), given=told)


@rule("R9")
@given(
    layout=LAYOUTS,
    delta=st.sampled_from([0, 4]),
    dtype=st.sampled_from([np.float32, np.float64]),
    at=st.sampled_from([np.int64, np.float64]),
    seed=SEEDS,
)
def test_attention_leaves_its_arguments_alone(solution, layout, delta, dtype, at, seed):
    q, k, v = draw(seed, (3, 8), (5, 8), (5, 8), dtype=dtype)
    at_q, at_k = (np.arange(3) + 5).astype(at), np.arange(5).astype(at)
    told = (
        f"T=3, S=5, D=8, {np.dtype(dtype)}, positions of dtype {np.dtype(at)}, delta={delta}, "
        f"{layout}"
    )

    with check.unchanged(given=told, q=q, k=k, v=v, q_positions=at_q, k_positions=at_k):
        solution.attend(q, k, v, at_q, at_k, layout=layout)
        solution.attention_scores(q, k, at_q, at_k, layout=layout)
        moved = solution.shift(k, delta, layout=layout)
        check.array(moved, shape=k.shape, dtype=k.dtype, what="shifted keys", given=told)

    check.fresh(moved, what="shifted keys", given=told, k=k)


@rule("R10")
@given(
    wrong=st.sampled_from(
        [{"layout": "neox"}, {"layout": "Half"}] + [{"rotary_dim": R} for R in (0, 3, 10)]
    )
)
def test_attention_refuses_what_rope_refuses(solution, wrong):
    q, k, at = np.ones((2, 8)), np.ones((3, 8)), (np.arange(2), np.arange(3))
    calls = {
        "attention_scores": (q, k, *at),
        "attend": (q, k, k, *at),
        "shift": (k, 5),
    }
    (names,) = wrong

    for what, arguments in calls.items():
        check.raises(
            ValueError,
            getattr(solution, what),
            *arguments,
            **wrong,
            names=names,
            what=what,
            given=f"{names}={wrong[names]!r}, D=8",
        )


@rule("R10")
@given(part=st.booleans())
def test_positions_and_odd_heads_that_do_not_fit_are_refused(solution, part):
    D, T = (8, 3) if part else (5, 2)
    q, k, at_q, at_k = np.ones((2, D)), np.ones((2, D)), np.arange(T), np.arange(2)
    told = f"T=S=2, D={D}, q_positions of shape ({T},)"

    for what, arguments in (
        ("attention_scores", (q, k, at_q, at_k)),
        ("attend", (q, k, k, at_q, at_k)),
        ("shift", (np.ones((2, 5)), 3)),
    ):
        given = "keys of width 5" if what == "shift" else told
        check.raises(ValueError, getattr(solution, what), *arguments, what=what, given=given)


@rule("R8")
@given(dtype=st.sampled_from([np.float32, np.float64]), layout=LAYOUTS)
def test_attention_keeps_the_dtype(solution, dtype, layout):
    q, k, v = draw(4, (2, 0, 8), (2, 3, 8), (2, 3, 5), dtype=dtype)
    told = f"T=0, S=3, D_v=5, {np.dtype(dtype)}, {layout}"

    scores = solution.attention_scores(q, k, np.arange(0), np.arange(3), layout=layout)
    output = solution.attend(q, k, v, np.arange(0), np.arange(3), layout=layout)
    moved = solution.shift(k, np.int64(7), layout=layout)

    check.array(scores, shape=(2, 0, 3), dtype=dtype, what="scores", given=told)
    check.array(output, shape=(2, 0, 5), dtype=dtype, what="output", given=told)
    check.array(moved, shape=(2, 3, 8), dtype=dtype, what="shifted keys", given=told)
