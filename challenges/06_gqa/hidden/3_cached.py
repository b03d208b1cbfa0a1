"""Stage 3: a cache of key/value heads, each of them read once."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    DTYPES,
    FEW,
    HEADS,
    SEEDS,
    Memory,
    arrays,
    check_kept,
    layer_of,
    plain_layer,
    plain_projection,
    steep,
)

N = 300  # additions behind an element of the output
NEW = st.sampled_from([5, 1, 7])  # no group has 5 or 7 query heads: whose loads they are shows
PIECES = st.sampled_from([[3, 1, 2], [1, 1, 1], [4], [1, 5], [2, 3, 1], [9, 1, 4]])
LENGTHS = st.sampled_from([[3, 0, 5], [1, 2], [0, 4, 1, 1], [6]])


@rule("R11")
@given(heads=HEADS, B=st.sampled_from([2, 1, 3]), pieces=PIECES, seed=SEEDS)
def test_any_pieces_give_what_the_layer_gives(solution, reference, heads, B, pieces, seed):
    params, words = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (B, sum(pieces), 5))
    want, memory = plain_layer(params, x), Memory(B)

    stops = np.cumsum(pieces).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        saw = solution.cached_layer(params, x[:, start:stop], memory)
        how = f"{words}, x {x.shape} in pieces of {pieces}, positions {start} to {stop - 1}"
        check.close(saw, want[:, start:stop], what="the output", given=how, n=N)


@rule("R3")
@given(max_examples=20, heads=HEADS, pieces=PIECES, seed=SEEDS)
def test_large_scores_come_right_from_the_memory(solution, reference, heads, pieces, seed):
    params, words = layer_of(reference, seed, heads)
    params, words = steep(params), f"{words}, wq and bq times 300, wk and bk times 100"
    (x,) = arrays(seed, (1, sum(pieces), 5))
    want, memory = plain_layer(params, x), Memory(1)

    stops = np.cumsum(pieces).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        saw = solution.cached_layer(params, x[:, start:stop], memory)
        how = f"{words}, x {x.shape} in pieces of {pieces}, positions {start} to {stop - 1}"
        check.close(saw, want[:, start:stop], what="the output", given=how, n=N, scale=1e5)


@rule("R12")
@given(heads=HEADS, B=st.sampled_from([2, 1]), pieces=PIECES, dtype=DTYPES, seed=SEEDS)
def test_the_memory_holds_the_heads_of_keys_and_values(
    solution, reference, heads, B, pieces, dtype, seed
):
    params, words = layer_of(reference, seed, heads, dtype=dtype)
    (x,) = arrays(seed, (B, sum(pieces), 5), dtype=dtype)
    memory = Memory(B)

    stops = np.cumsum(pieces).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        solution.cached_layer(params, x[:, start:stop], memory)

    words += f", x {x.shape} in pieces of {pieces}"
    want = [plain_projection(params, name, x) for name in "kv"]
    for row in range(B):
        held = memory.rows[row]
        check.that(held is not None, saw=f"nothing was appended to row {row}", given=words)
        for name, saw, right in zip(("keys", "values"), held, want, strict=True):
            check.close(saw, right[row], what=f"the {name} held for row {row}", given=words, n=10)


@rule("R13")
@given(heads=HEADS, lengths=LENGTHS, T=NEW, seed=SEEDS)
def test_no_head_is_loaded_twice_in_a_call(solution, reference, heads, lengths, T, seed):
    params, words = layer_of(reference, seed, heads)
    (new,) = arrays(seed, (len(lengths), T, 5))
    memory = filled(params, seed, lengths)

    solution.cached_layer(params, new, memory)

    rows = sum(n > 0 for n in lengths)
    words += f", rows of {lengths} tokens, {T} new"
    twice = sorted({load for load in memory.loads if memory.loads.count(load) > 1})
    saw = f"{len(memory.loads)} loads, of which these (row, head) came again: {twice[:4]}"
    check.that(not twice, saw=saw, given=words, value=memory.loads)
    saw = f"of {heads[1]} heads in {rows} rows with earlier tokens, {len(memory.loads)} were loaded"
    check.that(len(memory.loads) >= rows * heads[1], saw=saw, given=words, value=memory.loads)


@rule("R14")
@given(heads=HEADS, lengths=LENGTHS, T=FEW, seed=SEEDS)
def test_each_row_gets_what_it_gets_alone(solution, reference, heads, lengths, T, seed):
    params, words = layer_of(reference, seed, heads)
    memory = filled(params, seed, lengths)
    past = pasts(seed, lengths)
    (new,) = arrays(seed + 1, (len(lengths), T, 5))

    for step in ("first", "second"):
        saw = solution.cached_layer(params, new, memory)
        past = [np.concatenate([old, row]) for old, row in zip(past, new, strict=True)]
        want = np.stack([plain_layer(params, row[None])[0, -T:] for row in past])
        how = f"{words}, rows of {lengths} tokens, {T} new, {step} call"
        check.close(saw, want, what="the output", given=how, n=N)
        held = [len(row) for row in past]
        check.equal(list(memory.lengths), held, what="lengths of the memory", given=how)


def pasts(seed, lengths):
    """What the rows hold already: (n, C) each."""
    return arrays(seed, *((n, 5) for n in lengths))


def filled(params, seed, lengths):
    """A memory of their keys and values."""
    memory = Memory(len(lengths))
    for row, past in enumerate(pasts(seed, lengths)):
        if len(past):
            keys, values = (plain_projection(params, name, past[None])[0] for name in "kv")
            memory.append(row, keys, values)
    return memory


COSTS = {
    "d_model": st.sampled_from([5, 1, 64]),
    "heads": HEADS,
    "head_dim": st.sampled_from([3, 1, 16]),
    "lengths": st.sampled_from([[4, 9], [7], [1, 1, 30], [2] * 5]),
    "n_tokens": st.sampled_from([3, 1, 2]),
    "itemsize": st.sampled_from([4, 2, 8]),
}


def cost_of(solution, d_model, heads, head_dim, lengths, n_tokens, itemsize):
    """The four numbers, and the words that reproduce them; defaults are left to the solution."""
    args = {"d_model": d_model, "n_heads": heads[0], "n_kv_heads": heads[1], "head_dim": head_dim}
    args |= {"lengths": lengths}
    args |= {"n_tokens": n_tokens} if n_tokens != 1 else {}
    args |= {"itemsize": itemsize} if itemsize != 2 else {}
    cost = solution.decode_cost(**args)
    words = ", ".join(f"{name}={value}" for name, value in args.items())
    names = ["cache_bytes", "cache_flops", "weight_bytes", "weight_flops"]
    check.that(isinstance(cost, dict), saw=f"a {type(cost).__name__} came back", given=words)
    check.equal(sorted(cost), names, what="the keys of the dict", given=words)
    return cost, words


@rule("R15")
@given(**COSTS)
def test_the_projections_are_counted(
    solution, d_model, heads, head_dim, lengths, n_tokens, itemsize
):
    cost, words = cost_of(solution, d_model, heads, head_dim, lengths, n_tokens, itemsize)

    H, G = heads
    columns = H * head_dim + G * head_dim + G * head_dim  # of the products with a token
    weights = d_model * columns + H * head_dim * d_model
    tokens = n_tokens * len(lengths)
    want = {"weight_flops": tokens * (weights + weights), "weight_bytes": weights * itemsize}
    for name, number in want.items():
        check.equal(cost[name], number, what=name, given=words)


@rule("R16")
@given(**COSTS)
def test_keys_and_values_are_counted(
    solution, d_model, heads, head_dim, lengths, n_tokens, itemsize
):
    cost, words = cost_of(solution, d_model, heads, head_dim, lengths, n_tokens, itemsize)

    flops = numbers = 0
    for held in lengths:
        for _ in range(heads[0] * n_tokens):  # a query
            flops += 2 * head_dim * held + 2 * head_dim * held
        for _ in range(heads[1]):
            numbers += held * head_dim + held * head_dim
    for name, number in {"cache_flops": flops, "cache_bytes": numbers * itemsize}.items():
        check.equal(cost[name], number, what=name, given=words)


@rule("R4")
@given(max_examples=20, dtype=DTYPES, heads=HEADS, seed=SEEDS)
def test_a_step_keeps_dtype_and_precision(solution, reference, dtype, heads, seed):
    params, words = layer_of(reference, seed, heads, d_model=3, head_dim=2, dtype=dtype)
    (x,) = arrays(seed, (2, 4, 3), dtype=dtype)
    memory = Memory(2)

    saw = [solution.cached_layer(params, x[:, t : t + 1], memory) for t in range(4)]

    wide = {name: array.astype(float) for name, array in params.items()}
    want = plain_layer(wide, x.astype(float)).astype(dtype)
    for t in range(4):
        what = f"the output at position {t}"
        check.close(saw[t], want[:, t : t + 1], what=what, given=f"{words}, x (2, 4, 3)", n=80)


@rule("R5")
@given(max_examples=20, heads=HEADS, T=FEW, seed=SEEDS)
def test_a_step_leaves_its_arguments_alone(solution, reference, heads, T, seed):
    params, words = layer_of(reference, seed, heads)
    (x,) = arrays(seed, (2, T, 5))
    memory, words = Memory(2), f"{words}, x {x.shape}"

    with check.unchanged(given=words, params=params, x=x):
        first = solution.cached_layer(params, x, memory)

    check.fresh(first, what="the output", given=words, params=params, x=x)
    check_kept(
        first,
        lambda: solution.cached_layer(params, -x, memory),
        what="the output",
        given=words,
    )


@rule("R28")
def test_a_step_that_does_not_fit_moves_nothing(solution, reference):
    params, words = layer_of(reference, 0, (4, 2))
    for shape in ((3, 1, 5), (1, 1, 5), (2, 1, 4), (2, 3, 6), (2, 5), (2, 1, 1, 5)):
        memory = filled(params, 0, [2, 3])
        before = (memory.nbytes, memory.bytes_read)
        how = f"{words}, x {shape}, 2 rows in the memory"
        x = np.ones(shape)
        check.raises(
            ValueError, solution.cached_layer, params, x, memory, what="cached_layer", names="x",
            given=how,
        )
        moved = [memory.nbytes - before[0], memory.bytes_read - before[1]]
        saw = f"{moved[0]} bytes were stored and {moved[1]} read before the error"
        check.that(moved == [0, 0], saw=saw, given=how, value=moved)


SIZE = {"d_model": 32, "head_dim": 16, "dtype": np.float32}


@rule("R12")
def test_the_cache_holds_kv_heads_only(count, reference):
    def inputs(rng):
        params, _ = layer_of(reference, int(rng.integers(1000)), (16, 2), **SIZE)
        return params, rng.standard_normal((2, 64, 32), np.float32)

    def run(impl, params, x):
        memory = Memory(2)
        impl.cached_layer(params, x, memory)
        return memory.nbytes

    count(run, inputs=inputs, verify=above_zero)


@rule("R13")
def test_a_step_reads_each_head_once(count, reference):
    def inputs(rng):
        params, _ = layer_of(reference, int(rng.integers(1000)), (16, 2), **SIZE)
        return params, rng.standard_normal((2, 64, 32), np.float32)

    def run(impl, params, x):
        memory = Memory(2)
        impl.cached_layer(params, x[:, :-1], memory)
        before = memory.bytes_read
        impl.cached_layer(params, x[:, -1:], memory)
        return memory.bytes_read - before

    count(run, inputs=inputs, verify=above_zero)


def above_zero(nbytes, params, x):
    check.that(nbytes > 0, saw=f"{nbytes} bytes were counted", given="16 query heads on 2")
