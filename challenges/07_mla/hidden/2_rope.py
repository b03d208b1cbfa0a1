"""Stage 2: the shared rotated key, and attention from scratch."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import SEEDS, SIZES, SMALL, TOKENS, N, make


@rule("R7")
@given(
    size=SIZES,
    B=st.sampled_from([2, 1, 3]),
    T=TOKENS,
    start=st.sampled_from([7, 0, 150_000]),
    form=st.sampled_from(["(T,)", "(B, T)", "(B, 1)", "()"]),
    seed=SEEDS,
)
def test_one_rotated_key_serves_all_heads(solution, reference, size, B, T, start, form, seed):
    params, x, words = make(reference, seed, size, B, T)
    forms = {"(T,)": np.arange(T), "(B, 1)": 5 * np.arange(B)[:, None], "()": np.array(2)}
    forms["(B, T)"] = forms["(T,)"] + forms["(B, 1)"]
    positions = start + np.asarray(forms[form])

    saw = solution.shared_key(params, x, positions)

    want = reference.shared_key(params, x, positions)
    how = f"{words}, positions {positions.tolist()}"
    check.close(saw, want, what="keys", given=how, n=N)


@rule("R7")
def test_the_key_of_a_token_without_other_axes(solution, reference):
    params, x, words = make(reference, 4, {}, 1, 3)

    saw = solution.shared_key(params, x[0], np.array([9]))
    one = solution.shared_key(params, x[0, 0], np.array(9))

    want = reference.shared_key(params, x, np.full((1, 3), 9))
    check.close(saw, want[0], what="keys", given=f"{words}, x[0] at positions [9]", n=N)
    check.close(one, want[0, 0], what="the key", given=f"{words}, x[0, 0] at position 9", n=N)


@rule("R8")
@given(size=SIZES, B=st.sampled_from([2, 1, 3]), T=TOKENS, seed=SEEDS)
def test_forward_attends_with_both_parts_of_the_keys(solution, reference, size, B, T, seed):
    params, x, words = make(reference, seed, size, B, T)

    saw = solution.forward(params, x)

    check.close(saw, reference.forward(params, x), what="outputs", given=words, n=N)


@rule("R8")
def test_forward_attends_over_hundreds_of_tokens(solution, reference):
    params, x, words = make(reference, 5, {"n_heads": 7}, 5, 150)

    saw = solution.forward(params, x)

    check.close(saw, reference.forward(params, x), what="outputs", given=words, n=N + 150)


@rule("R9")
@given(size=SIZES, T=TOKENS, at=st.integers(1, 8), seed=SEEDS)
def test_a_token_changes_no_output_before_its_own(solution, reference, size, T, at, seed):
    T, at = max(T, 2), min(at, max(T, 2) - 1)
    params, x, words = make(reference, seed, size, 2, T)
    other = x.copy()
    other[:, at:] = 3 * other[:, at:, ::-1] + 1

    before = solution.forward(params, x)
    after = solution.forward(params, other)

    check.array(before, shape=x.shape, dtype=np.float64, what="outputs", given=words)
    how = f"{words}, then other tokens from position {at} on"
    check.close(after[:, :at], before[:, :at], what="earlier outputs", given=how, n=N)


@rule("R10")
@given(size=SIZES, T=st.sampled_from([5, 3, 4, 9]), seed=SEEDS)
def test_without_the_shared_key_order_does_not_matter(solution, reference, size, T, seed):
    params, x, words = make(reference, seed, size, 2, T)
    params["w_kr"] = 0 * params["w_kr"]
    other = x.copy()
    other[:, : T - 1] = other[:, T - 2 :: -1]

    saw = solution.forward(params, x)
    turned = solution.forward(params, other)

    check.array(saw, shape=x.shape, dtype=np.float64, what="outputs", given=words)
    how = f"{words}, w_kr all 0, then all tokens but the last the other way round"
    check.close(turned[:, -1], saw[:, -1], what="the last output", given=how, n=N)


@rule("R11")
@given(size=SIZES, T=TOKENS, seed=SEEDS)
def test_scores_in_the_thousands_do_not_overflow(solution, reference, size, T, seed):
    params, x, words = make(reference, seed, size, 2, T)
    params["w_uq"] = params["w_uq"] * 4000.0
    want = reference.forward(params, x)

    saw = solution.forward(params, x)

    # A score of 10,000 is known to 10,000 rounding errors, and so is what its weight multiplies.
    check.close(saw, want, what="outputs", given=f"{words}, w_uq times 4000", n=N, scale=1e4)


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_attention_has_the_precision_of_the_parameters(solution, reference, dtype, seed):
    params, x, words = make(reference, seed, {**SMALL, "dtype": dtype}, 2, 4)
    positions = np.arange(4)

    key = solution.shared_key(params, x, positions)
    out = solution.forward(params, x)

    want = reference.shared_key(params, x, positions)
    check.close(key, want, what="keys at positions 0 to 3", given=words, n=30)
    check.close(out, reference.forward(params, x), what="outputs", given=words, n=40)


@rule("R5")
def test_inputs_of_attention_may_have_any_layout(solution, reference):
    params, x, words = make(reference, 2, {}, 3, 4)
    positions = np.arange(12).reshape(3, 4) * 5
    want = reference.forward(params, x)
    key = reference.shared_key(params, x, positions)

    for other in (np.asfortranarray(x), x.repeat(2, axis=1)[:, ::2], x[::-1][::-1]):
        how = f"{words} of strides {other.strides}"
        check.close(solution.forward(params, other), want, what="outputs", given=how, n=N)
        kinds = [positions.astype(kind) for kind in (np.int8, np.uint16, np.int32, np.uint64)]
        for at in (positions, np.asfortranarray(positions), *kinds):
            saw = solution.shared_key(params, other, at)
            what = f"keys at {at.tolist()} as {at.dtype}"
            check.close(saw, key, what=what, given=how, n=N)


@rule("R6")
def test_attention_changes_no_argument(solution, reference):
    params, x, words = make(reference, 5, {}, 2, 4)
    positions = np.arange(4)

    with check.unchanged(given=f"shared_key, {words}", params=params, x=x, positions=positions):
        solution.shared_key(params, x, positions)
    with check.unchanged(given=f"forward, {words}", params=params, x=x):
        solution.forward(params, x)


@rule("R6")
def test_keys_and_outputs_stay_as_they_were(solution, reference):
    params, x, words = make(reference, 6, {}, 2, 4)
    positions = np.arange(4)

    key, out = solution.shared_key(params, x, positions), solution.forward(params, x)
    solution.shared_key(params, 2 * x[::-1], positions)
    solution.forward(params, 2 * x[::-1])

    how = f"{words}, after a second call with 2 * x[::-1]"
    want = reference.shared_key(params, x, positions)
    check.close(key, want, what="the first keys", given=how, n=N)
    check.close(out, reference.forward(params, x), what="the first outputs", given=how, n=N)
