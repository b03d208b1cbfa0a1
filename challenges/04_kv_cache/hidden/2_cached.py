"""Stage 2: a cache that prefill fills and decode continues."""

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
FEW = st.sampled_from([3, 1, 2, 4])
# Many narrow heads: attention is most of the work, so that recomputing shows its square at lengths
# that take milliseconds.
NARROW = {"d_model": 32, "n_heads": 64, "n_kv_heads": 4, "head_dim": 2, "d_ff": 32}


def make(reference, seed, size, shape):
    """Parameters, ids of that shape, and the words that reproduce both."""
    rng = np.random.default_rng(seed)
    params = reference.init_params(rng, **size)
    ids = rng.integers(0, len(params["embed"]), shape)
    words = [f"seed {seed}", *(f"{name}={n}" for name, n in size.items()), f"ids {shape}"]
    return params, ids, ", ".join(words)


@rule("R6")
@given(size=SIZES, B=st.integers(1, 3), T=TOKENS, seed=SEEDS)
def test_prefill_gives_the_last_logits_of_forward(solution, reference, size, B, T, seed):
    params, ids, words = make(reference, seed, size, (B, T))
    cache = solution.KVCache(params, batch=B, capacity=T)

    saw = solution.prefill(params, ids, cache)

    check.close(saw, reference.forward(params, ids)[:, -1], what="logits", given=words, n=N)


@rule("R7")
@given(size=SIZES, B=st.integers(1, 3), prompt=st.integers(0, 5), new=st.integers(1, 5), seed=SEEDS)
def test_every_step_gives_the_logits_of_forward(solution, reference, size, B, prompt, new, seed):
    params, ids, words = make(reference, seed, size, (B, prompt + new))
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=B, capacity=prompt + new)

    if prompt:
        solution.prefill(params, ids[:, :prompt], cache)
    for step in range(new):
        saw = solution.decode(params, ids[:, prompt + step], cache)
        how = f"{words}, {prompt} of them by prefill, decode number {step + 1} of {new}"
        check.close(saw, want[:, prompt + step], what="logits", given=how, n=N)


@rule("R3")
@given(max_examples=20, size=SIZES, prompt=FEW, piece=FEW, seed=SEEDS)
def test_large_scores_do_not_overflow_with_a_cache(solution, reference, size, prompt, piece, seed):
    T = prompt + 1 + piece
    params, ids, words = make(reference, seed, size, (2, T))
    for layer in params["layers"]:
        layer["wq"] = layer["wq"] * 4000.0
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=2, capacity=T)

    saw = {
        prompt - 1: solution.prefill(params, ids[:, :prompt], cache),
        prompt: solution.decode(params, ids[:, prompt], cache),
        T - 1: solution.prefill(params, ids[:, prompt + 1 :], cache),
    }

    words += f", every wq times 4000, prefill of {prompt}, decode, prefill of {piece}"
    for at, logits in saw.items():
        what = f"logits at position {at}"
        check.close(logits, want[:, at], what=what, given=words, n=N, scale=1e4)


@rule("R5")
@given(max_examples=10, prompt=FEW, new=st.integers(1, 3), seed=SEEDS)
def test_what_was_returned_stays_as_it_was(solution, reference, prompt, new, seed):
    params, ids, words = make(reference, seed, {}, (2, prompt + new))
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=2, capacity=prompt + new)

    logits = [solution.prefill(params, ids[:, :prompt], cache)]
    held = [cache.lengths]
    for t in range(prompt, prompt + new):
        logits.append(solution.decode(params, ids[:, t], cache))
        held.append(cache.lengths)

    words += f", {prompt} of them by prefill, {new} times decode, looked at when all is done"
    for call, (now, count) in enumerate(zip(logits, held, strict=True)):
        at = prompt - 1 + call
        check.equal(count, np.full(2, at + 1), what=f"cache.lengths after call {call}", given=words)
        check.close(now, want[:, at], what=f"logits of call {call}", given=words, n=N)


@rule("R8")
@given(
    size=SIZES,
    B=st.integers(1, 2),
    pieces=st.lists(FEW, min_size=2, max_size=4),
    seed=SEEDS,
)
def test_pieces_of_a_prompt_give_what_the_whole_gives(solution, reference, size, B, pieces, seed):
    stops = np.cumsum(pieces).tolist()
    params, ids, words = make(reference, seed, size, (B, stops[-1]))
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=B, capacity=stops[-1])

    for start, stop in zip([0, *stops], stops, strict=False):
        saw = solution.prefill(params, ids[:, start:stop], cache)
        how = f"{words}, in pieces of {pieces}, after {stop} tokens"
        check.close(saw, want[:, stop - 1], what="logits", given=how, n=N)


@rule("R9")
@given(max_examples=20, size=SIZES, prompt=FEW, new=st.integers(1, 3), seed=SEEDS)
def test_a_fork_and_its_origin_go_their_own_ways(solution, reference, size, prompt, new, seed):
    params, ids, words = make(reference, seed, size, (3, prompt + new))
    ids[:, :prompt] = ids[0, :prompt]
    want = reference.forward(params, ids)
    origin = solution.KVCache(params, batch=1, capacity=prompt + new)
    solution.prefill(params, ids[:1, :prompt], origin)

    fork = origin.fork()
    caches = {"origin": origin, "fork": fork, "fork of the fork": fork.fork()}

    for t in range(prompt, prompt + new):
        for row, (name, cache) in enumerate(caches.items()):
            how = f"{words}, one cache for each row, forked after {prompt}; {name} at position {t}"
            check.equal(cache.lengths, np.array([t]), what="lengths", given=how)
            saw = solution.decode(params, ids[row : row + 1, t], cache)
            check.close(saw, want[row : row + 1, t], what="logits", given=how, n=N)


@rule("R9")
@given(max_examples=20, size=SIZES, seed=SEEDS)
def test_caches_in_use_at_once_do_not_meet(solution, reference, size, seed):
    params, ids, words = make(reference, seed, size, (5, 6))
    want = reference.forward(params, ids)
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)]  # two caches of one size, and another
    caches = [solution.KVCache(params, batch=n, capacity=c) for n, c in ((2, 6), (2, 6), (1, 9))]

    for part, cache in zip(parts, caches, strict=True):
        solution.prefill(params, ids[part, :4], cache)

    for t in (4, 5):
        for part, cache in zip(parts, caches, strict=True):
            saw = solution.decode(params, ids[part, t], cache)
            how = f"{words}, rows 0 and 1, rows 2 and 3, row 4 in a cache each, position {t}"
            check.close(saw, want[part, t], what="logits", given=how, n=N)


@rule("R10")
@given(
    max_examples=25,
    size=SIZES,
    B=st.sampled_from([3, 1, 2]),
    T=TOKENS,
    new=st.sampled_from([12, 2, 1, 0]),
    dtype=st.sampled_from(["int64", "int32"]),
    seed=SEEDS,
)
def test_generate_returns_the_tokens_of_recomputation(
    solution, reference, size, B, T, new, dtype, seed
):
    params, ids, words = make(reference, seed, size, (B, T))
    want = reference.generate_naive(params, ids, new)

    for time in ("first", "second"):
        saw = solution.generate(params, ids.astype(dtype), new)
        how = f"{words} as {dtype}, {new} new tokens, {time} call"
        check.equal(saw, want, what="tokens", given=how)


@rule("R10")
@given(max_examples=5, B=st.integers(1, 2), T=TOKENS, seed=SEEDS)
def test_of_equal_logits_generate_takes_the_lowest_id(solution, reference, B, T, seed):
    params, ids, words = make(reference, seed, {}, (B, T))
    params["head"] = 0 * params["head"]

    saw = solution.generate(params, ids, 3)

    check.equal(saw, np.zeros((B, 3), np.int64), what="tokens", given=f"{words}, head all 0")


@rule("R21")
@given(
    max_examples=20,
    pieces=st.lists(st.integers(1, 3), max_size=3),
    new=st.integers(0, 3),
    seed=SEEDS,
)
def test_lengths_count_the_tokens_of_every_call(solution, reference, pieces, new, seed):
    params, ids, words = make(reference, seed, {}, (2, sum(pieces) + new))
    cache = solution.KVCache(params, batch=2, capacity=sum(pieces) + new + 1)

    held = 0
    for piece in pieces:
        solution.prefill(params, ids[:, held : held + piece], cache)
        held += piece
    for t in range(held, held + new):
        solution.decode(params, ids[:, t], cache)

    how = f"{words}, prefill of {pieces}, {new} times decode"
    check.equal(cache.lengths, np.array([held + new] * 2), what="cache.lengths", given=how)


@rule("R11")
def test_decoding_grows_linearly(scaling, reference):
    def inputs(rng, size):
        params = reference.init_params(rng, **NARROW)
        return params, rng.integers(0, 64, (1, 1)), size

    def verify(new, params, ids, size):
        check_greedy(reference, new, params, ids, size)

    scaling(
        lambda impl, params, ids, size: impl.generate(params, ids, size),
        sizes=(16, 32, 64),
        inputs=inputs,
        verify=verify,
    )


@rule("R12")
def test_decoding_beats_recomputation(race, reference):
    def inputs(rng):
        return reference.init_params(rng, **NARROW), rng.integers(0, 64, (1, 48))

    def verify(new, params, ids):
        check_greedy(reference, new, params, ids, 16)

    race(lambda impl, params, ids: impl.generate(params, ids, 16), inputs=inputs, verify=verify)


@rule("R13")
def test_prefill_makes_one_row_of_logits(peak, reference):
    def inputs(rng):
        params = reference.init_params(rng, vocab_size=8192)
        return params, rng.integers(0, 8192, (1, 48))

    def run(impl, params, ids):
        return impl.prefill(params, ids, impl.KVCache(params, batch=1, capacity=48))

    def verify(logits, params, ids):
        want = reference.forward(params, ids)[:, -1]
        check.close(logits, want, what="logits", given="ids (1, 48), vocab_size=8192", n=N)

    peak(run, inputs=inputs, verify=verify)


def check_greedy(reference, new, params, ids, size):
    """One forward pass over prompt and answer shows whether each token was the best one."""
    words = f"a prompt of {ids.shape[1]} tokens, {size} new tokens, {NARROW}"
    check.array(new, shape=(1, size), dtype=np.int64, what="tokens", given=words)
    logits = reference.forward(params, np.concatenate([ids, new], axis=1))
    want = logits[:, ids.shape[1] - 1 : -1].argmax(axis=-1)
    check.equal(new, want, what="tokens", given=words)
