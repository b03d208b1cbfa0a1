"""Stage 3: a cache of latents and shared keys, read by making keys and values again."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from . import common
from .common import FEW, LENGTHS, PIECES, SEEDS, SIZES


@rule("R12")
@given(
    size=SIZES,
    batch=st.sampled_from([3, 1]),
    capacity=st.sampled_from([7, 1, 16]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_slot_is_a_latent_and_a_key_wide(solution, reference, size, batch, capacity, dtype):
    size = {**size, "dtype": dtype}
    params, _, _ = common.make(reference, 0, size, 1)

    saw = solution.init_cache(params, batch=batch, capacity=capacity)

    shape = (batch, capacity, params["w_dkv"].shape[1] + params["w_kr"].shape[1])
    how = f"{common.named(0, size)}, batch {batch}, capacity {capacity}"
    check.array(saw, shape=shape, dtype=dtype, what="the cache", given=how, finite=False)
    low, high = np.lib.array_utils.byte_bounds(saw)
    said = f"its {saw.nbytes} bytes lie among {high - low}"
    check.that(high - low == saw.nbytes, saw=said, given=how, value=high - low)


@rule("R12")
def test_caches_do_not_share_memory(solution, reference):
    params, _, words = common.make(reference, 0, {}, 1)
    one = solution.init_cache(params, batch=1, capacity=3)
    other = solution.init_cache(params, batch=1, capacity=3)
    one[...], other[...] = 1, 2

    how = f"{words}, two caches, the first filled with 1 and the second with 2"
    check.equal(one, np.ones((1, 3, 12)), what="the first", given=how, moved=True)


@rule("R13")
@given(size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_new_slots_hold_normed_latents_and_rotated_keys(
    solution, reference, size, lengths, T, seed
):
    common.check_slots(solution, solution.extend_naive, reference, seed, size, lengths, T)


@rule("R14")
@given(size=SIZES, B=st.sampled_from([2, 1, 3]), pieces=PIECES, seed=SEEDS)
def test_any_pieces_give_the_outputs_of_forward(solution, reference, size, B, pieces, seed):
    common.check_pieces(solution.extend_naive, reference, seed, size, B, pieces)


@rule("R14")
@given(max_examples=10, size=SIZES, B=st.sampled_from([2, 1]), prompt=FEW, seed=SEEDS)
def test_a_cache_of_ones_own_serves_as_well(solution, reference, size, B, prompt, seed):
    params, x, words = common.make(reference, seed, size, B, prompt + 1)
    want = reference.forward(params, x)
    cache = solution.init_cache(params, batch=B, capacity=prompt + 1)

    solution.extend_naive(params, x[:, :prompt], cache, np.zeros(B, np.int64))
    saw = solution.extend_naive(params, x[:, prompt:], cache, np.full(B, prompt))

    how = f"{words}, the last token after {prompt} in a cache of init_cache"
    check.close(saw, want[:, prompt:], what="outputs", given=how, n=common.N)


@rule("R15")
@given(size=SIZES, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_each_row_goes_on_where_it_ended(solution, reference, size, lengths, T, seed):
    common.check_ragged(solution.extend_naive, reference, seed, size, lengths, T)


@rule("R14")
def test_a_long_prompt_may_come_in_pieces(solution, reference):
    common.check_pieces(solution.extend_naive, reference, 6, {}, 2, [200, 1, 90, 1])


@rule("R15")
def test_rows_may_end_thousands_of_slots_apart(solution, reference):
    common.check_far(solution.extend_naive, reference)


@rule("R16")
@given(max_examples=15, size=SIZES, seed=SEEDS)
def test_nothing_is_known_but_what_the_cache_holds(solution, reference, size, seed):
    common.check_no_memory(solution.extend_naive, reference, seed, size)


@rule("R17")
@given(
    size=SIZES, lengths=LENGTHS, fill=st.sampled_from([100.0, np.nan, np.inf, -1e300]), seed=SEEDS
)
def test_empty_slots_take_no_part(solution, reference, size, lengths, fill, seed):
    common.check_empty_slots(solution.extend_naive, reference, seed, size, lengths, fill)


@rule("R11")
@given(max_examples=20, size=SIZES, prompt=FEW, seed=SEEDS)
def test_large_scores_do_not_overflow_with_a_cache(solution, reference, size, prompt, seed):
    common.check_large_scores(solution.extend_naive, reference, seed, size, prompt)


@rule("R11")
def test_large_scores_may_come_late_in_a_long_row(solution, reference):
    common.check_large_scores(solution.extend_naive, reference, 1, {}, 300)


@rule("R18")
def test_a_cache_that_does_not_fit_is_refused_and_unchanged(solution, reference):
    common.check_refused_caches(solution.extend_naive, "extend_naive", reference)


@rule("R18")
def test_the_last_slot_can_be_filled(solution, reference):
    params, x, words = common.make(reference, 3, {}, 2, 6)
    want = reference.forward(params, x)
    cache = reference.init_cache(params, batch=2, capacity=6)

    saw = [solution.extend_naive(params, x[:, :5], cache, np.zeros(2, np.int64))]
    saw.append(solution.extend_naive(params, x[:, 5:], cache, np.full(2, 5)))

    how = f"{words}, 5 tokens and 1 in 6 slots"
    check.close(np.concatenate(saw, 1), want, what="outputs", given=how, n=common.N)


@rule("R19")
def test_inputs_and_lengths_that_do_not_fit_are_named(solution, reference):
    common.check_refused_inputs(solution.extend_naive, "extend_naive", reference)


@rule("R4")
@given(dtype=st.sampled_from([np.float32, np.float64]), seed=SEEDS)
def test_decoding_has_the_precision_of_the_parameters(solution, reference, dtype, seed):
    common.check_dtype(solution.extend_naive, reference, seed, dtype)


@rule("R6")
def test_extending_changes_nothing_but_the_cache(solution, reference):
    common.check_arguments(solution.extend_naive, reference)


@rule("R5")
def test_cache_and_inputs_may_have_any_layout(solution, reference):
    common.check_layouts(solution.extend_naive, reference)


@rule("R5")
def test_lengths_may_be_of_any_integer_dtype(solution, reference):
    common.check_integers(solution.extend_naive, "extend_naive", reference)


@rule("R12")
def test_the_cache_holds_a_latent_and_a_key(count, reference):
    def inputs(rng):
        sizes = {"qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
        return (reference.init_params(rng, n_heads=16, kv_lora_rank=32, **sizes),)

    def run(impl, params):
        return impl.init_cache(params, batch=2, capacity=64).nbytes // (2 * 64)

    def verify(size, params):
        how = "16 heads, Dn 16, Dr 8, Dv 16, L 32, batch 2, capacity 64"
        check.that(size > 0, saw=f"a token takes {size} bytes", given=how)

    count(run, inputs=inputs, verify=verify)
