"""Stage 4: rows of unequal lengths in one batch."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

N = 400  # additions behind a logit: two layers of 180, then the last norm and the head
SEEDS = st.integers(0, 999)
# A failure is shown with [2, 5] if that fails: in shorter rows many mistakes look alike.
LENGTHS = st.just([2, 5]) | st.lists(st.integers(1, 7), min_size=2, max_size=4)


def make(reference, seed, lengths, **size):
    """Parameters, a row of tokens for each length, and the words that reproduce both."""
    rng = np.random.default_rng(seed)
    params = reference.init_params(rng, **size)
    rows = [rng.integers(0, len(params["embed"]), n) for n in lengths]
    words = [f"seed {seed}", *(f"{name}={n}" for name, n in size.items()), f"rows of {lengths}"]
    return params, rows, ", ".join(words)


def pad(rows, fill=0, more=0):
    """The rows as one array (B, T), filled up on the right; ``more`` columns are padding only."""
    ids = np.full((len(rows), max(map(len, rows)) + more), fill)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    return ids


def alone(reference, params, rows):
    """The logits of each row's last token, every row by itself. (B, V)"""
    return np.stack([reference.forward(params, row[None])[0, -1] for row in rows])


@rule("R19")
@given(lengths=LENGTHS, new=st.integers(1, 3), more=st.sampled_from([1, 0]), seed=SEEDS)
def test_a_padded_row_gets_what_it_gets_alone(solution, reference, lengths, new, more, seed):
    params, rows, words = make(reference, seed, [n + new for n in lengths])
    prompts = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    ids = pad(prompts, more=more)
    words += f", prompts of {lengths} in {ids.shape[1]} columns"
    cache = solution.KVCache(params, batch=len(rows), capacity=max(lengths) + new)

    saw = solution.prefill(params, ids, cache, lengths=np.array(lengths))

    check.close(saw, alone(reference, params, prompts), what="logits", given=words, n=N)
    for step in range(new):
        saw = solution.decode(params, np.array([row[step - new] for row in rows]), cache)
        seen = [row[: n + step + 1] for row, n in zip(rows, lengths, strict=True)]
        how = f"{words}, decode number {step + 1}"
        check.close(saw, alone(reference, params, seen), what="logits", given=how, n=N)


@rule("R3")
@given(max_examples=20, lengths=LENGTHS, spare=st.integers(0, 3), seed=SEEDS)
def test_large_scores_do_not_overflow_in_a_padded_batch(solution, reference, lengths, spare, seed):
    params, rows, words = make(reference, seed, [n + 2 for n in lengths])
    for layer in params["layers"]:
        layer["wq"] = layer["wq"] * 4000.0
    cache = solution.KVCache(params, batch=len(rows), capacity=max(lengths) + 2 + spare)
    prompts = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    words += f", every wq times 4000, prompts of {lengths}, {spare} slots too many"

    saw = [solution.prefill(params, pad(prompts), cache, lengths=np.array(lengths))]
    for back in (-2, -1):
        saw.append(solution.decode(params, np.array([row[back] for row in rows]), cache))

    for call, logits in enumerate(saw):
        want = alone(reference, params, [row[: len(row) - 2 + call] for row in rows])
        what = f"logits of {('prefill', 'decode', 'decode number 2')[call]}"
        check.close(logits, want, what=what, given=words, n=N, scale=1e4)


PIECE = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@rule("R19")
@given(pieces=st.just([(2, 4, 1), (3, 1, 2)]) | st.lists(PIECE, min_size=2, max_size=3), seed=SEEDS)
def test_padded_pieces_continue_each_row_where_it_ended(solution, reference, pieces, seed):
    totals = np.sum(pieces, axis=0).tolist()
    params, rows, words = make(reference, seed, totals)
    cache = solution.KVCache(params, batch=3, capacity=max(totals))

    held = np.zeros(3, np.int64)
    for piece in map(np.array, pieces):
        parts = [row[h : h + n] for row, h, n in zip(rows, held, piece, strict=True)]
        saw = solution.prefill(params, pad(parts, more=1), cache, lengths=piece)
        held = held + piece
        seen = [row[:h] for row, h in zip(rows, held, strict=True)]
        how = f"{words}, in pieces of {pieces}, when the rows hold {held.tolist()}"
        check.close(saw, alone(reference, params, seen), what="logits", given=how, n=N)


@rule("R15")
@given(lengths=LENGTHS, spare=st.integers(1, 9), seed=SEEDS)
def test_slots_beyond_the_end_of_a_row_take_no_part(solution, reference, lengths, spare, seed):
    params, rows, words = make(reference, seed, [n + 1 for n in lengths])
    prompts = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    capacity = max(lengths) + spare
    words += f", prompts of {lengths}, capacity {capacity}"

    leave_nan_in_freed_memory()
    cache = solution.KVCache(params, batch=len(rows), capacity=capacity)
    saw = solution.prefill(params, pad(prompts), cache, lengths=np.array(lengths))
    check.close(saw, alone(reference, params, prompts), what="logits", given=words, n=N)
    saw = solution.decode(params, np.array([row[-1] for row in rows]), cache)

    how = f"{words}, after one decode"
    check.close(saw, alone(reference, params, rows), what="logits", given=how, n=N)


def leave_nan_in_freed_memory():
    """Memory that a cache gets without clearing it holds NaN, and 0 times NaN is NaN."""
    held = [np.full(2**k, np.nan) for k in range(4, 13) for _ in range(40)]
    del held


@rule("R9")
@given(max_examples=20, lengths=LENGTHS, seed=SEEDS)
def test_a_fork_of_unequal_rows_goes_its_own_way(solution, reference, lengths, seed):
    params, rows, words = make(reference, seed, [n + 2 for n in lengths])
    others = [np.append(row[:-2], (row[-2:] + 1) % 64) for row in rows]
    prompts = [row[:-2] for row in rows]
    origin = solution.KVCache(params, batch=len(rows), capacity=max(lengths) + 2)
    solution.prefill(params, pad(prompts), origin, lengths=np.array(lengths))
    words += f", forked after {lengths}, the fork gets the tokens + 1"

    fork = origin.fork()

    for back in (-2, -1):
        for name, cache, tokens in (("fork", fork, others), ("origin", origin, rows)):
            saw = solution.decode(params, np.array([row[back] for row in tokens]), cache)
            seen = [row[: len(row) + back + 1] for row in tokens]
            how = f"{words}, decode number {back + 3} in the {name}"
            check.close(saw, alone(reference, params, seen), what="logits", given=how, n=N)


@rule("R20")
@given(lengths=LENGTHS, fill=st.integers(1, 63), more=st.integers(0, 2), seed=SEEDS)
def test_what_stands_in_the_padding_changes_nothing(solution, reference, lengths, fill, more, seed):
    params, rows, words = make(reference, seed, lengths)
    B = len(rows)
    words += f", in {max(lengths) + more} columns padded with {fill} and with 0"

    def run(fill):
        cache = solution.KVCache(params, batch=B, capacity=max(lengths) + 2)
        ids = pad(rows, fill, more)
        saw = [solution.prefill(params, ids, cache, lengths=np.array(lengths))]
        saw += [solution.decode(params, np.arange(B) + step, cache) for step in range(2)]
        for logits in saw:
            check.array(logits, shape=(B, 64), dtype=np.float64, what="logits", given=words)
        return np.stack(saw)

    what = "logits (call, row, word) of prefill and twice decode"
    check.close(run(fill), run(0), what=what, given=words, n=N)


@rule("R21")
@given(lengths=LENGTHS, more=st.integers(1, 7), seed=SEEDS)
def test_padding_takes_no_slots(solution, reference, lengths, more, seed):
    params, rows, words = make(reference, seed, lengths)
    B, T = len(lengths), max(lengths)
    first, second = np.array(lengths), 1 + T - np.array(lengths)
    cache = solution.KVCache(params, batch=B, capacity=T + 1)

    solution.prefill(params, pad(rows, more=1), cache, lengths=first.astype(np.int32))
    how = f"{words} in {T + 1} columns, capacity {T + 1}"
    check.equal(cache.lengths, first, what="lengths", given=how)

    # Each row is filled up to the last slot by a piece that is wider than what is left.
    wide = np.ones((B, T + more), np.int64)
    saw = solution.prefill(params, wide, cache, lengths=second)
    how += f", then ids of ones {wide.shape} with lengths {second.tolist()}"
    full = [np.append(row, wide[0, :n]) for row, n in zip(rows, second, strict=True)]
    check.equal(cache.lengths, np.full(B, T + 1), what="lengths", given=how)
    check.close(saw, alone(reference, params, full), what="logits", given=how, n=N)


@rule("R16")
@given(lengths=LENGTHS, seed=SEEDS)
def test_one_full_row_refuses_the_batch(solution, reference, lengths, seed):
    params, rows, words = make(reference, seed, [*lengths, 8])
    B = len(rows)
    cache = solution.KVCache(params, batch=B, capacity=8)
    solution.prefill(params, pad(rows), cache, lengths=np.array([*lengths, 8]))
    ids = np.zeros((B, 2), np.int64)

    for name, call, tokens in (
        ("prefill", solution.prefill, ids),
        ("decode", solution.decode, ids[:, 0]),
    ):
        what = {"what": name, "names": "capacity", "given": f"{words}, capacity 8, then one more"}
        check.raises(ValueError, call, params, tokens, cache, **what)
        how = f"{words}, capacity 8, after the refusal"
        check.equal(cache.lengths, np.array([*lengths, 8]), what="lengths", given=how)


@rule("R22")
@given(
    lengths=LENGTHS | st.lists(st.integers(1, 7), min_size=1, max_size=1),
    new=st.sampled_from([9, 12, 2, 1, 0]),
    eos_id=st.sampled_from([0, 1, 2, 3, None]),
    dtype=st.sampled_from(["int64", "int32"]),
    kind=st.sampled_from([list, tuple]),
    seed=SEEDS,
)
def test_each_prompt_gets_the_tokens_it_gets_alone(
    solution, reference, lengths, new, eos_id, dtype, kind, seed
):
    params, prompts, words = make(reference, seed, lengths, vocab_size=4)  # so that rows do end
    given = kind(prompt.astype(dtype) for prompt in prompts)

    saw = solution.generate_batch(params, given, new, eos_id=eos_id)

    how = f"{words} as a {kind.__name__} of {dtype}, {new} new tokens, eos_id={eos_id}"
    check.that(len(saw) == len(prompts), saw=f"{len(saw)} rows came back", given=how)
    for index, (row, prompt) in enumerate(zip(saw, prompts, strict=True)):
        want = reference.generate_naive(params, prompt[None], new)[0]
        ends = np.flatnonzero(want == eos_id) + 1
        want = want[: ends[0]] if len(ends) else want
        check.equal(row, want, what=f"tokens of row {index}", given=how)


@rule("R22")
@given(max_examples=5, lengths=LENGTHS, seed=SEEDS)
def test_of_equal_logits_each_row_takes_the_lowest_id(solution, reference, lengths, seed):
    params, prompts, words = make(reference, seed, lengths)
    params["head"] = 0 * params["head"]

    saw = solution.generate_batch(params, prompts, 3)

    how = f"{words}, head all 0"
    check.that(len(saw) == len(prompts), saw=f"{len(saw)} rows came back", given=how)
    for index, row in enumerate(saw):
        check.equal(row, np.zeros(3, np.int64), what=f"tokens of row {index}", given=how)


@rule("R23")
def test_arguments_that_do_not_fit_are_named(solution, reference):
    params, rows, words = make(reference, 3, [2, 4])
    ids = pad(rows)

    def refuse(name, ids, lengths=None, batch=2):
        shown = None if lengths is None else lengths.tolist()
        how = f"{words}, batch {batch}, ids {ids.shape}, lengths {shown}"
        cache = solution.KVCache(params, batch=batch, capacity=9)
        kwargs = {"lengths": lengths, "what": "prefill", "names": name, "given": how}
        check.raises(ValueError, solution.prefill, params, ids, cache, **kwargs)

    refuse("ids", ids, batch=3)
    refuse("ids", ids[:1])  # one row would broadcast over the batch
    refuse("ids", ids[:, :0])
    refuse("ids", ids[0])
    for lengths in ([2, 5], [0, 4], [-1, 4], [2], [2, 4, 4]):
        refuse("lengths", ids, np.array(lengths))
    for prompts in ([], [rows[0], rows[1][:0]]):
        how = f"prompts of {[len(prompt) for prompt in prompts]}"
        what = {"what": "generate_batch", "names": "prompts", "given": how}
        check.raises(ValueError, solution.generate_batch, params, prompts, 3, **what)


@rule("R5")
def test_the_cached_calls_change_no_argument(solution, reference):
    params, rows, words = make(reference, 4, [5, 2])
    ids, lengths, tokens = pad(rows), np.array([5, 2]), np.array([7, 8])
    cache = solution.KVCache(params, batch=2, capacity=9)

    with check.unchanged(given=f"prefill, {words}", ids=ids, lengths=lengths, params=params):
        solution.prefill(params, ids, cache, lengths=lengths)
    after = {"ids of prefill": ids, "lengths of prefill": lengths, "tokens": tokens}
    with check.unchanged(given=f"decode, {words}", **after, params=params):
        solution.decode(params, tokens, cache)
    with check.unchanged(given="generate, ids (2, 5)", ids=ids, params=params):
        solution.generate(params, ids, 4)
    with check.unchanged(given=f"generate_batch, {words}", prompts=rows, params=params):
        solution.generate_batch(params, rows, 4, eos_id=1)


@rule("R5")
@given(max_examples=20, lengths=LENGTHS, seed=SEEDS)
def test_the_cache_does_not_follow_an_array_of_the_caller(solution, reference, lengths, seed):
    params, rows, words = make(reference, seed, [n + 2 for n in lengths])
    prompts = [row[:n] for row, n in zip(rows, lengths, strict=True)]
    cache = solution.KVCache(params, batch=len(rows), capacity=max(lengths) + 2)
    ids, held = pad(prompts), np.array(lengths)
    tokens = np.array([row[-2] for row in rows])

    # As a loop does that fills the same arrays for every step.
    solution.prefill(params, ids, cache, lengths=held)
    ids[:], held[:] = 0, 1
    solution.decode(params, tokens, cache)
    tokens[:] = 0

    how = f"{words}, prefill of {lengths}, decode, ids, lengths and tokens overwritten after each"
    check.equal(cache.lengths, np.array(lengths) + 1, what="cache.lengths", given=how)
    saw = solution.decode(params, np.array([row[-1] for row in rows]), cache)
    check.close(saw, alone(reference, params, rows), what="logits", given=how, n=N)


@rule("R24")
def test_a_batch_beats_its_rows_one_by_one(race, reference):
    lengths = [11, 3, 9, 12, 1, 7, 10, 5, 8, 2, 12, 6, 4, 9, 1, 7]

    def inputs(rng):
        return reference.init_params(rng), [rng.integers(0, 64, n) for n in lengths]

    def verify(new, params, prompts):
        how = f"prompts of {lengths}, 8 new tokens"
        for index, (row, prompt) in enumerate(zip(new, prompts, strict=True)):
            want = reference.generate_naive(params, prompt[None], 8)[0]
            check.equal(row, want, what=f"tokens of row {index}", given=how)

    race(
        lambda impl, params, prompts: impl.generate_batch(params, prompts, 8),
        inputs=inputs,
        verify=verify,
    )
