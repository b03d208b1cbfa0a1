"""Stage 2: masks, causal order, and queries that see nothing."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

SIZES = st.integers(1, 7)
MANY = st.integers(2, 7)
SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from(["float32", "float64"])


def normal(seed, lead=(), T=3, S=5, dtype="float64"):
    """q, k and v of standard normal numbers, and the words that say how to make them again."""
    rng = np.random.default_rng(seed)
    shapes = ((*lead, T, 4), (*lead, S, 4), (*lead, S, 2))
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return q, k, v, f"default_rng({seed}), q {q.shape}, k {k.shape}, v {v.shape}, {dtype}"


def some(seed, shape):
    """A random mask that leaves every query at least one key."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.5
    always = rng.integers(shape[-1], size=shape[:-1])
    np.put_along_axis(mask, always[..., None], True, axis=-1)
    return mask


def shown(mask):
    """A mask as rows of x (may attend) and dots."""
    rows = ["".join(".x"[int(allowed)] for allowed in row) for row in np.atleast_2d(mask)]
    return "mask " + " ".join(rows)


@rule("R10")
@given(seed=SEEDS, T=SIZES, S=MANY, dtype=DTYPES)
def test_a_query_with_one_allowed_key_copies_its_value(solution, seed, T, S, dtype):
    q, k, v, words = normal(seed, (), T, S, dtype)
    keys = np.random.default_rng(seed).integers(S, size=T)
    mask = np.arange(S) == keys[:, None]

    out = solution.attention(q, k, v, mask=mask)

    check.close(out, v[keys], what="output", given=f"{words}, {shown(mask)}", n=S)


@rule("R10")
@given(seed=SEEDS, T=MANY, S=MANY)
def test_masking_a_key_is_leaving_it_out(solution, seed, T, S):
    q, k, v, words = normal(seed, (), T, S)
    mask = some(seed, (T, S))

    out = solution.attention(q, k, v, mask=mask)

    left = [solution.attention(q[t : t + 1], k[mask[t]], v[mask[t]]) for t in range(T)]
    words += f", {shown(mask)}"
    check.close(out, np.concatenate(left), what="output", given=words, n=4 + S)


@rule("R10")
@given(seed=SEEDS, T=SIZES, S=SIZES, dtype=DTYPES, max_examples=20)
def test_a_mask_that_allows_all_changes_nothing(solution, seed, T, S, dtype):
    q, k, v, words = normal(seed, (2,), T, S, dtype)

    out = solution.attention(q, k, v, mask=np.ones((T, S), bool))

    want = solution.attention(q, k, v)
    check.close(out, want, what="output", given=f"{words}, mask all True", n=4 + S)


@rule("R11")
@given(
    seed=SEEDS,
    T=SIZES,
    S=st.integers(2, 7),
    size=st.sampled_from([1e2, 1e4, 1e12, 1e30]),
    dtype=DTYPES,
)
def test_what_stands_in_forbidden_keys_has_no_influence(solution, seed, T, S, size, dtype):
    q, k, v, words = normal(seed, (2,), T, S, dtype)
    mask = some(seed, (S,))
    want = solution.attention(q, k, v, mask=mask)
    k[:, ~mask] *= size
    v[:, ~mask] *= size

    out = solution.attention(q, k, v, mask=mask)

    words += f", {shown(mask)}, forbidden keys and values times {size:g}"
    check.close(out, want, what="output", given=words, n=4 + S)


@rule("R11")
@given(
    seed=SEEDS,
    S=st.integers(3, 7),
    size=st.sampled_from([1e4, 1e12, 1e34]),
    causal=st.booleans(),
    dtype=DTYPES,
)
def test_a_forbidden_key_loses_against_any_score(solution, seed, S, size, causal, dtype):
    T = S if causal else 3
    _, _, v, words = normal(seed, (), T, S, dtype)
    # Forbidden scores differ, or they would weigh as much as if all were one number.
    q, k = np.ones((T, 1), dtype), (-size * np.arange(1, S + 1)[:, None]).astype(dtype)
    mask = np.arange(S) == 0

    out = solution.attention(q, k, v, mask=mask, causal=causal, scale=1.0)

    want = np.repeat(v[:1], T, axis=0)
    words += f", then the score of key s is -{size:g} · (s + 1), {shown(mask)}, causal={causal}"
    check.close(out, want, what="output", given=words, n=S)


def _fitting_masks(seed, B, H, T, S):
    shapes = [(S,), (1, S), (T, S), (H, 1, S), (1, T, S), (B, 1, 1, S), (B, 1, T, S), (1, H, T, S)]
    return [some(seed + i, shape) for i, shape in enumerate([*shapes, (B, H, T, S)])]


@rule("R12")
@given(seed=SEEDS, B=st.integers(2, 3), H=st.integers(1, 3), T=SIZES, S=MANY, max_examples=25)
def test_a_mask_that_broadcasts_means_the_broadcast_mask(solution, seed, B, H, T, S):
    q, k, v, words = normal(seed, (B, H), T, S)

    for mask in _fitting_masks(seed, B, H, T, S):
        out = solution.attention(q, k, v, mask=mask)

        whole = np.broadcast_to(mask, (B, H, T, S)).copy()
        want = solution.attention(q, k, v, mask=whole)
        check.close(out, want, what="output", given=f"{words}, mask {mask.shape}", n=4 + S)


@rule("R12")
@given(seed=SEEDS, B=st.integers(1, 3), T=SIZES, S=SIZES, max_examples=20)
def test_a_mask_may_be_one_answer_for_all_keys(solution, seed, B, T, S):
    q, k, v, words = normal(seed, (B, 2), T, S)
    rng = np.random.default_rng(seed)

    for shape in ((), (1,), (T, 1), (B, 1, T, 1), (B, 1, 1, 1)):
        mask = np.asarray(rng.random(shape) < 0.6)
        out = solution.attention(q, k, v, mask=mask)

        whole = np.broadcast_to(mask, (B, 2, T, S)).copy()
        want = solution.attention(q, k, v, mask=whole)
        given = f"{words}, mask {shape}: {mask.ravel().tolist()}"
        check.close(out, want, what="output", given=given, n=4 + S)


@rule("R8")
@given(seed=SEEDS, T=MANY, more=st.integers(0, 3), row=st.integers(0, 6), causal=st.booleans())
def test_a_nan_in_a_query_is_not_taken_for_a_lack_of_keys(solution, seed, T, more, row, causal):
    q, k, v, words = normal(seed, (), T, T + more)
    mask = some(seed, (T, T + more))
    mask[:, 0] = True  # also in causal order no query sees nothing
    want = solution.attention(q, k, v, mask=mask, causal=causal).copy()
    q[row % T, 0] = want[row % T] = np.nan

    out = solution.attention(q, k, v, mask=mask, causal=causal)

    words += f", {shown(mask)}, causal={causal}, then q[{row % T}, 0] = NaN"
    check.close(out, want, what="output", given=words, n=4 + T + more, finite=False)


@rule("R13")
@given(seed=SEEDS, T=MANY, S=MANY, row=st.integers(0, 6), dtype=DTYPES)
def test_a_query_without_keys_gets_zeros(solution, seed, T, S, row, dtype):
    q, k, v, words = normal(seed, (2,), T, S, dtype)
    mask = some(seed, (T, S))
    mask[row % T] = False

    out = solution.attention(q, k, v, mask=mask)

    words += f", {shown(mask)}"
    check.array(out, shape=(2, T, 2), dtype=dtype, what="output", given=words)
    what = f"output of query {row % T}"
    check.close(out[:, row % T], np.zeros((2, 2), dtype), what=what, given=words)


@rule("R13")
@given(seed=SEEDS, T=MANY, S=MANY, row=st.integers(0, 6))
def test_queries_beside_one_without_keys_are_not_affected(solution, seed, T, S, row):
    q, k, v, words = normal(seed, (2,), T, S)
    mask = some(seed, (T, S))
    others = np.arange(T) != row % T
    mask[row % T] = False

    out = solution.attention(q, k, v, mask=mask)

    words += f", {shown(mask)}"
    check.array(out, shape=(2, T, 2), dtype=q.dtype, what="output", given=words)
    want = solution.attention(q[:, others], k, v, mask=mask[others])
    check.close(out[:, others], want, what="output of the other queries", given=words, n=4 + S)


@rule("R13")
@given(T=st.integers(0, 4), lead=st.sampled_from([(), (2, 3)]), dtype=DTYPES, max_examples=20)
def test_without_any_key_every_query_gets_zeros(solution, T, lead, dtype):
    q, k, v, words = normal(0, lead, T, 0, dtype)

    out = solution.attention(q, k, v)

    check.close(out, np.zeros((*lead, T, 2), dtype), what="output", given=words)


@rule("R13")
@given(seed=SEEDS, T=SIZES, S=st.integers(0, 7), causal=st.booleans(), dtype=DTYPES)
def test_a_query_without_keys_raises_no_floating_point_error(solution, seed, T, S, causal, dtype):
    # All sizes stay below 14: some builds of BLAS raise flags of their own on larger matrices.
    q, k, v, words = normal(seed, (), T, S, dtype)
    mask = np.random.default_rng(seed).random((T, S)) < 0.5
    mask[-1] = False
    saw = ""

    with np.errstate(over="raise", divide="raise", invalid="raise"):
        try:
            solution.attention(q, k, v, mask=mask, causal=causal)
        except FloatingPointError as error:
            saw = f"NumPy warned on the way: {error}"

    check.that(not saw, saw=saw, given=f"{words}, {shown(mask)}, causal={causal}")


@rule("R14")
@given(seed=SEEDS, T=MANY, more=st.integers(0, 4))
def test_a_query_sees_the_keys_up_to_its_own_position(solution, seed, T, more):
    S = T + more
    q, k, v, words = normal(seed, (), T, S)

    out = solution.attention(q, k, v, causal=True)

    ends = range(S - T + 1, S + 1)
    seen = [solution.attention(q[t : t + 1], k[:e], v[:e]) for t, e in enumerate(ends)]
    words += ", causal=True"
    check.close(out, np.concatenate(seen), what="output", given=words, n=4 + S)


@rule("R14")
@given(seed=SEEDS, T=st.integers(2, 7), position=st.integers(1, 6))
def test_the_future_has_no_influence(solution, seed, T, position):
    q, k, v, words = normal(seed, (2,), T, T)
    position = min(position, T - 1)
    want = solution.attention(q, k, v, causal=True)
    k[:, position:] = 1.0 - k[:, position:]
    v[:, position:] = 1.0 - v[:, position:]

    out = solution.attention(q, k, v, causal=True)

    words += f", causal=True, keys and values from position {position} on replaced"
    check.array(out, shape=(2, T, 2), dtype=q.dtype, what="output", given=words)
    what = f"output before position {position}"
    check.close(out[:, :position], want[:, :position], what=what, given=words, n=4 + T)


@rule("R14")
@given(seed=SEEDS, S=st.integers(2, 7), T=SIZES)
def test_decoding_with_a_cache_continues_the_full_pass(solution, seed, S, T):
    T = min(T, S - 1)
    q, k, v, words = normal(seed, (2,), S, S)
    full = solution.attention(q, k, v, causal=True)

    last = solution.attention(q[:, -T:], k, v, causal=True)

    words += f", causal=True: the last {T} queries with all {S} keys, against all queries"
    check.close(last, full[:, -T:], what="output", given=words, n=4 + S)


@rule("R13")
@given(seed=SEEDS, S=st.sampled_from([3, 0, 1, 2]), more=st.integers(1, 4), dtype=DTYPES)
def test_queries_before_the_first_key_get_zeros(solution, seed, S, more, dtype):
    q, k, v, words = normal(seed, (), S + more, S, dtype)

    out = solution.attention(q, k, v, causal=True)

    want = np.zeros((S + more, 2), dtype)
    if S:
        want[more:] = solution.attention(q[more:], k, v, causal=True)
    check.close(out, want, what="output", given=f"{words}, causal=True", n=4 + S)


@rule("R15")
@given(seed=SEEDS, T=st.integers(3, 7), more=st.integers(0, 3), shared=st.booleans(), dtype=DTYPES)
def test_a_key_has_to_be_allowed_by_mask_and_by_causal_order(
    solution, seed, T, more, shared, dtype
):
    S = T + more
    q, k, v, words = normal(seed, (2,), T, S, dtype)
    mask = some(seed, (S,) if shared else (T, S))
    mask[..., 0] = True  # no query sees nothing

    out = solution.attention(q, k, v, mask=mask, causal=True)

    past = np.arange(S) <= np.arange(S - T, S)[:, None]
    want = solution.attention(q, k, v, mask=mask & past)
    words += f", causal=True, {shown(mask)}"
    check.close(out, want, what="output", given=words, n=4 + S)


@rule("R7")
@given(seed=SEEDS, T=SIZES, more=st.integers(0, 3), max_examples=20)
def test_the_mask_is_not_modified(solution, seed, T, more):
    q, k, v, words = normal(seed, (), T, T + more)
    mask = some(seed, (T, T + more))
    words += f", causal=True, {shown(mask)}"

    with check.unchanged(given=words, q=q, k=k, v=v, mask=mask):
        solution.attention(q, k, v, mask=mask, causal=True)


@rule("R7")
@given(seed=SEEDS, T=SIZES, more=st.integers(0, 3), causal=st.booleans(), max_examples=20)
def test_a_mask_may_be_strided_or_read_only(solution, seed, T, more, causal):
    S = T + more
    q, k, v, words = normal(seed, (2,), T, S)
    mask = some(seed, (T, S))
    want = solution.attention(q, k, v, mask=mask, causal=causal)
    words += f", causal={causal}, {shown(mask)}"
    twice = np.repeat(mask, 2, axis=1)
    ways = {
        "in Fortran order": np.asfortranarray(mask),
        "as every other column of another": twice[:, ::2],
        "broadcast to (2, T, S), read-only": np.broadcast_to(mask, (2, T, S)),
    }

    for way, same in ways.items():
        out = solution.attention(q, k, v, mask=same, causal=causal)

        check.close(out, want, what="output", given=f"{words}, the mask {way}", n=4 + S)


MISFITS = [
    ("mask of 0 and 1 as integers", np.ones((3, 5), np.int64)),
    ("mask of 0.0 and 1.0", np.ones((3, 5))),
    ("mask (5, 3) for T=3, S=5", np.ones((5, 3), bool)),
    ("mask (3, 4) for T=3, S=5", np.ones((3, 4), bool)),
    ("mask (2, 3, 5) for q (3, 4)", np.ones((2, 3, 5), bool)),
    ("mask (1, 1, 3, 5) for q (3, 4)", np.ones((1, 1, 3, 5), bool)),
]


@rule("R9")
def test_a_mask_that_does_not_fit_is_named(solution):
    q, k, v, _ = normal(1)

    for words, mask in MISFITS:
        check.raises(
            ValueError,
            solution.attention,
            q,
            k,
            v,
            mask=mask,
            what="attention",
            given=words,
            names="mask",
        )


@rule("R10")
@given(seed=SEEDS, T=SIZES, S=MANY, dtype=DTYPES)
def test_masked_output_has_the_right_values(solution, reference, seed, T, S, dtype):
    q, k, v, words = normal(seed, (2, 3), T, S, dtype)
    mask = some(seed, (2, 1, T, S))

    out = solution.attention(q, k, v, mask=mask, scale=0.8)

    want = reference.attention(q, k, v, mask=mask, scale=0.8)
    words += f", scale=0.8, for sequence 0 {shown(mask[0, 0])}, for 1 {shown(mask[1, 0])}"
    check.close(out, want, what="output", given=words, n=4 + S)
