"""Stage 4: the same outputs without a key or a value of any cached token."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from . import common
from .common import FEW, LENGTHS, PIECES, SEEDS, SIZES

WAYS = st.lists(st.booleans(), min_size=2, max_size=5)
WIDE = {
    "d_model": 32,
    "n_heads": 16,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 8,
    "v_head_dim": 64,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
}


@rule("R20")
@given(size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_absorbed_and_naive_give_the_same(solution, reference, size, lengths, T, seed):
    params, _, _ = common.make(reference, seed, size, 1)
    rows, cache, x = common.ragged(reference, params, seed, lengths, 1, T)
    want = np.stack([reference.forward(params, row[None])[0, -T:] for row in rows])

    saw = solution.extend_absorbed(params, x, cache, np.array(lengths))

    how = f"{common.named(seed, size)}, rows that hold {lengths} tokens, then {T} more each"
    check.close(saw, want, what="outputs", given=how, n=common.N)


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


@rule("R13")
@given(max_examples=20, size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_absorbed_writes_the_same_slots(solution, reference, size, lengths, T, seed):
    common.check_slots(solution, solution.extend_absorbed, reference, seed, size, lengths, T)


@rule("R14")
@given(max_examples=20, size=SIZES, B=st.sampled_from([2, 1, 3]), pieces=PIECES, seed=SEEDS)
def test_absorbed_takes_pieces_as_well(solution, reference, size, B, pieces, seed):
    common.check_pieces(solution.extend_absorbed, reference, seed, size, B, pieces)


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


@rule("R18")
def test_absorbed_refuses_what_does_not_fit(solution, reference):
    refuse = common.check_refusals(solution.extend_absorbed, "extend_absorbed", reference)

    refuse("kv_cache", lengths=(0, 4))
    refuse("kv_cache", cache=(3, 6, 12))
    refuse("kv_cache", cache=(2, 6, 13))


@rule("R19")
def test_absorbed_names_inputs_and_lengths_that_do_not_fit(solution, reference):
    _, x, _ = common.make(reference, 3, {}, 2, 3)
    refuse = common.check_refusals(solution.extend_absorbed, "extend_absorbed", reference)

    refuse("x", x=x[:, :0])
    refuse("x", x=x[:, :, :19])
    refuse("lengths", lengths=(0, -1))
    refuse("lengths", lengths=(0,))


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_absorbed_has_the_precision_of_the_parameters(solution, reference, dtype, seed):
    common.check_dtype(solution.extend_absorbed, reference, seed, dtype)


@rule("R6")
def test_absorbed_changes_nothing_but_the_cache(solution, reference):
    common.check_arguments(solution.extend_absorbed, reference)


@rule("R21")
def test_absorbed_decode_beats_expansion(race, reference):
    race(decode, inputs=lambda rng: inputs(reference, rng), verify=verifier(reference))


@rule("R22")
def test_absorbed_decode_makes_no_keys(peak, reference):
    peak(decode, inputs=lambda rng: inputs(reference, rng), verify=verifier(reference))


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


def inputs(reference, rng):
    """Two rows with one free slot each, and a token for it."""
    params = reference.init_params(rng, **WIDE)
    cache = rng.standard_normal((2, 256, 40))
    return params, rng.standard_normal((2, 1, 32)), cache, np.full(2, 255)


def decode(impl, params, x, kv_cache, lengths):
    return impl.extend_absorbed(params, x, kv_cache, lengths)


def verifier(reference):
    def verify(out, params, x, kv_cache, lengths):
        want = reference.extend_naive(params, x, kv_cache.copy(), lengths)
        how = f"{WIDE}, one token after {lengths[0]} in each of two rows"
        check.close(out, want, what="outputs", given=how, n=common.N + len(kv_cache[0]))

    return verify
