"""Stage 2: top-k, top-p and min-p."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from(["float64", "float32"])
# A failure is shown with the first of these that fails: in one row or one column, much looks alike.
ROWS = st.sampled_from([3, 1, 2, 5])
VOCABULARY = st.sampled_from([8, 5, 3, 2, 1, 30])
NEAR = 1e-4  # so far from every sum is a top_p, so far a min_p from every ratio


def make(seed, B, V, dtype="float64", *, masked=False, tied=False):
    """Random logits and the words that reproduce them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (B, V))
    words = f"seed {seed}, logits {(B, V)}"
    if tied:
        logits, words = logits.round(), words + ", tied"
    if masked:
        logits[rng.random((B, V)) < 0.3] = -np.inf
        logits[np.arange(B), rng.integers(0, V, B)] = 0.0
        words += ", masked"
    return logits.astype(dtype), f"{words}, {dtype}"


def larger(logits):
    """For each token: how many logits of its row are larger, and their probability together."""
    above = logits[:, None, :] > logits[:, :, None]  # (B, token, other)
    probs = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    return above.sum(axis=2), (above * probs[:, None, :]).sum(axis=2), probs


def clear_of(values, setting, way):
    """The setting, moved up or down until no value is so near that rounding would decide."""
    while (np.abs(values - setting) < NEAR).any():
        setting += 3 * NEAR * way
    return float(setting)


def top_p_of(ahead, setting):
    return clear_of(ahead, setting, -1)


def min_p_of(ratio, setting):
    return clear_of(ratio, setting, 1)


def ratios(logits):
    """Each probability over the largest of its row."""
    probs = larger(logits)[2]
    return probs / probs.max(axis=1, keepdims=True)


def kept(saw, logits, words):
    """Where a filter has left something."""
    check.array(saw, shape=logits.shape, dtype=logits.dtype, what="logits", given=words, finite=0)
    return saw > -np.inf


@rule("R13")
@given(
    B=ROWS,
    V=VOCABULARY,
    k=st.sampled_from([2, 3, 1, 5, 7]),
    dtype=DTYPES,
    scale=st.sampled_from([1.0, 500.0, 1e-20]),
    seed=SEEDS,
)
def test_top_k_keeps_those_with_fewer_than_k_above(solution, B, V, k, dtype, scale, seed):
    logits, words = make(seed, B, V, dtype)
    logits *= np.array(scale, dtype)  # where probabilities are 0, or all alike, logits still differ
    words += f", times {scale}" * (scale != 1)
    want = larger(logits)[0] < k

    saw = solution.apply_top_k(logits, k)

    words += f", top_k {k}"
    check.equal(kept(saw, logits, words), want, what="what is kept", given=words)


@rule("R13")
@given(B=ROWS, V=VOCABULARY, dtype=DTYPES, more=st.sampled_from([0, 1, 1000]), seed=SEEDS)
def test_top_k_of_0_or_of_v_and_more_keeps_all(solution, B, V, dtype, more, seed):
    logits, words = make(seed, B, V, dtype)
    for k in (0, V + more):
        saw = solution.apply_top_k(logits, k)
        how = f"{words}, top_k {k}"
        check.equal(saw, logits, what="logits", given=how, moved=True)


@rule("R13")
@given(B=ROWS, V=VOCABULARY, k=st.sampled_from([2, 3, 1, 5, 7]), dtype=DTYPES, seed=SEEDS)
def test_top_k_finds_no_more_than_there_is(solution, B, V, k, dtype, seed):
    logits, words = make(seed, B, V, dtype, masked=True)
    want = (larger(logits)[0] < k) & (logits > -np.inf)

    saw = solution.apply_top_k(logits, k)

    words += f", top_k {k}"
    check.equal(kept(saw, logits, words), want, what="what is kept", given=words)


@rule("R14")
@given(
    B=ROWS,
    V=VOCABULARY,
    p=st.sampled_from([0.9, 0.5, 0.7, 0.1, 0.99]),
    dtype=DTYPES,
    masked=st.booleans(),
    seed=SEEDS,
)
def test_top_p_keeps_those_with_less_than_p_above(solution, B, V, p, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, masked=masked)
    ahead = larger(logits)[1]
    p = top_p_of(ahead, p)
    want = (ahead < p) & (logits > -np.inf)

    saw = solution.apply_top_p(logits, p)

    words += f", top_p {p}"
    check.equal(kept(saw, logits, words), want, what="what is kept", given=words)


def far(logits):
    """The logits with a number added that changes no probability, and has no exponential."""
    return [logits + np.array(shift, logits.dtype) for shift in (2000, -2000)]


@rule("R14")
@given(max_examples=15, B=ROWS, V=VOCABULARY, dtype=DTYPES, masked=st.booleans(), seed=SEEDS)
def test_top_p_does_not_depend_on_a_number_added_to_all(solution, B, V, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, masked=masked)
    ahead = np.stack([larger(x)[1] for x in far(logits)])
    p = top_p_of(ahead, 0.8)
    want = (ahead < p) & (logits > -np.inf)

    words += f", + 2000 and then - 2000, top_p {p}"
    saw = np.stack([kept(solution.apply_top_p(x, p), x, words) for x in far(logits)])

    check.equal(saw, want, what="what is kept", given=words)


@rule("R14")
@given(max_examples=20, B=ROWS, V=VOCABULARY, dtype=DTYPES, seed=SEEDS)
def test_a_tiny_top_p_keeps_the_largest(solution, B, V, dtype, seed):
    logits, words = make(seed, B, V, dtype)
    want = logits == logits.max(axis=1, keepdims=True)

    for p in (1e-9, 1e-30):
        saw = solution.apply_top_p(logits, p)
        how = f"{words}, top_p {p}"
        check.equal(kept(saw, logits, how), want, what="what is kept", given=how)


@rule("R14")
@given(max_examples=20, B=ROWS, V=VOCABULARY, dtype=DTYPES, seed=SEEDS)
def test_top_p_of_1_keeps_what_has_a_probability_of_0(solution, B, V, dtype, seed):
    logits, words = make(seed, B, V, dtype, masked=True)
    logits *= np.array(500, dtype)

    saw = solution.apply_top_p(logits, 1.0)

    check.equal(saw, logits, what="logits", given=f"{words}, times 500, top_p 1.0", moved=True)


@rule("R14")
def test_top_p_adds_up_a_large_vocabulary(solution):
    """Thousands of small probabilities: a cumulative sum that stalls would keep far too many."""
    V = 30_000
    logits = np.random.default_rng(2).normal(0, 0.5, (2, V)).astype(np.float32)
    probs = np.exp(logits.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    for p in (0.3, 0.9):
        words = f"np.random.default_rng(2).normal(0, 0.5, (2, {V})), float32, top_p {p}"
        saw = kept(solution.apply_top_p(logits, p), logits, words)
        off = float(np.abs((probs * saw).sum(axis=1) - p).max())
        told = f"what is kept has a probability that is {off:.1g} away from top_p"
        check.that(off < 1e-3, saw=told, given=words, value=saw.sum(axis=1))


@rule("R15")
@given(
    B=ROWS,
    V=VOCABULARY,
    p=st.sampled_from([0.05, 0.2, 0.01, 0.5, 0.9]),
    dtype=DTYPES,
    masked=st.booleans(),
    seed=SEEDS,
)
def test_min_p_keeps_a_share_of_the_largest_or_more(solution, B, V, p, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, masked=masked)
    ratio = ratios(logits)
    p = min_p_of(ratio, p)

    saw = solution.apply_min_p(logits, p)

    words += f", min_p {p}"
    check.equal(kept(saw, logits, words), ratio >= p, what="what is kept", given=words)


@rule("R15")
@given(max_examples=15, B=ROWS, V=VOCABULARY, dtype=DTYPES, masked=st.booleans(), seed=SEEDS)
def test_min_p_does_not_depend_on_a_number_added_to_all(solution, B, V, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, masked=masked)
    ratio = np.stack([ratios(x) for x in far(logits)])
    p = min_p_of(ratio, 0.1)

    words += f", + 2000 and then - 2000, min_p {p}"
    saw = np.stack([kept(solution.apply_min_p(x, p), x, words) for x in far(logits)])

    check.equal(saw, ratio >= p, what="what is kept", given=words)


@rule("R15")
@given(max_examples=20, B=ROWS, V=VOCABULARY, dtype=DTYPES, seed=SEEDS)
def test_min_p_of_1_keeps_the_largest_and_of_0_all(solution, B, V, dtype, seed):
    logits, words = make(seed, B, V, dtype, tied=True, masked=True)
    logits *= np.array(500, dtype)
    words += ", times 500"

    saw = solution.apply_min_p(logits, 0.0)
    check.equal(saw, logits, what="logits", given=f"{words}, min_p 0.0", moved=True)

    saw = solution.apply_min_p(logits, 1.0)
    want = logits == logits.max(axis=1, keepdims=True)
    check.equal(kept(saw, logits, words), want, what="what min_p 1.0 keeps", given=words)


@rule("R16")
@given(B=ROWS, V=st.sampled_from([8, 12, 3]), k=st.integers(1, 6), dtype=DTYPES, seed=SEEDS)
def test_equal_logits_pass_top_k_together(solution, B, V, k, dtype, seed):
    logits, words = make(seed, B, V, dtype, tied=True)
    want = larger(logits)[0] < k

    saw = solution.apply_top_k(logits, k)

    words += f", top_k {k}"
    check.equal(kept(saw, logits, words), want, what="what is kept", given=words)


@rule("R16")
@given(
    B=ROWS,
    V=st.sampled_from([8, 12, 3]),
    p=st.sampled_from([0.5, 0.9, 0.7, 0.1]),
    dtype=DTYPES,
    masked=st.booleans(),
    seed=SEEDS,
)
def test_equal_logits_pass_top_p_together(solution, B, V, p, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, tied=True, masked=masked)
    ahead = larger(logits)[1]
    p = top_p_of(ahead, p)
    want = (ahead < p) & (logits > -np.inf)

    saw = solution.apply_top_p(logits, p)

    words += f", top_p {p}"
    check.equal(kept(saw, logits, words), want, what="what is kept", given=words)


@rule("R16")
@given(max_examples=20, V=st.sampled_from([6, 4, 9]), dtype=DTYPES, seed=SEEDS)
def test_a_row_of_equal_logits_stays_whole(solution, V, dtype, seed):
    level = np.random.default_rng(seed).normal(0, 3, (2, 1))
    logits = np.repeat(level, V, axis=1).astype(dtype)
    words = f"seed {seed}, two rows of {V} equal logits rng.normal(0, 3, (2, 1)), {dtype}"
    for name, saw in (
        ("top_k 1", solution.apply_top_k(logits, 1)),
        ("top_p 0.1", solution.apply_top_p(logits, 0.1)),
        ("min_p 1.0", solution.apply_min_p(logits, 1.0)),
        ("min_p 0.5", solution.apply_min_p(logits, 0.5)),
    ):
        check.equal(saw, logits, what=f"logits after {name}", given=words, moved=True)


@rule("R17")
@given(
    B=ROWS,
    V=VOCABULARY,
    keep=st.sampled_from([3, 2, 1, 5, 50]),
    dtype=DTYPES,
    tied=st.booleans(),
    masked=st.booleans(),
    settings=st.sampled_from([(0.4, 0.6), (0.97, 0.01)]),
    scale=st.sampled_from([1.0, 500.0]),
    seed=SEEDS,
)
def test_the_largest_few_stay_whatever_p_says(
    solution, B, V, keep, dtype, tied, masked, settings, scale, seed
):
    logits, words = make(seed, B, V, dtype, tied=tied, masked=masked)
    logits *= np.array(scale, dtype)  # where probabilities are 0, logits still differ
    words += f", times {scale}" * (scale != 1)
    count, ahead, _ = larger(logits)
    ratio, few, allowed = ratios(logits), count < keep, logits > -np.inf
    p, q = top_p_of(ahead, settings[0]), min_p_of(ratio, settings[1])

    saw = solution.apply_top_p(logits, p, min_tokens_to_keep=keep)
    how = f"{words}, top_p {p}, min_tokens_to_keep {keep}"
    want = ((ahead < p) | few) & allowed
    check.equal(kept(saw, logits, how), want, what="what is kept", given=how)

    saw = solution.apply_min_p(logits, q, min_tokens_to_keep=keep)
    how = f"{words}, min_p {q}, min_tokens_to_keep {keep}"
    want = ((ratio >= q) | few) & allowed
    check.equal(kept(saw, logits, how), want, what="what is kept", given=how)


def filters(solution, k, p, q):
    """Each filter with its name and setting, to be called with logits."""
    return {
        f"top_k {k}": lambda logits: solution.apply_top_k(logits, k),
        f"top_p {p}": lambda logits: solution.apply_top_p(logits, p),
        f"min_p {q}": lambda logits: solution.apply_min_p(logits, q),
    }


@rule("R18")
@given(B=ROWS, V=VOCABULARY, dtype=DTYPES, masked=st.booleans(), seed=SEEDS)
def test_what_is_kept_is_not_touched(solution, B, V, dtype, masked, seed):
    logits, words = make(seed, B, V, dtype, masked=masked)
    for name, call in filters(solution, 3, 0.83, 0.07).items():
        saw = call(logits)
        how = f"{words}, {name}"
        want = np.where(kept(saw, logits, how), logits, -np.inf).astype(dtype)
        check.equal(saw, want, what="logits that are kept", given=how, moved=True)


@rule("R18")
@given(max_examples=20, V=st.sampled_from([8, 5, 30]), dtype=DTYPES, seed=SEEDS)
def test_what_is_removed_has_minus_infinity(solution, V, dtype, seed):
    logits, words = make(seed, 3, V, dtype)
    for name, call in filters(solution, 1, 1e-9, 1.0).items():
        saw = call(logits)
        how = f"{words}, {name}"
        want = np.where(logits == logits.max(axis=1, keepdims=True), logits, -np.inf).astype(dtype)
        check.equal(saw, want, what="logits", given=how, moved=True)


@rule("R9")
@given(
    B=ROWS,
    V=VOCABULARY,
    dtype=DTYPES,
    tied=st.booleans(),
    integers=st.sampled_from(["int64", "int32"]),
    seed=SEEDS,
)
def test_each_row_has_its_own_filter(solution, reference, B, V, dtype, tied, integers, seed):
    logits, words = make(seed, B, V, dtype, tied=tied)
    ahead, ratio = larger(logits)[1], ratios(logits)
    k = np.resize([2, 0, 1, V, V + 7, 3], B).astype(integers)
    p = np.array([top_p_of(ahead, x) for x in np.resize([0.6, 0.97, 0.2], B)])
    q = np.array([min_p_of(ratio, x) for x in np.resize([0.3, 0.9, 0.02], B)])
    p[1:2], q[2:3] = 1.0, 0.0
    for name, values in (("top_k", k), ("top_p", p), ("min_p", q)):
        want = getattr(reference, f"apply_{name}")(logits, values)
        saw = getattr(solution, f"apply_{name}")(logits, values)
        how = f"{words}, {name} {values.tolist()}"
        check.equal(saw, want, what="logits", given=how, moved=True)


@rule("R9")
@given(max_examples=20, B=st.sampled_from([4, 3, 6]), dtype=DTYPES, seed=SEEDS)
def test_as_many_rows_as_ids_do_not_turn_the_filter(solution, reference, B, dtype, seed):
    logits, words = make(seed, B, B, dtype)
    ahead, ratio = larger(logits)[1], ratios(logits)
    p = np.array([top_p_of(ahead, x) for x in np.linspace(0.3, 0.95, B)])
    q = np.array([min_p_of(ratio, x) for x in np.geomspace(0.9, 0.01, B)])
    for name, values in (("top_k", np.arange(B) % 3 + 1), ("top_p", p), ("min_p", q)):
        want = getattr(reference, f"apply_{name}")(logits, values)
        saw = getattr(solution, f"apply_{name}")(logits, values)
        how = f"{words}, {name} {values.tolist()}"
        check.equal(saw, want, what="logits", given=how, moved=True)


@rule("R10")
def test_filters_keep_the_dtype_of_the_logits(solution):
    for dtype in ("float32", "float64"):
        logits, words = make(4, 3, 6, dtype)
        one = np.array([0.5, 0.9, 1.0])
        for k, p in ((2, 0.5), (np.int32(2), np.float64(0.5)), (np.array([1, 2, 0]), one)):
            for name, call in filters(solution, k, p, p).items():
                kept(call(logits), logits, f"{words}, {name} as {np.asarray(p).dtype}")


@rule("R11")
def test_filters_change_no_argument_and_hand_out_none(solution):
    logits, words = make(6, 3, 6, masked=True)
    k, p, q = np.array([1, 0, 9]), np.array([0.5, 1.0, 0.9]), np.array([0.0, 1.0, 0.1])

    with check.unchanged(given=words, logits=logits, top_k=k, top_p=p, min_p=q):
        for call in filters(solution, k, p, q).values():
            call(logits)
    for settings in ((2, 0.5, 0.5), (0, 1.0, 0.0), (6, 1.0, 0.0), (9, 1, 0)):
        for name, call in filters(solution, *settings).items():
            check.fresh(call(logits), what=f"the result of {name}", given=words, logits=logits)


@rule("R11")
@given(max_examples=6, dtype=DTYPES, seed=SEEDS)
def test_filters_take_read_only_arrays_of_any_layout(solution, reference, dtype, seed):
    logits, words = make(seed, 3, 8, dtype)
    want = [call(logits) for call in filters(reference, 2, 1e-9, 1.0).values()]

    for other in (np.asfortranarray(logits), logits.repeat(2, axis=1)[:, ::2], logits.copy()):
        other.flags.writeable = False
        for (name, call), right in zip(filters(solution, 2, 1e-9, 1.0).items(), want, strict=True):
            how = f"{words}, {name}, read-only, strides {other.strides}"
            check.equal(call(other), right, what="logits", given=how, moved=True)


@rule("R12")
def test_settings_of_filters_out_of_range_are_named(solution):
    logits = np.random.default_rng(0).normal(0, 3, (3, 4))
    shapes = (np.ones(4, int), np.ones(1, int), np.ones((3, 1), int))
    bad = {
        "top_k": (-1, np.array([1, 2, -1]), *shapes),
        "top_p": (0.0, -0.1, 1.1, np.nan, np.array([0.5, 0.0, 0.5]), *shapes),
        "min_p": (-0.1, 1.1, np.nan, np.array([0.5, 0.0, 1.5]), *shapes),
    }
    for name, values in bad.items():
        for value in values:
            words = f"logits (3, 4), {name} {np.asarray(value).tolist()}"
            how = {"what": f"apply_{name}", "names": name, "given": words}
            check.raises(ValueError, getattr(solution, f"apply_{name}"), logits, value, **how)
    for name in ("top_p", "min_p"):
        for keep in (0, -1):
            call = getattr(solution, f"apply_{name}")
            words = f"logits (3, 4), {name} 0.5, min_tokens_to_keep {keep}"
            how = {"what": f"apply_{name}", "names": "min_tokens_to_keep", "given": words}
            check.raises(ValueError, call, logits, 0.5, min_tokens_to_keep=keep, **how)


@rule("R12")
def test_filters_refuse_rows_that_hold_no_distribution(solution):
    for row in ([np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]):
        logits = np.array([[0.0, 1.0], row])
        for settings in ((1, 0.5, 0.5), (0, 1.0, 0.0)):
            for name, call in filters(solution, *settings).items():
                how = {"what": name, "names": "logits", "given": f"logits {logits.tolist()}"}
                check.raises(ValueError, call, logits, **how)


@rule("R19")
def test_top_k_beats_a_full_sort(race):
    def inputs(rng):
        logits = rng.normal(0, 3, (8, 16_384)).astype(np.float32)
        return logits, rng.integers(1, 51, 8)

    def verify(saw, logits, top_k):
        kth = np.sort(logits, axis=1)[np.arange(8), -top_k]
        want = np.where(logits >= kth[:, None], logits, -np.inf).astype(np.float32)
        words = f"8 rows of 16,384 logits, top_k {top_k.tolist()}"
        check.equal(saw, want, what="logits", given=words, moved=True)

    race(lambda impl, logits, top_k: impl.apply_top_k(logits, top_k), inputs=inputs, verify=verify)
