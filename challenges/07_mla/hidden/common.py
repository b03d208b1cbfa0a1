"""Random layers for all stages, and what both ways of extending have to do."""

from __future__ import annotations

import numpy as np

from pytest_llmgrind import check, st

N = 200  # additions behind an output: a projection of 20, a norm, a head and a row of slots, twice
SEEDS = st.integers(0, 999)
# Every width differs from every other, but in the last, where all are the same.
# What a failure is shown with is the first that fails.
SIZES = st.sampled_from(
    [
        {},
        {"q_lora_rank": None},
        {"n_heads": 1, "kv_lora_rank": 3, "v_head_dim": 9},
        {
            "n_heads": 4,
            "qk_nope_head_dim": 3,
            "qk_rope_head_dim": 8,
            "v_head_dim": 2,
            "kv_lora_rank": 11,
            "q_lora_rank": 5,
        },
        {
            "d_model": 7,
            "n_heads": 2,
            "qk_nope_head_dim": 5,
            "qk_rope_head_dim": 2,
            "v_head_dim": 6,
            "kv_lora_rank": 4,
            "q_lora_rank": None,
        },
        {
            "d_model": 4,
            "n_heads": 4,
            "qk_nope_head_dim": 4,
            "qk_rope_head_dim": 4,
            "v_head_dim": 4,
            "kv_lora_rank": 4,
            "q_lora_rank": 4,
        },
    ]
)
# In two tokens many mistakes look alike, and with as many tokens as heads axes do.
TOKENS = st.sampled_from([5, 1, 2, 3, 4, 9])
FEW = st.sampled_from([2, 1, 3, 4])
PIECES = st.just([3, 1, 2]) | st.lists(FEW, min_size=1, max_size=4)
LENGTHS = st.just([2, 5]) | st.lists(st.integers(0, 6), min_size=2, max_size=4)
# Few additions behind an output: float32 then shows what was rounded to float16.
SMALL = {
    "d_model": 4,
    "n_heads": 2,
    "qk_nope_head_dim": 3,
    "qk_rope_head_dim": 2,
    "v_head_dim": 2,
    "kv_lora_rank": 3,
    "q_lora_rank": 3,
}


def make(reference, seed, size, *lead):
    """Parameters, inputs (*lead, C), and the words that reproduce both."""
    rng = np.random.default_rng(seed)
    params = reference.init_params(rng, **size)
    dtype = params["w_dkv"].dtype
    x = rng.standard_normal((*lead, len(params["w_dkv"]))).astype(dtype)
    return params, x, f"{named(seed, size)}, x {x.shape}"


def named(seed, size):
    sizes = [f"{name}={n.__name__ if isinstance(n, type) else n}" for name, n in size.items()]
    return ", ".join([f"seed {seed}", *sizes])


def ragged(reference, params, seed, lengths, spare, T):
    """Sequences of lengths + T tokens, a cache that holds all but the last T, and those T."""
    rng, C = np.random.default_rng(seed), len(params["w_dkv"])
    rows = [rng.standard_normal((n + T, C)) for n in lengths]
    cache = reference.init_cache(params, batch=len(rows), capacity=max(lengths) + T + spare)
    cache[...] = rng.standard_normal(cache.shape)  # memory that somebody used before
    for row, slots, n in zip(rows, cache, lengths, strict=True):
        if n:
            reference.extend_naive(params, row[None, :n], slots[None], np.array([0]))
    return rows, cache, np.stack([row[n:] for row, n in zip(rows, lengths, strict=True)])


def check_pieces(extend, reference, seed, size, B, pieces):
    """A sequence in pieces gives what forward gives for the whole."""
    T = sum(pieces)
    params, x, words = make(reference, seed, size, B, T)
    want = reference.forward(params, x)
    cache, held = reference.init_cache(params, batch=B, capacity=T), 0

    for piece in pieces:
        saw = extend(params, x[:, held : held + piece], cache, np.full(B, held))
        how = f"{words}, in pieces of {pieces}, the piece after {held} tokens"
        check.close(saw, want[:, held : held + piece], what="outputs", given=how, n=N)
        held += piece


def check_ragged(extend, reference, seed, size, lengths, T):
    """Each row of a batch gets what it gets alone, wherever it ends."""
    params, _, _ = make(reference, seed, size, 1)
    rows, cache, x = ragged(reference, params, seed, lengths, 1, T)
    want = np.stack([reference.forward(params, row[None])[0, -T:] for row in rows])

    saw = extend(params, x, cache, np.array(lengths))

    how = f"{named(seed, size)}, rows that hold {lengths} tokens, then {T} more each"
    check.close(saw, want, what="outputs", given=how, n=N)


def check_slots(solution, extend, reference, seed, size, lengths, T):
    """New slots hold latent and key, all others what they held."""
    params, _, _ = make(reference, seed, size, 1)
    rows, cache, x = ragged(reference, params, seed, lengths, 4, T)
    cache[:, -2:] = np.array([np.inf, np.nan])[:, None]
    before, lengths = cache.copy(), np.array(lengths)
    how = f"{named(seed, size)}, rows that hold {lengths.tolist()} tokens, then {T} more each"
    how += ", the last two slots inf and NaN"

    extend(params, x, cache, lengths)

    at = lengths[:, None] + np.arange(T)  # (B, T)
    slots, L = np.arange(len(rows))[:, None], params["w_dkv"].shape[1]
    # Beside what compress and shared_key return: who stores other numbers may still make the right.
    found = {
        "latents": (cache[slots, at, :L], "compress", (params, x)),
        "keys": (cache[slots, at, L:], "shared_key", (params, x, at)),
    }
    for what, (stored, name, args) in found.items():
        saw = np.stack([stored, getattr(solution, name)(*args)])
        want = np.stack([getattr(reference, name)(*args)] * 2)
        what = f"{what} (0 in the new slots, 1 as {name} gives them)"
        check.close(saw, want, what=what, given=how, n=N)
    after = cache.copy()
    after[slots, at] = before[slots, at]
    check.equal(after, before, what="the other slots", given=how, moved=True)


def check_empty_slots(extend, reference, seed, size, lengths, fill):
    """What stands in slots without a token changes nothing."""
    params, _, _ = make(reference, seed, size, 1)
    rows, cache, x = ragged(reference, params, seed, lengths, 3, 2)
    want = np.stack([reference.forward(params, row[None])[0, -2:] for row in rows])
    for slots, n in zip(cache, lengths, strict=True):
        slots[n:] = fill

    saw = extend(params, x, cache, np.array(lengths))

    how = f"{named(seed, size)}, rows that hold {lengths} of {cache.shape[1]} slots, {fill} in the"
    check.close(saw, want, what="outputs", given=f"{how} others, then 2 tokens more each", n=N)


def check_no_memory(extend, reference, seed, size):
    """Rows trade places between two calls, in another array, and each goes on as itself."""
    params, x, words = make(reference, seed, size, 3, 6)
    other = x[:, ::-1]
    want = {"first": reference.forward(params, x), "other": reference.forward(params, other)}
    cache = reference.init_cache(params, batch=3, capacity=8)
    second = reference.init_cache(params, batch=3, capacity=8)
    order = np.array([2, 0, 1])
    extend(params, x[:, :4], cache, np.zeros(3, np.int64))
    extend(params, other[:, :4], second, np.zeros(3, np.int64))

    moved, second[...] = cache[order].copy(), second[order]
    saw = {
        "first": extend(params, x[order, 4:], moved, np.full(3, 4)),
        "other": extend(params, other[order, 4:], second, np.full(3, 4)),
    }

    words += f", two caches in turns, rows {order.tolist()} after 4 tokens"
    how = f"{words}, the first copied to another array"
    check.close(saw["first"], want["first"][order, 4:], what="outputs", given=how, n=N)
    second = f"{words}, the second in the same array"
    check.close(saw["other"], want["other"][order, 4:], what="outputs", given=second, n=N)

    # As if 2 of the tokens had been taken back.
    saw = extend(params, x[order, 2:3], moved, np.full(3, 2))
    how += ", then from 2 tokens again"
    check.close(saw, want["first"][order, 2:3], what="outputs", given=how, n=N)


def check_large_scores(extend, reference, seed, size, prompt):
    params, x, words = make(reference, seed, size, 2, prompt + 2)
    params["w_uq"] = params["w_uq"] * 4000.0
    want = reference.forward(params, x)
    cache = reference.init_cache(params, batch=2, capacity=prompt + 4)

    saw = [extend(params, x[:, :prompt], cache, np.zeros(2, np.int64))]
    saw.append(extend(params, x[:, prompt:], cache, np.full(2, prompt)))

    # A score of 10,000 is known to 10,000 rounding errors, and so is what its weight multiplies.
    how = f"{words}, w_uq times 4000, {prompt} tokens and 2"
    n = N + prompt
    check.close(np.concatenate(saw, 1), want, what="outputs", given=how, n=n, scale=1e4)


def check_far(extend, reference):
    """Rows that end thousands of slots apart, one of them NaN, and each as it is alone."""
    lengths = np.array([4999, 0, 150, 2048, 1, 700])
    rng = np.random.default_rng(8)
    params = reference.init_params(rng)
    x, cache = rng.standard_normal((6, 2, 20)), rng.standard_normal((6, 5001, 12))
    x[4] = np.nan
    alone = zip(x, cache.copy(), lengths, strict=True)
    want = [reference.extend_naive(params, u[None], c[None], n[None])[0] for u, c, n in alone]

    saw = extend(params, x, cache, lengths)

    how = f"seed 8, x {x.shape}, then kv_cache {cache.shape} drawn like x"
    how += f", lengths {lengths.tolist()}, all of x[4] NaN"
    check.array(saw, shape=x.shape, dtype=x.dtype, what="outputs", given=how, finite=False)
    saw, want = np.delete(saw, 4, axis=0), np.delete(np.stack(want), 4, axis=0)
    check.close(saw, want, what="outputs without row 4", given=how, n=N + 5000)


def check_integers(extend, name, reference):
    """Lengths mean the same in any integer dtype, also where it has no room for a sum."""
    rng = np.random.default_rng(9)
    params = reference.init_params(rng)
    x, cache = rng.standard_normal((2, 9, 20)), rng.standard_normal((2, 140, 12))
    want = reference.extend_naive(params, x, cache.copy(), np.array([3, 125]))

    for dtype in (np.int8, np.uint8, np.int16, np.uint64):
        lengths = np.array([3, 125], dtype)
        saw = extend(params, x, cache.copy(), lengths)

        how = f"seed 9, x {x.shape}, then kv_cache {cache.shape} drawn like x"
        how += f", lengths [3, 125] as {dtype.__name__}"
        check.close(saw, want, what="outputs", given=how, n=N + 140)
        args, how = (params, x, cache[:, :130].copy(), lengths), f"{how}, the first 130 slots"
        check.raises(ValueError, extend, *args, names="kv_cache", what=name, given=how)


def check_refused_caches(extend, name, reference):
    refuse = check_refusals(extend, name, reference)

    refuse("kv_cache", lengths=(0, 4))
    refuse("kv_cache", lengths=(6, 0))
    refuse("kv_cache", cache=(2, 2, 12))
    refuse("kv_cache", cache=(3, 6, 12))
    refuse("kv_cache", cache=(1, 6, 12))
    refuse("kv_cache", cache=(2, 6, 13))
    refuse("kv_cache", cache=(2, 6, 8))
    refuse("kv_cache", cache=(6, 12))
    refuse("kv_cache", cache=(2, 6, 12, 1))


def check_refused_inputs(extend, name, reference):
    _, x, _ = make(reference, 3, {}, 2, 3)
    refuse = check_refusals(extend, name, reference)

    refuse("x", x=x[0])
    refuse("x", x=x[:, :0])
    refuse("x", x=x[:, :, :19])
    refuse("x", x=x[:0], cache=(0, 6, 12), lengths=())
    refuse("lengths", lengths=(0, -1))
    refuse("lengths", lengths=(0,))
    refuse("lengths", lengths=(0, 1, 2))
    refuse("lengths", lengths=((0,), (1,)))


def check_refusals(extend, name, reference):
    """What does not fit is named, and the cache stays as it was."""
    params, x, _ = make(reference, 3, {}, 2, 3)  # C 20, L + Dr 12

    def refuse(names, x=x, cache=(2, 6, 12), lengths=(0, 0)):
        kv_cache = np.random.default_rng(0).random(cache)
        args = params, x, kv_cache, np.array(lengths, np.int64)
        shown = f"seed 3, x {x.shape}, kv_cache {cache}, lengths {list(lengths)}"
        what = {"what": name, "names": names, "given": shown}
        with check.unchanged(given=f"{name}, {shown}", kv_cache=kv_cache):
            check.raises(ValueError, extend, *args, **what)

    return refuse


def check_dtype(extend, reference, seed, dtype):
    params, x, words = make(reference, seed, {**SMALL, "dtype": dtype}, 2, 4)
    want = reference.forward(params, x)
    cache = reference.init_cache(params, batch=2, capacity=4)

    prompt = extend(params, x[:, :3], cache, np.zeros(2, np.int64))
    token = extend(params, x[:, 3:], cache, np.full(2, 3))

    check.close(prompt, want[:, :3], what="outputs of 3 tokens", given=words, n=40)
    check.close(token, want[:, 3:], what="outputs of one token after 3", given=words, n=40)


def check_arguments(extend, reference):
    """Nothing but kv_cache changes, and results stay as they were."""
    params, x, words = make(reference, 5, {}, 2, 6)
    want, lengths = reference.forward(params, x), np.array([0, 0])
    cache = reference.init_cache(params, batch=2, capacity=6)

    with check.unchanged(given=words, x=x, lengths=lengths, params=params):
        first = extend(params, x[:, :3], cache, lengths)
    second = extend(params, x[:, 3:], cache, lengths + 3)
    cache[...] = 0
    how = f"{words}, 3 tokens and 3, then all of kv_cache set to 0"
    check.close(first, want[:, :3], what="outputs of the first call", given=how, n=N)
    check.close(second, want[:, 3:], what="outputs of the second call", given=how, n=N)


def check_layouts(extend, reference):
    """Whatever its strides, and read-only but for kv_cache, an argument means the same."""
    params, x, words = make(reference, 5, {}, 2, 5)
    want = reference.forward(params, x)
    wide = np.zeros((2, 15, 12))
    cache, others = wide[:, ::2], wide[:, 1::2]  # every second slot of a larger array
    frozen = {name: np.asfortranarray(w) for name, w in params.items()}
    for w in frozen.values():
        w.flags.writeable = False
    how = f"{words}, kv_cache every second slot of an array, params in Fortran order"

    with check.unchanged(given=how, slots_between=others):
        first = extend(frozen, np.asfortranarray(x)[:, :3], cache, np.zeros(2, np.int32))
        second = extend(frozen, x.repeat(2, axis=2)[:, 3:, ::2], cache, np.full(4, 3)[::2])

    check.close(first, want[:, :3], what="outputs of 3 tokens", given=how, n=N)
    check.close(second, want[:, 3:], what="outputs of 2 tokens after 3", given=how, n=N)
