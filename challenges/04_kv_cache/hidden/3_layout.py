"""Stage 3: a cache of exactly its bytes, allocated once, that says when it is full."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

N = 400  # additions behind a logit: two layers of 180, then the last norm and the head
SEEDS = st.integers(0, 999)
# A failure is shown with the first of these that fails: in two tokens many mistakes look alike.
FEW = st.sampled_from([3, 1, 2, 5])
# At most 60 additions behind a logit: float32 then shows what was rounded to float16.
SMALL = {"n_layers": 1, "d_model": 4, "n_heads": 2, "n_kv_heads": 1, "head_dim": 2, "d_ff": 4}
DTYPES = st.sampled_from([np.float32, np.float64])


def make(reference, seed, size, shape):
    """Parameters, ids of that shape, and the words that reproduce both."""
    rng = np.random.default_rng(seed)
    params = reference.init_params(rng, **size)
    ids = rng.integers(0, len(params["embed"]), shape)
    words = [f"seed {seed}", *(f"{name}={text(n)}" for name, n in size.items()), f"ids {shape}"]
    return params, ids, ", ".join(words)


def text(value):
    return value.__name__ if isinstance(value, type) else str(value)


@rule("R14")
@given(
    n_layers=st.sampled_from([3, 1, 2]),
    n_kv_heads=st.sampled_from([3, 1, 2, 6]),
    head_dim=st.sampled_from([4, 2, 10]),
    B=st.sampled_from([3, 1, 2]),
    spare=st.integers(1, 9),
)
def test_nbytes_is_exact_from_the_start(
    solution, reference, n_layers, n_kv_heads, head_dim, B, spare
):
    size = {"n_layers": n_layers, "n_heads": 6, "n_kv_heads": n_kv_heads, "head_dim": head_dim}
    capacity = 4 + spare
    want = 2 * n_layers * B * n_kv_heads * capacity * head_dim
    seen = {}

    for dtype in (np.float32, np.float64):
        params, ids, words = make(reference, 0, {**size, "dtype": dtype}, (B, 4))
        how = f"{words}, capacity {capacity}"
        cache = solution.KVCache(params, batch=B, capacity=capacity)
        sizes = [cache.nbytes]
        solution.prefill(params, ids[:, :3], cache)
        sizes.append(cache.nbytes)
        solution.decode(params, ids[:, 3], cache)
        fork = cache.fork()
        seen[how] = [*sizes, cache.nbytes, fork.nbytes]
        for name, made in (("cache", cache), ("fork", fork)):
            check.equal(made.capacity, capacity, what=f"{name}.capacity", given=how)

    for how, itemsize in zip(seen, (4, 8), strict=True):
        text = "nbytes was {} when made, {} after prefill, {} after decode, {} in a fork"
        saw, right = text.format(*seen[how]), seen[how] == [want * itemsize] * 4
        check.that(right, saw=saw, given=how, value=seen)
        for nbytes in seen[how]:  # a float equals an int and is none
            check.equal(nbytes, want * itemsize, what="nbytes", given=how)


@rule("R15")
@given(B=st.integers(1, 2), prompt=FEW, spare=st.integers(1, 40), seed=SEEDS)
def test_empty_slots_take_no_part(solution, reference, B, prompt, spare, seed):
    params, ids, words = make(reference, seed, {}, (B, prompt + 3))
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=B, capacity=prompt + 3 + spare)
    how = f"{words}, {prompt} of them by prefill, {spare} slots too many"

    saw = [solution.prefill(params, ids[:, :prompt], cache)]
    saw.append(solution.decode(params, ids[:, prompt], cache))
    saw.append(solution.prefill(params, ids[:, prompt + 1 :], cache))

    for logits, at in zip(saw, (prompt - 1, prompt, prompt + 2), strict=True):
        check.close(logits, want[:, at], what=f"logits at position {at}", given=how, n=N)


@rule("R16")
@given(B=st.integers(1, 2), capacity=st.integers(2, 7), over=st.integers(1, 3), seed=SEEDS)
def test_a_piece_that_does_not_fit_changes_nothing(solution, reference, B, capacity, over, seed):
    params, ids, words = make(reference, seed, {}, (B, capacity + over))
    cache = solution.KVCache(params, batch=B, capacity=capacity)
    how = f"{words}, capacity {capacity}"

    refuse("prefill", solution.prefill, params, ids, cache, given=f"{how}, all of them at once")
    solution.prefill(params, ids[:, : capacity - 1], cache)
    rest = ids[:, capacity - 1 :]
    refuse("prefill", solution.prefill, params, rest, cache, given=f"{how}, in two pieces")

    # The last slot is still free and everything before it as it was.
    held = np.array([capacity - 1] * B)
    check.equal(cache.lengths, held, what="lengths after the refusal", given=how)
    saw = solution.decode(params, ids[:, capacity - 1], cache)
    want = reference.forward(params, ids[:, :capacity])[:, -1]
    check.close(saw, want, what="logits in the last slot", given=how, n=N)


@rule("R16")
@given(B=st.integers(1, 2), capacity=FEW, seed=SEEDS)
def test_a_full_cache_refuses_one_more_token(solution, reference, B, capacity, seed):
    params, ids, words = make(reference, seed, {}, (B, capacity))
    cache = solution.KVCache(params, batch=B, capacity=capacity)
    how = f"{words}, capacity {capacity}"

    saw = solution.prefill(params, ids, cache)

    want = reference.forward(params, ids)[:, -1]
    check.close(saw, want, what="logits of a prompt that just fits", given=how, n=N)
    refuse("prefill", solution.prefill, params, ids[:, :2], cache, given=f"{how}, when full")
    refuse("decode", solution.decode, params, ids[:, 0], cache, given=f"{how}, when full")
    held = np.array([capacity] * B)
    check.equal(cache.lengths, held, what="lengths after the refusal", given=how)


def refuse(name, call, *args, given):
    check.raises(ValueError, call, *args, what=name, names="capacity", given=given)


@rule("R17")
@given(dtype=DTYPES, prompt=FEW, seed=SEEDS)
def test_logits_have_the_precision_of_the_parameters(solution, reference, dtype, prompt, seed):
    params, ids, words = make(reference, seed, {**SMALL, "dtype": dtype}, (2, prompt + 2))
    want = reference.forward(params, ids)
    cache = solution.KVCache(params, batch=2, capacity=prompt + 2)

    saw = {
        "forward": solution.forward(params, ids),
        "prefill": solution.prefill(params, ids[:, :prompt], cache),
        "decode in a fork": solution.decode(params, ids[:, prompt], cache.fork()),
        "decode": solution.decode(params, ids[:, prompt], cache),
    }

    wanted = {"forward": want, "prefill": want[:, prompt - 1]}
    for call, logits in saw.items():
        how = f"{words}, {prompt} of them by prefill"
        right = wanted.get(call, want[:, prompt])
        check.close(logits, right, what=f"logits of {call}", given=how, n=60)


@rule("R14")
def test_the_cache_holds_key_value_heads(count, reference):
    def inputs(rng):
        params = reference.init_params(rng, n_heads=8, n_kv_heads=2)
        return params, rng.integers(0, 64, (2, 64))

    def run(impl, params, ids):
        cache = impl.KVCache(params, batch=2, capacity=64)
        impl.prefill(params, ids, cache)
        return cache.nbytes

    def verify(nbytes, params, ids):
        how = "n_heads=8, n_kv_heads=2, batch 2, capacity 64"
        check.that(nbytes > 0, saw=f"nbytes is {nbytes}", given=how)

    count(run, inputs=inputs, verify=verify)


@rule("R18")
def test_generation_needs_little_beside_its_cache(peak, reference):
    capacity = 128

    def inputs(rng):
        params = reference.init_params(rng, d_model=8, n_heads=16, n_kv_heads=2, head_dim=64)
        return params, rng.integers(0, 64, (1, capacity))

    def run(impl, params, ids):
        cache = impl.KVCache(params, batch=1, capacity=capacity)
        logits = impl.prefill(params, ids[:, :4], cache)
        for t in range(4, capacity):
            logits = impl.decode(params, ids[:, t], cache)
        return logits

    def verify(logits, params, ids):
        want = reference.forward(params, ids)[:, -1]
        how = f"d_model=8, n_heads=16, n_kv_heads=2, head_dim=64, {capacity} tokens"
        check.close(logits, want, what="logits", given=how, n=4 * capacity + 4000)

    peak(run, inputs=inputs, verify=verify)
