"""Stage 1: the decoder and greedy generation, everything computed from scratch."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

N = 600  # additions behind a logit: at most three layers of 180, then the last norm and the head
SIZES = st.sampled_from(
    [
        {},
        {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1},
        {"n_heads": 3, "n_kv_heads": 1, "head_dim": 2},
        {"n_layers": 3, "n_heads": 6, "n_kv_heads": 3, "head_dim": 4},
        {"n_heads": 2, "n_kv_heads": 2, "head_dim": 10, "d_model": 7, "d_ff": 5},
    ]
)
SEEDS = st.integers(0, 999)
# A failure is shown with the first of these that fails: in two tokens many mistakes look alike.
TOKENS = st.sampled_from([5, 1, 2, 3, 8, 9])


def make(reference, seed, size, shape):
    """Parameters, ids of that shape, and the words that reproduce both."""
    rng = np.random.default_rng(seed)
    params = reference.init_params(rng, **size)
    ids = rng.integers(0, len(params["embed"]), shape)
    words = [f"seed {seed}", *(f"{name}={n}" for name, n in size.items()), f"ids {shape}"]
    return params, ids, ", ".join(words)


@rule("R1")
@given(size=SIZES, B=st.integers(1, 3), T=TOKENS, seed=SEEDS)
def test_forward_gives_the_logits_of_the_decoder(solution, reference, size, B, T, seed):
    params, ids, words = make(reference, seed, size, (B, T))

    saw = solution.forward(params, ids)

    check.close(saw, reference.forward(params, ids), what="logits", given=words, n=N)


@rule("R1")
def test_ids_may_be_of_any_integer_dtype_and_layout(solution, reference):
    params, ids, words = make(reference, 1, {}, (2, 10))
    want = reference.forward(params, ids)

    for other in (ids.astype(np.int32), np.asfortranarray(ids), ids.repeat(2, axis=1)[:, ::2]):
        saw = solution.forward(params, other)
        how = f"{words} as {other.dtype}, strides {other.strides}"
        check.close(saw, want, what="logits", given=how, n=N)


@rule("R2")
@given(size=SIZES, T=TOKENS, at=st.integers(1, 8), seed=SEEDS)
def test_a_token_changes_no_logits_before_its_own(solution, reference, size, T, at, seed):
    T, at = max(T, 2), min(at, max(T, 2) - 1)
    params, ids, words = make(reference, seed, size, (2, T))
    other = ids.copy()
    other[:, at:] = (other[:, at:] + 1) % len(params["embed"])

    before = solution.forward(params, ids)
    after = solution.forward(params, other)

    check.array(before, shape=(2, T, len(params["embed"])), dtype=np.float64, what="logits")
    words += f", then ids[:, {at}:] + 1"
    check.close(after[:, :at], before[:, :at], what="earlier logits", given=words, n=N)


@rule("R3")
@given(size=SIZES, T=TOKENS, seed=SEEDS)
def test_scores_in_the_thousands_do_not_overflow(solution, reference, size, T, seed):
    params, ids, words = make(reference, seed, size, (1, T))
    for layer in params["layers"]:
        layer["wq"] = layer["wq"] * 4000.0
    want = reference.forward(params, ids)

    saw = solution.forward(params, ids)

    # A score of 10,000 is known to 10,000 rounding errors, and so is what its weight multiplies.
    words += ", every wq times 4000"
    check.close(saw, want, what="logits", given=words, n=N, scale=1e4)


@rule("R4")
@given(
    size=SIZES,
    B=st.integers(1, 3),
    T=TOKENS,
    new=st.sampled_from([6, 2, 1, 0]),
    dtype=st.sampled_from(["int64", "int32"]),
    seed=SEEDS,
)
def test_each_new_token_has_the_largest_logit(solution, reference, size, B, T, new, dtype, seed):
    params, ids, words = make(reference, seed, size, (B, T))
    want = reference.generate_naive(params, ids, new)

    saw = solution.generate_naive(params, ids.astype(dtype), new)

    check.equal(saw, want, what="tokens", given=f"{words} as {dtype}, {new} new tokens")


@rule("R4")
@given(max_examples=5, B=st.integers(1, 2), T=TOKENS, seed=SEEDS)
def test_of_equal_logits_the_lowest_id_wins(solution, reference, B, T, seed):
    params, ids, words = make(reference, seed, {}, (B, T))
    params["head"] = 0 * params["head"]

    saw = solution.generate_naive(params, ids, 3)

    check.equal(saw, np.zeros((B, 3), np.int64), what="tokens", given=f"{words}, head all 0")


@rule("R5")
def test_computing_from_scratch_changes_no_argument(solution, reference):
    params, ids, words = make(reference, 5, {}, (2, 6))

    with check.unchanged(given=f"forward, {words}", ids=ids, params=params):
        solution.forward(params, ids)
    with check.unchanged(given=f"generate_naive, {words}", ids=ids, params=params):
        solution.generate_naive(params, ids, 3)
