"""Stage 4: the same outputs without a key or a value of any cached token."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from . import common
from .common import FEW, LENGTHS, PIECES, SEEDS, SIZES

WAYS = st.lists(st.booleans(), min_size=2, max_size=5)
SIZE = {"d_model": 32, "qk_rope_head_dim": 8, "q_lora_rank": 24}
# Here the products of the naive way take the time, not the memory that it asks for.
LONG = {
    **SIZE,
    "n_heads": 8,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "kv_lora_rank": 128,
}
# And here its keys are larger than all else, copies of the parameters included.
WIDE = {
    **SIZE,
    "n_heads": 16,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "kv_lora_rank": 32,
}


@rule("R20")
@given(size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_absorbed_and_naive_give_the_same(solution, reference, size, lengths, T, seed):
    common.check_ragged(solution.extend_absorbed, reference, seed, size, lengths, T)


@rule("R20")
@given(max_examples=15, size=SIZES, ways=WAYS, seed=SEEDS)
def test_both_ways_take_turns_on_one_cache(solution, reference, size, ways, seed):
    params, x, words = common.make(reference, seed, size, 2, len(ways))
    want = reference.forward(params, x)
    cache = reference.init_cache(params, batch=2, capacity=len(ways))
    words += f", token by token, {['absorbed' if way else 'naive' for way in ways]}"

    for t, absorbed in enumerate(ways):
        extend = solution.extend_absorbed if absorbed else solution.extend_naive
        saw = extend(params, x[:, t : t + 1], cache, np.full(2, t))
        how = f"{words}, token {t}"
        check.close(saw, want[:, t : t + 1], what="outputs", given=how, n=common.N)


@rule("R20")
def test_new_weights_in_the_same_arrays_are_used(solution, reference):
    params, x, words = common.make(reference, 11, {}, 2, 4)
    cache = reference.init_cache(params, batch=2, capacity=4)
    solution.extend_absorbed(params, x, cache, np.array([0, 0]))
    for w in params.values():
        w[...] = w[..., ::-1].copy()
    want = reference.forward(params, x)

    saw = solution.extend_absorbed(params, x, cache, np.array([0, 0]))

    how = f"{words}, once more after the last axis of each parameter was reversed in place"
    check.close(saw, want, what="outputs", given=how, n=common.N)


@rule("R13")
@given(max_examples=20, size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_absorbed_writes_the_same_slots(solution, reference, size, lengths, T, seed):
    common.check_slots(solution, solution.extend_absorbed, reference, seed, size, lengths, T)


@rule("R14")
@given(max_examples=20, size=SIZES, B=st.sampled_from([2, 1, 3]), pieces=PIECES, seed=SEEDS)
def test_absorbed_takes_pieces_as_well(solution, reference, size, B, pieces, seed):
    common.check_pieces(solution.extend_absorbed, reference, seed, size, B, pieces)


@rule("R14")
def test_absorbed_takes_long_pieces_as_well(solution, reference):
    common.check_pieces(solution.extend_absorbed, reference, 6, {}, 2, [200, 1, 90, 1])


@rule("R15")
def test_absorbed_rows_may_end_thousands_of_slots_apart(solution, reference):
    common.check_far(solution.extend_absorbed, reference)


@rule("R16")
@given(max_examples=15, size=SIZES, seed=SEEDS)
def test_absorbed_knows_nothing_but_what_the_cache_holds(solution, reference, size, seed):
    common.check_no_memory(solution.extend_absorbed, reference, seed, size)


@rule("R17")
@given(
    size=SIZES, lengths=LENGTHS, fill=st.sampled_from([100.0, np.nan, np.inf, -1e300]), seed=SEEDS
)
def test_empty_slots_are_not_attended_to(solution, reference, size, lengths, fill, seed):
    common.check_empty_slots(solution.extend_absorbed, reference, seed, size, lengths, fill)


@rule("R11")
@given(max_examples=20, size=SIZES, prompt=FEW, seed=SEEDS)
def test_absorbed_scores_do_not_overflow(solution, reference, size, prompt, seed):
    common.check_large_scores(solution.extend_absorbed, reference, seed, size, prompt)


@rule("R11")
def test_absorbed_scores_may_be_large_late_in_a_long_row(solution, reference):
    common.check_large_scores(solution.extend_absorbed, reference, 1, {}, 300)


@rule("R18")
def test_absorbed_refuses_what_does_not_fit(solution, reference):
    common.check_refused_caches(solution.extend_absorbed, "extend_absorbed", reference)


@rule("R19")
def test_absorbed_names_inputs_and_lengths_that_do_not_fit(solution, reference):
    common.check_refused_inputs(solution.extend_absorbed, "extend_absorbed", reference)


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_absorbed_has_the_precision_of_the_parameters(solution, reference, dtype, seed):
    common.check_dtype(solution.extend_absorbed, reference, seed, dtype)


@rule("R6")
def test_absorbed_changes_nothing_but_the_cache(solution, reference):
    common.check_arguments(solution.extend_absorbed, reference)


@rule("R5")
def test_absorbed_takes_any_layout(solution, reference):
    common.check_layouts(solution.extend_absorbed, reference)


@rule("R5")
def test_absorbed_takes_lengths_of_any_integer_dtype(solution, reference):
    common.check_integers(solution.extend_absorbed, "extend_absorbed", reference)


@rule("R21")
def test_absorbed_decode_beats_expansion(race, reference):
    def drawn(rng):
        return inputs(reference, rng, LONG, rows=1, slots=384)

    race(decode, inputs=drawn, verify=verifier(reference))


@rule("R22")
def test_absorbed_decode_makes_no_keys(peak, reference):
    def drawn(rng):
        return inputs(reference, rng, WIDE, rows=2, slots=256)

    peak(decode, inputs=drawn, verify=verifier(reference))


@rule("R23")
@given(
    size=SIZES,
    n_new=st.sampled_from([3, 1, 2, 100]),
    n_held=st.sampled_from([7, 0, 1, 5000]),
)
def test_multiply_adds_are_counted_exactly(solution, reference, size, n_new, n_held):
    params, _, _ = common.make(reference, 0, size, 1)

    saw = solution.multiply_adds(params, n_new=n_new, n_held=n_held)

    want = reference.multiply_adds(params, n_new=n_new, n_held=n_held)
    how = f"{common.named(0, size)}, n_new {n_new}, n_held {n_held}"
    check.equal(saw, want, what="multiply-adds", given=how)


@rule("R6")
def test_a_count_stays_as_it_was(solution, reference):
    params, _, words = common.make(reference, 0, {}, 1)
    saw = solution.multiply_adds(params, n_new=1, n_held=9)
    solution.multiply_adds(params, n_new=2, n_held=0)

    want = reference.multiply_adds(params, n_new=1, n_held=9)
    how = f"{words}, n_new 1, n_held 9, after a call with n_new 2, n_held 0"
    check.equal(saw, want, what="the first multiply-adds", given=how)


def inputs(reference, rng, size, *, rows, slots):
    """Rows with one free slot each, and a token for it."""
    params = reference.init_params(rng, **size)
    cache = rng.standard_normal((rows, slots, size["kv_lora_rank"] + size["qk_rope_head_dim"]))
    x = rng.standard_normal((rows, 1, size["d_model"]))
    return params, x, cache, np.full(rows, slots - 1)


def decode(impl, params, x, kv_cache, lengths):
    return impl.extend_absorbed(params, x, kv_cache, lengths)


def verifier(reference):
    def verify(out, params, x, kv_cache, lengths):
        want = reference.extend_naive(params, x, kv_cache.copy(), lengths)
        L, H, _ = params["w_uk"].shape
        how = f"{H} heads, latents of {L}, one token after {lengths[0]} in each of {len(x)} rows"
        check.close(out, want, what="outputs", given=how, n=common.N + len(kv_cache[0]))

    return verify
