"""Stage 1: scaled dot-product attention without masks."""

import copy
import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

SIZES = st.integers(1, 7)
MANY = st.integers(2, 7)
SEEDS = st.integers(0, 999)
LEADS = st.sampled_from([(), (3,), (2, 3), (2, 1, 2)])
DTYPES = st.sampled_from(["float32", "float64"])


def normal(seed, lead=(), T=3, S=5, D=4, D_v=2, dtype="float64"):
    """q, k and v of standard normal numbers, and the words that say how to make them again."""
    rng = np.random.default_rng(seed)
    shapes = ((*lead, T, D), (*lead, S, D), (*lead, S, D_v))
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return q, k, v, f"default_rng({seed}), q {q.shape}, k {k.shape}, v {v.shape}, {dtype}"


def scored(seed, moves, S, dtype):
    """q, k, v: at scale 1 a row of scores is small whole numbers plus the move of the row."""
    rng = np.random.default_rng(seed)
    q = np.column_stack([rng.integers(-1, 2, (len(moves), 2)), moves]).astype(dtype)
    k = np.column_stack([rng.integers(-1, 2, (S, 2)), np.ones(S)]).astype(dtype)
    return q, k, rng.standard_normal((S, 2)).astype(dtype)


@rule("R1")
@given(
    lead=st.sampled_from([(), (3,), (2, 1, 2), (0,)]),
    T=st.integers(0, 5),
    S=SIZES,
    D_v=SIZES,
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_output_has_a_row_for_each_query(solution, lead, T, S, D_v, dtype):
    q, k, v, words = normal(0, lead, T, S, 4, D_v, dtype)

    out = solution.attention(q, k, v)

    check.array(out, shape=(*lead, T, D_v), dtype=dtype, what="output", given=words)


@rule("R1")
@given(dtype=st.sampled_from(["float16", "float32"]), scale=st.sampled_from([0.5, 1.0]))
def test_a_scale_of_numpy_leaves_the_dtype_alone(solution, dtype, scale):
    q, k, v, words = normal(0, dtype=dtype)

    out = solution.attention(q, k, v, scale=np.float64(scale))

    words += f", scale=np.float64({scale})"
    check.array(out, shape=(3, 2), dtype=dtype, what="output", given=words)


@rule("R2")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES)
def test_weights_are_non_negative_and_sum_to_one(solution, seed, T, S, dtype):
    q, k, _, words = normal(seed, (), T, S, dtype=dtype)
    words += " but v = eye(S), so that the output is the weights"

    weights = solution.attention(q, k, np.eye(S, dtype=dtype))

    check.array(weights, shape=(T, S), dtype=dtype, what="output", given=words)
    saw = f"a weight of {weights.min():.2g}"
    check.that((weights >= 0).all(), saw=saw, given=words, value=weights)
    ones = np.ones(T, dtype)
    check.close(weights.sum(axis=1), ones, what="sum of a query's weights", given=words, n=4 + S)


@rule("R2")
@given(seed=SEEDS, lead=LEADS, T=SIZES, S=SIZES, dtype=DTYPES)
def test_the_mean_of_equal_values_is_that_value(solution, seed, lead, T, S, dtype):
    q, k, v, words = normal(seed, lead, T, S, dtype=dtype)
    v[...] = v[..., :1, :]

    out = solution.attention(q, k, v)

    want = np.repeat(v[..., :1, :], T, axis=-2)
    check.close(out, want, what="output", given=f"{words}, all rows of v as the first", n=S)


@rule("R2")
@given(seed=SEEDS, T=SIZES, S=SIZES, factor=st.sampled_from([-2.0, 0.5, 8.0]))
def test_output_is_linear_in_the_values(solution, seed, T, S, factor):
    q, k, v, words = normal(seed, (), T, S)
    other = v[::-1] + 1.0
    words += f", v and v[::-1] + 1, factor {factor}"

    together = solution.attention(q, k, factor * v + other)

    apart = factor * solution.attention(q, k, v) + solution.attention(q, k, other)
    check.close(together, apart, what="output for factor * v + other", given=words, n=4 + S)


def _share_of_the_first_key(q, k, scale):
    """Weight of key 0 of two: the sigmoid of the difference of the scores."""
    return 1.0 / (1.0 + np.exp(-scale * (q @ (k[0] - k[1]))))


@rule("R3")
@given(seed=SEEDS, T=SIZES, D=st.integers(1, 12), D_v=SIZES)
def test_scores_are_scaled_by_the_width_of_a_query(solution, seed, T, D, D_v):
    q, k, v, words = normal(seed, (), T, 2, D, D_v)
    v[0], v[1] = 1.0, 0.0
    words += ", v = 1 for the first key and 0 for the second"

    out = solution.attention(q, k, v)

    want = np.repeat(_share_of_the_first_key(q, k, 1 / math.sqrt(D))[:, None], D_v, axis=1)
    check.close(out, want, what="weight of the first key", given=words, n=D + 2)


@rule("R3")
@given(seed=SEEDS, T=SIZES, D=SIZES, scale=st.sampled_from([0.0, 1.0, -0.7, 2, 0.125]))
def test_a_given_scale_replaces_the_default(solution, seed, T, D, scale):
    q, k, v, words = normal(seed, (), T, 2, D, 1)
    v[0], v[1] = 1.0, 0.0
    words += f", scale={scale}, v = 1 for the first key and 0 for the second"

    out = solution.attention(q, k, v, scale=scale)

    want = _share_of_the_first_key(q, k, scale)[:, None]
    check.close(out, want, what="weight of the first key", given=words, n=D + 2)


@rule("R4")
@given(seed=SEEDS, lead=LEADS, T=SIZES, S=st.integers(2, 7))
def test_the_order_of_the_keys_does_not_matter(solution, seed, lead, T, S):
    q, k, v, words = normal(seed, lead, T, S)
    order = np.random.default_rng(seed).permutation(S)

    moved = solution.attention(q, k[..., order, :], v[..., order, :])

    words += f", keys and values in the order {order.tolist()}"
    check.close(moved, solution.attention(q, k, v), what="output", given=words, n=4 + S)


@rule("R4")
@given(seed=SEEDS, T=st.integers(2, 7), S=SIZES)
def test_a_query_is_answered_as_if_it_were_alone(solution, seed, T, S):
    q, k, v, words = normal(seed, (), T, S)

    together = solution.attention(q, k, v)

    alone = np.concatenate([solution.attention(q[t : t + 1], k, v) for t in range(T)])
    check.close(together, alone, what="output, against one query a call", given=words, n=4 + S)


@rule("R4")
@given(seed=SEEDS, lead=st.sampled_from([(3,), (2, 3), (2, 1, 2)]), T=SIZES, S=SIZES)
def test_entries_of_the_leading_axes_do_not_mix(solution, seed, lead, T, S):
    q, k, v, words = normal(seed, lead, T, S)

    together = solution.attention(q, k, v)

    check.array(together, shape=(*lead, T, 2), dtype=q.dtype, what="output", given=words)
    for i in np.ndindex(lead):
        alone = solution.attention(q[i], k[i], v[i])
        check.close(together[i], alone, what=f"output[{i}]", given=words, n=4 + S)


FAR = {"float32": 300.0, "float64": 3000.0}
SIZES_OF_SCORES = st.sampled_from(
    [("float32", 300.0), ("float32", 1e6), ("float32", 1e30), ("float64", 3e3), ("float64", 1e200)]
)


@rule("R5")
@given(seed=SEEDS, T=MANY, S=MANY, apart=st.booleans(), dtype=DTYPES)
def test_moving_all_scores_of_a_row_changes_nothing(solution, seed, T, S, apart, dtype):
    moves = [(0.0, FAR[dtype], -FAR[dtype])[t % 3] for t in range(T)]
    q, k, v = scored(seed, moves, S, dtype)
    if apart:  # each query in an entry of a leading axis
        q, k, v = q[:, None], np.stack([k] * T), np.stack([v] * T)

    out = solution.attention(q, k, v, scale=1.0)

    want = solution.attention(q * np.array([1, 1, 0], dtype), k, v, scale=1.0)
    words = f"q {q.shape}, S={S}, {dtype}, scores of -2 to 2, those of the queries moved by {moves}"
    check.close(out, want, what="output", given=words, n=3 + S, scale=FAR[dtype])


@rule("R5")
@given(seed=SEEDS, S=st.integers(2, 9), scores=SIZES_OF_SCORES, top=st.sampled_from([1, 0, -1]))
def test_a_score_far_above_the_others_takes_all_the_weight(solution, seed, S, scores, top):
    dtype, size = scores
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((S, 3)).astype(dtype)
    best = int(rng.integers(S))
    k = np.full((S, 1), (top - 2) * size, dtype)
    k[best] = top * size

    out = solution.attention(np.ones((1, 1), dtype), k, v, scale=1.0)

    words = f"{S} keys, {dtype}, score {top * size:g} for one, {(top - 2) * size:g} for the others"
    check.close(out, v[best : best + 1], what="output", given=words, n=S)


@rule("R5")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES, max_examples=20)
def test_far_scores_raise_no_floating_point_error(solution, seed, T, S, dtype):
    # All sizes stay below 14: some builds of BLAS raise flags of their own on larger matrices.
    far = scored(seed, [FAR[dtype] * (-1) ** t for t in range(T)], S, dtype)
    words = f"T={T}, S={S}, {dtype}, scores around {FAR[dtype]:g} and {-FAR[dtype]:g}"

    with np.errstate(over="raise", divide="raise", invalid="raise"):
        saw = _floating_point_error(lambda: solution.attention(*far, scale=1.0))

    check.that(not saw, saw=f"NumPy warned on the way: {saw}", given=words)


def _floating_point_error(call):
    """The text of the FloatingPointError that a call raises, or nothing."""
    try:
        call()
    except FloatingPointError as error:
        return str(error)
    return ""


@rule("R6")
@given(size=st.sampled_from([1.0, 2.0, -1.0]), dtype=DTYPES, max_examples=6)
def test_differences_that_the_dtype_can_tell_are_kept(solution, size, dtype):
    tiny = {"float32": 2.0**-12, "float64": 2.0**-28}[dtype]  # lost in the next smaller dtype
    q, k = np.array([[size]], dtype), np.array([[tiny], [0.0]], dtype)
    v = np.array([[1.0, 1.0 + tiny], [-1.0, 1.0 + tiny]], dtype)

    out = solution.attention(q, k, v, scale=1.0)

    # The weights are 1/2 ± tanh(difference of the scores / 2) / 2.
    want = np.array([[math.tanh(size * tiny / 2), 1.0 + tiny]]).astype(dtype)
    words = f"{dtype}, q = [[{size}]], k = [[{tiny}], [0]], v = [[1, 1 + {tiny}], [-1, 1 + {tiny}]]"
    check.close(out, want, what="output", given=f"{words}, scale=1", n=3)


def _float16_case(step, T, S):
    """Dot products 65,536 or 4,096 plus s · step for the keys s = 0, 1, …, and their softmax."""
    size = 256.0 if step > 1 else 64.0
    q = np.repeat([[size, 1.0]], T, axis=0).astype(np.float16)
    k = np.array([[size, step * s] for s in range(S)], np.float16)
    powers = np.exp(np.arange(S))
    words = f"float16, T={T}, dot products {size**2:,.0f} + {step} · (0, 1, …), scale=1/{step}"
    return q, k, powers / powers.sum(), words


@rule("R6")
@given(step=st.sampled_from([1, 1024]), T=SIZES, S=st.integers(2, 5))
def test_float16_scores_have_the_room_of_float32(solution, step, T, S):
    q, k, weights, words = _float16_case(step, T, S)
    v = np.arange(S, dtype=np.float16)[:, None]

    out = solution.attention(q, k, v, scale=1 / step)

    want = np.full((T, 1), weights @ np.arange(S)).astype(np.float16)
    check.close(out, want, what="output", given=f"{words}, v = 0, 1, …")


@rule("R6")
@given(scale=st.sampled_from([1 / 3, 0.7, 1.1, 1.9]), max_examples=4)
def test_float16_is_rounded_at_the_end_alone(solution, scale):
    # Weights of nearly 4/5 and 1/5 make terms of 410 and -410: each rounding on the way is seen.
    columns = [[512, 500, -256], [-2048, -2000, 1025]]
    q, v = np.ones((1, 1), np.float16), np.array(columns, np.float16)
    k = np.array([[math.log(4) / scale], [0]], np.float16)

    out = solution.attention(q, k, v, scale=scale)

    share = 1 / (1 + math.exp(-scale * float(k[0, 0])))
    want = np.array([[share, 1 - share]]) @ columns
    words = f"float16, q = [[1]], k = [[{k[0, 0]}], [0]], v = {columns}, scale={scale:.3g}"
    check.close(out, want.astype(np.float16), what="output", given=words)


@rule("R7")
@given(seed=SEEDS, lead=LEADS, dtype=DTYPES, scale=st.sampled_from([None, 0.5]), max_examples=20)
def test_arguments_are_not_modified(solution, seed, lead, dtype, scale):
    q, k, v, words = normal(seed, lead, dtype=dtype)

    with check.unchanged(given=words, q=q, k=k, v=v):
        solution.attention(q, k, v, scale=scale)


@rule("R7")
@given(seed=SEEDS, lead=LEADS, T=SIZES, S=st.integers(1, 3), dtype=DTYPES, max_examples=20)
def test_the_output_is_no_view_of_the_arguments(solution, seed, lead, T, S, dtype):
    q, k, v, words = normal(seed, lead, T, S, dtype=dtype)

    out = solution.attention(q, k, v)

    check.array(out, shape=(*lead, T, 2), dtype=dtype, what="output", given=words)
    check.fresh(out, what="output", given=words, q=q, k=k, v=v)


@rule("R7")
@given(seed=SEEDS, lead=LEADS, T=SIZES, S=SIZES, dtype=DTYPES, max_examples=10)
def test_a_later_call_changes_no_earlier_result(solution, seed, lead, T, S, dtype):
    q, k, v, words = normal(seed, lead, T, S, dtype=dtype)
    first = solution.attention(q, k, v)
    before = copy.deepcopy(first)

    solution.attention(-q, k, v + 1)

    words += ", then a call with -q, k and v + 1"
    check.equal(first, before, what="output of the first call", given=words, moved=True)


@rule("R7")
@given(seed=SEEDS, T=SIZES, S=SIZES, max_examples=20)
def test_rows_that_share_memory_give_the_same_result(solution, seed, T, S):
    q, k, v, words = normal(seed, (), T, S)
    shared = [np.broadcast_to(array, (2, 3, *array.shape)) for array in (q, k, v)]

    out = solution.attention(*shared)

    want = np.broadcast_to(solution.attention(q, k, v), (2, 3, T, 2))
    words += ", each broadcast to leading axes (2, 3) by strides of 0"
    check.close(out, want, what="output", given=words, n=4 + S)


@rule("R7")
@given(seed=SEEDS, T=SIZES, S=SIZES, max_examples=20)
def test_strided_arguments_give_the_same_result(solution, seed, T, S):
    q, k, v, words = normal(seed, (2, 3), 2 * T, S, 8, 5)
    strided = q[:, :, ::2, ::2], k[..., ::-2], np.asfortranarray(v)

    out = solution.attention(*strided)

    want = solution.attention(*(np.ascontiguousarray(array) for array in strided))
    words += ", then q[:, :, ::2, ::2], k[..., ::-2], asfortranarray(v)"
    check.close(out, want, what="output, against contiguous copies", given=words, n=4 + S)


@rule("R8")
@given(seed=SEEDS, T=MANY, S=SIZES, row=st.integers(0, 6), dtype=DTYPES, max_examples=20)
def test_a_nan_in_a_query_reaches_its_own_row_alone(solution, seed, T, S, row, dtype):
    q, k, v, words = normal(seed, (), T, S, dtype=dtype)
    want = solution.attention(q, k, v).copy()
    q[row % T, 0] = want[row % T] = np.nan

    out = solution.attention(q, k, v)

    words += f", then q[{row % T}, 0] = NaN"
    check.close(out, want, what="output", given=words, n=4 + S, finite=False)


MISFITS = [
    ("q", "q of shape (4,)", lambda q, k, v: (q[0], k, v)),
    ("q", "q, k and v of integers", lambda *args: [array.astype(np.int64) for array in args]),
    ("k", "k of shape (4,)", lambda q, k, v: (q, k[0], v)),
    ("k", "k of another width than q", lambda q, k, v: (q, k[:, :3], v)),
    ("k", "k with a leading axis that q lacks", lambda q, k, v: (q, k[None], v[None])),
    ("k", "k of float32 for q of float64", lambda q, k, v: (q, k.astype(np.float32), v)),
    ("k", "k (1, 5, 4) for q (2, 3, 4)", lambda q, k, v: (np.stack([q, q]), k[None], v[None])),
    ("v", "v of shape (2,)", lambda q, k, v: (q, k, v[0])),
    ("v", "v with fewer rows than k", lambda q, k, v: (q, k, v[:4])),
    ("v", "v with one row for five keys", lambda q, k, v: (q, k, v[:1])),
    ("v", "v with a leading axis that k lacks", lambda q, k, v: (q, k, v[None])),
    (
        "v",
        "v (1, 5, 2) for k (2, 5, 4)",
        lambda q, k, v: (np.stack([q, q]), np.stack([k, k]), v[None]),
    ),
    ("v", "v of float32 for q of float64", lambda q, k, v: (q, k, v.astype(np.float32))),
]


@rule("R9")
def test_an_argument_that_does_not_fit_is_named(solution):
    q, k, v, _ = normal(1)

    for name, words, spoil in MISFITS:
        args = spoil(q, k, v)
        what = "attention"
        check.raises(ValueError, solution.attention, *args, what=what, given=words, names=name)


@rule("R3")
@given(seed=SEEDS, lead=LEADS, T=SIZES, S=SIZES, D=SIZES, D_v=SIZES, dtype=DTYPES)
def test_output_has_the_right_values(solution, reference, seed, lead, T, S, D, D_v, dtype):
    q, k, v, words = normal(seed, lead, T, S, D, D_v, dtype)

    out = solution.attention(q, k, v, scale=0.9)

    want = reference.attention(q, k, v, scale=0.9)
    check.close(out, want, what="output", given=f"{words}, scale=0.9", n=D + S)
