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

    solution.prefill(params, pad(rows, more=1), cache, lengths=first)
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
    new=st.sampled_from([9, 2, 1, 0]),
    eos_id=st.none() | st.integers(0, 5),
    seed=SEEDS,
)
def test_each_prompt_gets_the_tokens_it_gets_alone(solution, reference, lengths, new, eos_id, seed):
    params, prompts, words = make(reference, seed, lengths, vocab_size=6)  # so that rows do end

    saw = solution.generate_batch(params, prompts, new, eos_id=eos_id)

    how = f"{words}, {new} new tokens, eos_id={eos_id}"
    check.that(len(saw) == len(prompts), saw=f"{len(saw)} rows came back", given=how)
    for index, (row, prompt) in enumerate(zip(saw, prompts, strict=True)):
        want = reference.generate_naive(params, prompt[None], new)[0]
        ends = np.flatnonzero(want == eos_id) + 1
        want = want[: ends[0]] if len(ends) else want
        check.equal(row, want, what=f"tokens of row {index}", given=how)


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
    params, rows, words = make(reference, 4, [2, 5])
    ids, lengths, tokens = pad(rows), np.array([2, 5]), np.array([7, 8])
    cache = solution.KVCache(params, batch=2, capacity=9)

    with check.unchanged(given=f"prefill, {words}", ids=ids, lengths=lengths, params=params):
        solution.prefill(params, ids, cache, lengths=lengths)
    with check.unchanged(given=f"decode, {words}", tokens=tokens, params=params):
        solution.decode(params, tokens, cache)
    with check.unchanged(given="generate, ids (2, 5)", ids=ids, params=params):
        solution.generate(params, ids, 4)
    with check.unchanged(given=f"generate_batch, {words}", prompts=rows, params=params):
        solution.generate_batch(params, rows, 4, eos_id=1)


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
