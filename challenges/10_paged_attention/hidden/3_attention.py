"""Stage 3: keys and values are written to slots, and attention reads them through the tables."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

SIZES = st.sampled_from(
    [
        {},
        {"n_heads": 1, "n_kv_heads": 1, "block_size": 1},
        {"n_heads": 6, "n_kv_heads": 2, "head_dim": 5, "block_size": 3},
        {"n_heads": 3, "n_kv_heads": 3, "head_dim": 2, "block_size": 16},
        {"n_heads": 8, "n_kv_heads": 1, "head_dim": 16, "block_size": 5},
    ]
)
# A failure is shown with the first of these that fails: in one token many mistakes look alike.
LENGTHS = st.lists(st.sampled_from([7, 1, 4, 5, 8, 17, 300]), min_size=1, max_size=4)
SEEDS = st.integers(0, 999)
VIEWS = st.sampled_from(["interleaved", "heads first", "whole"])
INTEGERS = st.sampled_from(["int64", "int32", "the smallest dtype"])


def make(reference, seed, seq_lens, **kwargs):
    """A random batch, the lengths as an array, and the words that reproduce both."""
    batch = reference.random_batch(np.random.default_rng(seed), seq_lens, **kwargs)
    shown = "".join(
        f", {name}={np.dtype(x).name if name == 'dtype' else x}" for name, x in kwargs.items()
    )
    return batch, np.array(seq_lens), f"random_batch(default_rng({seed}), {seq_lens}{shown})"


def as_integers(dtype, *arrays):
    """The same numbers in another dtype; the smallest has no sign, and no room for a product."""
    smallest = [np.min_scalar_type(x.max()) for x in arrays]
    wanted = smallest if dtype == "the smallest dtype" else [dtype] * len(arrays)
    cast = [x.astype(each) for x, each in zip(arrays, wanted, strict=True)]
    return cast, f"integers as {', '.join(x.dtype.name for x in cast)}"


def additions(seq_lens, query):
    """The longest chain of additions behind an output: a dot product, then a sum over S keys."""
    return max(seq_lens) + query.shape[-1]


def contiguous(query, keys, values, query_lens):
    """Attention of each sequence over its tokens as they lie in one piece, in float64."""
    out, end = np.zeros(query.shape), np.cumsum(query_lens)
    for k, v, T, stop in zip(keys, values, query_lens, end, strict=True):
        (S, G, D), H = k.shape, query.shape[1]
        future = np.arange(S) > np.arange(S - T, S)[:, None]  # (T, S)
        for h in range(H):
            q, g = query[stop - T : stop, h].astype(np.float64), h * G // H
            scores = np.where(future, -np.inf, q @ k[:, g].T.astype(np.float64) / D**0.5)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[stop - T : stop, h] = weights @ v[:, g]
    return out.astype(query.dtype)


def laid_out(view, key_cache, value_cache):
    """The same two caches as views of one array, as engines keep them."""
    both = np.stack([key_cache, value_cache])  # (2, P, K, G, D)
    if view == "interleaved":
        both = np.ascontiguousarray(both.swapaxes(0, 1)).swapaxes(0, 1)
    elif view == "heads first":
        both = np.ascontiguousarray(both.swapaxes(2, 3)).swapaxes(2, 3)
    return both[0], both[1]


@rule("R15")
@given(
    view=VIEWS,
    size=SIZES,
    P=st.sampled_from([5, 1, 2, 40]),
    share=st.sampled_from([0.5, 0.0, 1.0]),
    dtype=st.sampled_from(["int64", "int32", "uint16"]),
    seed=SEEDS,
)
def test_tokens_are_written_to_their_slots_and_nowhere_else(
    solution, view, size, P, share, dtype, seed
):
    rng, K = np.random.default_rng(seed), size.get("block_size", 4)
    G, D = size.get("n_kv_heads", 2), size.get("head_dim", 8)
    caches = laid_out(view, *rng.standard_normal((2, P, K, G, D)))
    n = round(share * P * K) if P < 40 else 6
    slots = rng.permutation(P * K)[:n].astype(dtype)
    keys, values = rng.standard_normal((2, len(slots), G, D))
    want = [cache.copy() for cache in caches]
    for i, slot in enumerate(slots.tolist()):
        want[0][slot // K, slot % K], want[1][slot // K, slot % K] = keys[i], values[i]

    solution.reshape_and_cache(keys, values, *caches, slots)

    how = f"{P} blocks of {K}, {G} heads of {D}, slots {slots.tolist()} as {dtype}, {view}"
    for name, cache, right in zip(("key_cache", "value_cache"), caches, want, strict=True):
        check.equal(cache, right, what=name, given=how, moved=True)


@rule("R16")
@given(
    view=VIEWS,
    pattern=st.lists(st.booleans(), min_size=1, max_size=6),
    first=st.sampled_from([0, 11]),
    seed=SEEDS,
)
def test_a_padding_token_is_written_nowhere(solution, view, pattern, first, seed):
    rng = np.random.default_rng(seed)
    caches = laid_out(view, *rng.standard_normal((2, 3, 4, 2, 8)))
    # The last slot belongs to the first token, or stays as it is.
    order = [first, *(1 + rng.permutation(10))]
    slots = np.where(pattern, -1, order[: len(pattern)])
    keys, values = rng.standard_normal((2, len(slots), 2, 8))
    want = [cache.copy() for cache in caches]
    for i, slot in enumerate(slots.tolist()):
        if slot >= 0:
            want[0][slot // 4, slot % 4], want[1][slot // 4, slot % 4] = keys[i], values[i]

    solution.reshape_and_cache(keys, values, *caches, slots)

    how = f"3 blocks of 4, slots {slots.tolist()}, {view}"
    for name, cache, right in zip(("key_cache", "value_cache"), caches, want, strict=True):
        check.equal(cache, right, what=name, given=how, moved=True)


@rule("R17")
@given(size=SIZES, seq_lens=LENGTHS, dtype=INTEGERS, seed=SEEDS)
def test_decoding_through_the_tables_is_attention_in_one_piece(
    solution, reference, size, seq_lens, dtype, seed
):
    # As many key heads as query heads: which of them go together is a rule of its own.
    size = size | {"n_kv_heads": size.get("n_heads", 4)}
    batch, lengths, words = make(reference, seed, seq_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, [1] * len(seq_lens))
    (tables, lengths), dtypes = as_integers(dtype, tables, lengths)

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)

    how = f"{words}, {dtypes}"
    check.close(saw, want, what="output", given=how, n=additions(seq_lens, query))


@rule("R17")
@given(max_examples=20, view=VIEWS, seq_lens=LENGTHS, seed=SEEDS)
def test_caches_may_be_views_of_any_layout(solution, reference, view, seq_lens, seed):
    batch, lengths, words = make(reference, seed, seq_lens, n_kv_heads=4)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, [1] * len(seq_lens))
    strided = query.repeat(2, axis=0)[::2]

    saw = solution.paged_attention(
        strided, *laid_out(view, key_cache, value_cache), np.asfortranarray(tables), lengths
    )

    how = f"{words}, caches {view}"
    check.close(saw, want, what="output", given=how, n=additions(seq_lens, query))


@rule("R17")
@given(
    max_examples=8,
    K=st.sampled_from([600, 8]),
    seq_lens=st.sampled_from([[7], [600, 601], [2100]]),
    seed=SEEDS,
)
def test_blocks_may_be_large_and_sequences_long(solution, reference, K, seq_lens, seed):
    batch, lengths, words = make(reference, seed, seq_lens, n_kv_heads=4, block_size=K)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, [1] * len(seq_lens))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)

    check.close(saw, want, what="output", given=words, n=additions(seq_lens, query))


@rule("R17")
@given(max_examples=5, seq_lens=LENGTHS, seed=SEEDS)
def test_a_later_call_reads_what_the_caches_hold_by_then(solution, reference, seq_lens, seed):
    batch, lengths, words = make(reference, seed, seq_lens, n_kv_heads=4)
    query, key_cache, value_cache, tables, keys, values = batch
    n = additions(seq_lens, query)

    for call, sign in (("first", 1.0), ("second", -1.0)):
        value_cache[:] = sign * np.abs(value_cache)
        for v in values:
            v[:] = sign * np.abs(v)
        want = contiguous(query, keys, values, [1] * len(seq_lens))
        saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)
        how = f"{words}, values {'above' if sign > 0 else 'below'} 0, the {call} call"
        check.close(saw, want, what="output", given=how, n=n)


@rule("R18")
@given(heads=st.sampled_from([(4, 2), (6, 3), (6, 2), (8, 1)]), seq_lens=LENGTHS, seed=SEEDS)
def test_query_heads_of_a_group_share_a_key_head(solution, reference, heads, seq_lens, seed):
    size = {"n_heads": heads[0], "n_kv_heads": heads[1]}
    batch, lengths, words = make(reference, seed, seq_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, [1] * len(seq_lens))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)

    check.close(saw, want, what="output", given=words, n=additions(seq_lens, query))


@rule("R19")
@given(
    size=SIZES,
    pairs=st.lists(
        st.sampled_from([(7, 3), (1, 1), (5, 5), (9, 1), (17, 10), (300, 100), (270, 4)]),
        min_size=1,
        max_size=3,
    ),
    dtype=INTEGERS,
    seed=SEEDS,
)
def test_a_query_sees_the_tokens_up_to_its_own(solution, reference, size, pairs, dtype, seed):
    seq_lens, query_lens = [n for n, _ in pairs], [n for _, n in pairs]
    batch, lengths, words = make(reference, seed, seq_lens, query_lens=query_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, query_lens)
    (tables, lengths, asked), dtypes = as_integers(dtype, tables, lengths, np.array(query_lens))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths, query_lens=asked)

    how = f"{words}, {dtypes}"
    check.close(saw, want, what="output", given=how, n=additions(seq_lens, query))


@rule("R20")
@given(
    size=SIZES,
    seq_lens=LENGTHS,
    pad=st.sampled_from([-1, 0, 10**6, -(10**6)]),
    junk=st.sampled_from([np.nan, np.inf, 1e300]),
    T=st.sampled_from([1, 3]),
    dtype=INTEGERS,
    seed=SEEDS,
)
def test_padding_and_slots_without_a_token_take_no_part(
    solution, reference, size, seq_lens, pad, junk, T, dtype, seed
):
    query_lens = [min(T, n) for n in seq_lens]
    batch, lengths, words = make(reference, seed, seq_lens, query_lens=query_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    K = key_cache.shape[1]
    want = contiguous(query, keys, values, query_lens)
    empty = np.ones(key_cache.shape[:2], bool)
    for row, n in zip(tables, seq_lens, strict=True):
        empty[row[np.arange(n) // K], np.arange(n) % K] = False
        row[-(-n // K) :] = pad
    key_cache[empty] = value_cache[empty] = junk
    (lengths, asked), dtypes = as_integers(dtype, lengths, np.array(query_lens))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths, query_lens=asked)

    how = f"{words}, slots without a token hold {junk}, tables padded with {pad}"
    how += f", lengths: {dtypes}"
    check.close(saw, want, what="output", given=how, n=additions(seq_lens, query))


@rule("R21")
@given(size=SIZES, seq_lens=LENGTHS, T=st.sampled_from([1, 3]), seed=SEEDS)
def test_scores_in_the_thousands_do_not_overflow(solution, reference, size, seq_lens, T, seed):
    query_lens = [min(T, n) for n in seq_lens]
    batch, lengths, words = make(reference, seed, seq_lens, query_lens=query_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    query *= 4000.0
    want = contiguous(query, keys, values, query_lens)

    saw = solution.paged_attention(
        query, key_cache, value_cache, tables, lengths, query_lens=np.array(query_lens)
    )

    # A score of 10,000 is known to 10,000 rounding errors, and so is what its weight multiplies.
    n = additions(seq_lens, query)
    check.close(saw, want, what="output", given=f"{words}, query times 4000", n=n, scale=1e4)


@rule("R21")
@given(
    max_examples=10,
    sign=st.sampled_from([1.0, -1.0]),
    slope=st.sampled_from([5.0, 40.0]),
    T=st.sampled_from([1, 3]),
)
def test_scores_that_rise_or_fall_from_block_to_block_do_not_overflow(solution, sign, slope, T):
    S, K = 600, 4
    key_cache = np.zeros((S // K, K, 1, 1))
    value_cache = np.random.default_rng(0).standard_normal((S // K, K, 1, 1))
    tables = np.random.default_rng(1).permutation(S // K)[None]
    keys = sign * slope * np.arange(S, 2 * S).reshape(S, 1, 1)  # none of them near 0
    key_cache[tables[0]] = keys.reshape(S // K, K, 1, 1)
    values = value_cache[tables[0]].reshape(S, 1, 1)
    query = np.ones((T, 1, 1))

    saw = solution.paged_attention(
        query, key_cache, value_cache, tables, np.array([S]), query_lens=np.array([T])
    )

    how = f"600 tokens in blocks of 4, one head of width 1, {T} queries of 1"
    how += f", token t scores {sign * slope} · (600 + t)"
    want = contiguous(query, [keys], [values], [T])
    check.close(saw, want, what="output", given=how, n=S, scale=2 * slope * S)


@rule("R21")
@given(max_examples=6, K=st.sampled_from([4, 1, 16]), high=st.sampled_from([8e4, 1e3]), seed=SEEDS)
def test_later_tokens_take_no_part_however_high_they_score(solution, K, high, seed):
    rng, S, P = np.random.default_rng(seed), 8, 8 // min(K, 8)
    scores = np.repeat([-high, high], 4) + rng.standard_normal(S).round(2)
    key_cache, value_cache = np.zeros((2, P, K, 1, 1))
    values, query = rng.standard_normal((S, 1, 1)), np.ones((S, 1, 1))
    at = np.arange(S) // K, np.arange(S) % K
    key_cache[at], value_cache[at] = scores.reshape(S, 1, 1), values

    saw = solution.paged_attention(
        query, key_cache, value_cache, np.arange(P)[None], np.array([S]), query_lens=np.array([S])
    )

    how = f"8 tokens and 8 queries, blocks of {K}, one head of width 1"
    how += f", scores {scores.round(2).tolist()}"
    want = contiguous(query, [scores.reshape(S, 1, 1)], [values], [S])
    check.close(saw, want, what="output", given=how, n=S, scale=high)


@rule("R22")
@given(size=SIZES, seq_lens=LENGTHS, dtype=st.sampled_from(["float32", "float64"]), seed=SEEDS)
def test_the_output_has_the_dtype_of_the_query(solution, reference, size, seq_lens, dtype, seed):
    dtype = np.dtype(dtype).type
    batch, lengths, words = make(reference, seed, seq_lens, dtype=dtype, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    want = contiguous(query, keys, values, [1] * len(seq_lens))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)

    check.close(saw, want, what="output", given=words, n=additions(seq_lens, query))


@rule("R7")
def test_arguments_of_stage_3_that_do_not_fit_are_named(solution, reference):
    caches = np.random.default_rng(0).standard_normal((2, 2, 4, 1, 2))
    keys = np.ones((3, 1, 2))
    flat = ([0, 1], [0], [0, 1, 8], [-2, 0, 1], [5, 4, 3, 2])
    for slots in (*flat, [[0, 1, 2]], [[0], [1], [2]]):
        how = f"3 tokens, 2 blocks of 4, slot_mapping {slots}"
        what = {"what": "reshape_and_cache", "names": "slot_mapping", "given": how}
        args = (keys, keys, caches[0], caches[1], np.array(slots))
        with check.unchanged(given=how, key_cache=caches[0], value_cache=caches[1]):
            check.raises(ValueError, solution.reshape_and_cache, *args, **what)

    batch, _, words = make(reference, 0, [5, 2], query_lens=[2, 1])
    query, key_cache, value_cache, tables = batch[:4]  # rows of 3 entries, so 12 slots

    def refuse(name, seq_lens, query_lens, tables=tables, query=query):
        asked = None if query_lens is None else np.array(query_lens)
        how = f"{words}, of which {len(query)} queries, seq_lens {seq_lens}"
        how += f", query_lens {query_lens}, tables {tables.tolist()}"
        args = (query, key_cache, value_cache, tables, np.array(seq_lens))
        what = {"what": "paged_attention", "names": name, "given": how, "query_lens": asked}
        check.raises(ValueError, solution.paged_attention, *args, **what)

    refuse("seq_lens", [13, 2], [2, 1])
    refuse("seq_lens", [5, 0], None, query=query[:2])
    refuse("query_lens", [5, 2], [3, 1])
    refuse("query_lens", [5, 2], [1, 1])
    refuse("query_lens", [5, 2], [3, 0])
    refuse("query_lens", [5, 2], [4, -1])
    refuse("query_lens", [5, 1], [1, 2])
    refuse("query_lens", [5, 2], None)
    refuse("query_lens", [5, 2], None, query=np.concatenate([query, query[:1]]))
    refuse("query_lens", [5, 2], [2, 0], query=query[:2])
    for wrong in (-1, len(key_cache)):
        for at in ((0, 0), (0, 1), (1, 0)):
            other = tables.copy()
            other[at] = wrong
            refuse("block_tables", [5, 2], [2, 1], other)


@rule("R8")
@given(max_examples=10, size=SIZES, T=st.sampled_from([1, 3]), seed=SEEDS)
def test_attention_and_writing_change_no_other_argument(solution, reference, size, T, seed):
    seq_lens, query_lens = [7, 3], [T, T]
    batch, lengths, words = make(reference, seed, seq_lens, query_lens=query_lens, **size)
    query, key_cache, value_cache, tables, keys, values = batch
    asked, slots = np.array(query_lens), np.array([2, -1, 0, 1, 3, 4, 5])
    inputs = {"query": query, "key_cache": key_cache, "value_cache": value_cache}
    inputs |= {"block_tables": tables, "seq_lens": lengths, "query_lens": asked}

    with check.unchanged(given=f"paged_attention, {words}", **inputs):
        saw = solution.paged_attention(*list(inputs.values())[:5], query_lens=asked)
    check.fresh(saw, what="output", given=words, query=query, value_cache=value_cache)
    kept = saw.copy()
    solution.paged_attention(2.0 * query, key_cache, value_cache, tables, lengths, query_lens=asked)
    again = "the first output, looked at after a second call,"
    check.equal(saw, kept, what=again, given=words, moved=True)
    read = {"keys": keys[0], "values": values[0], "slot_mapping": slots}
    with check.unchanged(given=f"reshape_and_cache, {words}", **read):
        solution.reshape_and_cache(keys[0], values[0], key_cache, value_cache, slots)


@rule("R23")
def test_attention_gathers_little_at_a_time(peak, reference):
    seq_lens, size = [4096], {"block_size": 16, "head_dim": 32, "dtype": np.float32}

    def inputs(rng):
        return (*reference.random_batch(rng, seq_lens, **size), np.array(seq_lens))

    def run(impl, query, key_cache, value_cache, tables, keys, values, lengths):
        return impl.paged_attention(query, key_cache, value_cache, tables, lengths)

    def verify(saw, query, key_cache, value_cache, tables, keys, values, lengths):
        want = contiguous(query, keys, values, [1])
        how = "one query over 4,096 tokens in blocks of 16, float32"
        check.close(saw, want, what="output", given=how, n=additions(seq_lens, query))

    peak(run, inputs=inputs, verify=verify)


@rule("R24")
def test_a_ragged_batch_beats_gathering_it_padded(race, reference):
    size = {"block_size": 64, "n_heads": 4, "head_dim": 32, "dtype": np.float32}

    def inputs(rng):
        seq_lens = [4096, *rng.integers(16, 64, 31).tolist()]
        return (*reference.random_batch(rng, seq_lens, **size), np.array(seq_lens))

    def run(impl, query, key_cache, value_cache, tables, keys, values, lengths):
        return impl.paged_attention(query, key_cache, value_cache, tables, lengths)

    def verify(saw, query, key_cache, value_cache, tables, keys, values, lengths):
        want = contiguous(query, keys, values, [1] * 32)
        how = f"one query each over {lengths.tolist()} tokens in blocks of 64, float32"
        check.close(saw, want, what="output", given=how, n=additions(lengths, query))

    race(run, inputs=inputs, verify=verify)
