"""Stage 3: repetition, frequency and presence penalties."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

SEEDS = st.integers(0, 999)
DTYPES = st.sampled_from(["float64", "float32"])
# A failure is shown with the first of these that fails: in one row or one column, much looks alike.
VOCABULARY = st.sampled_from([7, 5, 3, 12, 1])
# Tokens of prompt and output of each row: shorter than V, longer, and none.
LENGTHS = st.sampled_from(
    [
        ([3, 5, 2], [6, 2, 4]),
        ([2], [9]),
        ([0, 4], [3, 0]),
        ([1, 0, 2, 0], [0, 0, 5, 1]),
        ([0, 0], [0, 0]),
        ([20, 1], [1, 20]),
        ([2, 0], [400, 3]),
    ]
)


def make(seed, V, lengths, dtype="float64", *, masked=False):
    """Logits, prompts and outputs, and the words that reproduce them."""
    rng, (prompts, outputs) = np.random.default_rng(seed), lengths
    B = len(prompts)
    logits = rng.normal(0, 3, (B, V))
    words = f"seed {seed}, logits {(B, V)}"
    if masked:
        logits[rng.random((B, V)) < 0.3] = -np.inf
        logits[np.arange(B), rng.integers(0, V, B)] = 0.0
        words += ", masked"
    rows = [[rng.integers(0, V, n) for n in part] for part in (prompts, outputs)]
    words += f", {dtype}, prompts of {prompts} and outputs of {outputs} ids"
    return logits.astype(dtype), *rows, words


def column(value, B):
    return np.broadcast_to(np.asarray(value, np.float64), B)[:, None]


def expected(logits, prompts, outputs, repetition=1.0, frequency=0.0, presence=0.0):
    """The formula of the spec, token by token."""
    B, V = logits.shape
    count = np.array([[(ids == j).sum() for j in range(V)] for ids in outputs])
    before = np.array([[(ids == j).any() for j in range(V)] for ids in prompts])
    x, r = logits.astype(np.float64), column(repetition, B)
    x = np.where(before | (count > 0), np.where(x > 0, x / r, x * r), x)
    x = x - count * column(frequency, B) - (count > 0) * column(presence, B)
    return x.astype(logits.dtype)


@rule("R20")
@given(
    V=VOCABULARY,
    lengths=LENGTHS,
    penalty=st.sampled_from([1.5, 1.2, 0.7, 4.0]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_each_token_that_has_occurred_is_less_likely(solution, V, lengths, penalty, dtype, seed):
    logits, prompts, outputs, words = make(seed, V, lengths, dtype)
    want = expected(logits, prompts, outputs, repetition=penalty)

    saw = solution.apply_penalties(logits, prompts, outputs, repetition_penalty=penalty)

    words += f", repetition_penalty {penalty}"
    check.close(saw, want, what="logits", given=words, n=2)


@rule("R21")
@given(
    V=VOCABULARY,
    lengths=LENGTHS,
    which=st.sampled_from(["frequency", "presence"]),
    penalty=st.sampled_from([0.5, 2.0, -1.0]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_frequency_is_taken_off_each_time_and_presence_once(
    solution, V, lengths, which, penalty, dtype, seed
):
    logits, prompts, outputs, words = make(seed, V, lengths, dtype)
    want = expected(logits, prompts, outputs, **{which: penalty})

    saw = solution.apply_penalties(logits, prompts, outputs, **{f"{which}_penalty": penalty})

    words += f", {which}_penalty {penalty}"
    check.close(saw, want, what="logits", given=words, n=4)


@rule("R21")
@given(V=VOCABULARY, lengths=LENGTHS, dtype=DTYPES, seed=SEEDS)
def test_the_two_come_after_the_repetition_penalty(solution, V, lengths, dtype, seed):
    logits, prompts, outputs, words = make(seed, V, lengths, dtype)
    want = expected(logits, prompts, outputs, 1.7, 0.6, 0.9)

    saw = solution.apply_penalties(
        logits,
        prompts,
        outputs,
        repetition_penalty=1.7,
        frequency_penalty=0.6,
        presence_penalty=0.9,
    )

    words += ", repetition 1.7, frequency 0.6, presence 0.9"
    check.close(saw, want, what="logits", given=words, n=4)


@rule("R22")
@given(V=VOCABULARY, lengths=LENGTHS, dtype=DTYPES, masked=st.booleans(), seed=SEEDS)
def test_what_has_not_occurred_keeps_its_logit(solution, V, lengths, dtype, masked, seed):
    logits, prompts, outputs, words = make(seed, V, lengths, dtype, masked=masked)
    for name, settings in (
        ("no penalties", {}),
        ("penalties of 1, 0 and 0", dict.fromkeys(("frequency_penalty", "presence_penalty"), 0.0)),
        ("repetition_penalty 1.3", {"repetition_penalty": 1.3}),
        ("frequency 0.7, presence 0.2", {"frequency_penalty": 0.7, "presence_penalty": 0.2}),
    ):
        saw = solution.apply_penalties(logits, prompts, outputs, **settings)
        how = f"{words}, {name}"
        check.array(saw, shape=logits.shape, dtype=dtype, what="logits", given=how, finite=False)
        rows = outputs if "presence_penalty" in settings else map(np.append, prompts, outputs)
        free = np.array([~np.isin(np.arange(V), ids) for ids in rows])
        free |= np.isneginf(logits) | (not any(settings.values()))
        right = np.where(free, logits, saw)
        check.equal(saw, right, what="logits that no penalty concerns", given=how, moved=True)


@rule("R9")
@given(V=VOCABULARY, lengths=LENGTHS, dtype=DTYPES, masked=st.booleans(), seed=SEEDS)
def test_each_row_has_its_own_penalties(solution, V, lengths, dtype, masked, seed):
    logits, prompts, outputs, words = make(seed, V, lengths, dtype, masked=masked)
    B = len(logits)
    r, f, p = (np.resize(x, B) for x in ([1.5, 1.0, 0.8], [0.0, 0.6, -0.3], [0.4, 0.0, 1.1]))
    want = expected(logits, prompts, outputs, r, f, p)

    saw = solution.apply_penalties(
        logits, prompts, outputs, repetition_penalty=r, frequency_penalty=f, presence_penalty=p
    )

    words += f", repetition {r.tolist()}, frequency {f.tolist()}, presence {p.tolist()}"
    check.close(saw, want, what="logits", given=words, n=4, finite=False)


@rule("R9")
@given(max_examples=10, dtype=DTYPES, seed=SEEDS)
def test_as_many_rows_as_ids_do_not_turn_penalties(solution, dtype, seed):
    logits, prompts, outputs, words = make(seed, 3, ([3, 2, 4], [5, 3, 2]), dtype)
    r, f, p = np.array([1.5, 1.1, 0.7]), np.array([0.1, 0.5, 0.9]), np.array([1.0, 0.4, 0.2])
    want = expected(logits, prompts, outputs, r, f, p)

    saw = solution.apply_penalties(
        logits, prompts, outputs, repetition_penalty=r, frequency_penalty=f, presence_penalty=p
    )

    words += f", repetition {r.tolist()}, frequency {f.tolist()}, presence {p.tolist()}"
    check.close(saw, want, what="logits", given=words, n=4)


@rule("R10")
def test_penalties_keep_the_dtype_of_the_logits(solution):
    for dtype in ("float32", "float64"):
        logits, prompts, outputs, words = make(1, 5, ([2, 3], [4, 0]), dtype)
        for value in (1.5, 2, np.float64(1.5), np.array([1.5, 0.5]), np.array([2, 1])):
            settings = dict.fromkeys(
                ("repetition_penalty", "frequency_penalty", "presence_penalty"), value
            )
            saw = solution.apply_penalties(logits, prompts, outputs, **settings)
            how = f"{words}, all three penalties {value!r}"
            check.array(saw, shape=(2, 5), dtype=dtype, what="logits", given=how)


@rule("R11")
@given(max_examples=10, dtype=DTYPES, integers=st.sampled_from(["int64", "int32"]), seed=SEEDS)
def test_penalties_change_no_argument_and_hand_out_none(solution, dtype, integers, seed):
    logits, prompts, outputs, words = make(seed, 5, ([3, 0, 2], [4, 1, 0]), dtype)
    prompts, outputs = ([ids.astype(integers) for ids in rows] for rows in (prompts, outputs))
    r = np.array([1.5, 1.0, 0.5])
    want = expected(logits, prompts, outputs, r, 0.5, 0.2)
    words += f", ids {integers}"

    with check.unchanged(given=words, logits=logits, prompts=prompts, outputs=outputs, r=r):
        saw = solution.apply_penalties(
            logits,
            prompts,
            outputs,
            repetition_penalty=r,
            frequency_penalty=0.5,
            presence_penalty=0.2,
        )
    check.close(saw, want, what="logits", given=words, n=4)
    saw = solution.apply_penalties(logits, prompts, outputs)
    check.fresh(saw, what="the result without penalties", given=words, logits=logits)
    logits.flags.writeable = False
    saw = solution.apply_penalties(np.asfortranarray(logits), tuple(prompts), tuple(outputs))
    check.equal(saw, logits, what="logits in Fortran order", given=words, moved=True)


@rule("R12")
def test_what_does_not_fit_is_named(solution):
    logits = np.random.default_rng(0).normal(0, 3, (2, 4))
    good, none = [np.array([0, 3]), np.array([1])], [np.array([], np.int64)] * 2
    bad_rows = ([], good[:1], [*good, good[0]], [good[0], np.array([4])], [np.array([-1]), good[1]])

    def refuse(names, prompts, outputs, **settings):
        rows = [[np.asarray(ids).tolist() for ids in part] for part in (prompts, outputs)]
        shown = {name: np.asarray(value).tolist() for name, value in settings.items()}
        words = f"logits (2, 4), prompts {rows[0]}, outputs {rows[1]}, {shown}"
        how = {"what": "apply_penalties", "names": names, "given": words, **settings}
        check.raises(ValueError, solution.apply_penalties, logits, prompts, outputs, **how)

    for rows in bad_rows:
        refuse("prompts", rows, good)
        refuse("outputs", none, rows)
    for value in (0.0, -1.0, np.nan, np.inf, np.array([1.0, 0.0]), np.ones(4), np.ones((2, 1))):
        refuse("repetition_penalty", good, good, repetition_penalty=value)
    for name in ("frequency_penalty", "presence_penalty"):
        for value in (np.nan, np.inf, np.array([0.1, np.nan]), np.ones(4), np.ones((2, 1))):
            refuse(name, good, good, **{name: value})
    for row in ([np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [-np.inf] * 4):
        words = f"logits of zeros, and {row}"
        how = {"what": "apply_penalties", "names": "logits", "given": words}
        rows = np.array([[0.0] * 4, row])
        check.raises(ValueError, solution.apply_penalties, rows, good, good, **how)


@rule("R23")
def test_penalties_hold_few_arrays(peak):
    B, V, T = 4, 2048, 256

    def inputs(rng):
        ids = [[rng.integers(0, V, T) for _ in range(B)] for _ in range(2)]
        return rng.normal(0, 3, (B, V)), *ids

    def run(impl, logits, prompts, outputs):
        return impl.apply_penalties(
            logits,
            prompts,
            outputs,
            repetition_penalty=1.2,
            frequency_penalty=0.3,
            presence_penalty=0.1,
        )

    def verify(saw, logits, prompts, outputs):
        count = np.stack([np.bincount(ids, minlength=V) for ids in outputs])
        seen = (np.stack([np.bincount(ids, minlength=V) for ids in prompts]) + count) > 0
        want = np.where(seen, np.where(logits > 0, logits / 1.2, logits * 1.2), logits)
        want = want - count * 0.3 - (count > 0) * 0.1
        check.close(saw, want, what="logits", given=f"logits {(B, V)}, 2 · {T} ids a row", n=4)

    peak(run, inputs=inputs, verify=verify)
