"""Stage 1: batches that nobody enters and nobody leaves."""

from pytest_llmgrind import check, given, rule, st

from . import engine, scenes

SEATS = st.sampled_from([3, 2, 1, 4])


def times(report, requests, given):
    """Times of the tokens of each request, once there are as many as tokens."""
    rows = report.token_us
    check.that(
        isinstance(rows, list) and len(rows) == len(requests),
        saw=f"token_us is {type(rows).__name__}, wanted a list with a row for each request",
        given=given,
        value=rows,
    )
    lengths = [len(row) for row in rows]
    want = [request.output_len for request in requests]
    check.equal(lengths, want, what="lengths of the rows of token_us", given=given)
    return rows


def compare(solution, reference, requests, seats):
    """What the solution and the reference report, and the words for the input."""
    how = f"max_num_seqs={seats}, {engine.words(requests)}"
    saw = solution.static_batching(scenes.theirs(solution, requests), max_num_seqs=seats)
    want = reference.static_batching(scenes.theirs(reference, requests), max_num_seqs=seats)
    return saw, want, how


def shuffled(requests, seed):
    """The same requests, listed in another order than they arrive in."""
    return [requests[i] for i in scenes.order(seed, len(requests))]


@rule("R1")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_a_batch_takes_who_has_arrived_in_order_of_arrival(solution, reference, seats, seed):
    requests = scenes.draw(seed, n=7, prompt=3, output=1, span=60_000)
    requests = shuffled(scenes.at_equal_times(requests), seed)

    saw, want, how = compare(solution, reference, requests, seats)

    first = [row[0] for row in times(saw, requests, how)]
    check.equal(first, [row[0] for row in want.token_us], what="time of the first token", given=how)


@rule("R2")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_a_row_gets_a_token_a_step_until_its_output_is_complete(solution, reference, seats, seed):
    requests = scenes.draw(seed, n=max(1, seats - 1), prompt=6, output=6, span=0)

    saw, want, how = compare(solution, reference, requests, seats)

    check.equal(times(saw, requests, how), want.token_us, what="token_us", given=how)


@rule("R3")
@given(seats=SEATS, span=st.sampled_from([0, 30_000, 200_000]), seed=scenes.SEEDS)
def test_the_next_batch_begins_when_the_longest_output_is_complete(
    solution, reference, seats, span, seed
):
    requests = scenes.draw(seed, n=8, prompt=6, output=5, span=span)

    saw, want, how = compare(solution, reference, requests, seats)

    check.equal(times(saw, requests, how), want.token_us, what="token_us", given=how)


@rule("R3")
@given(gap=st.sampled_from([1_000_000, 20_400, 20_399, 20_401]), seed=scenes.SEEDS)
def test_an_idle_engine_goes_on_at_the_next_arrival(solution, reference, gap, seed):
    requests = scenes.draw(seed, n=3, prompt=4, output=1, span=0)
    requests = [scenes.later(request, (i + 1) * gap) for i, request in enumerate(requests)]

    saw, want, how = compare(solution, reference, requests, 2)

    check.equal(times(saw, requests, how), want.token_us, what="token_us", given=how)
    check.equal(saw.steps, want.steps, what="steps", given=how)


@rule("R4")
@given(seats=SEATS, span=st.sampled_from([0, 30_000, 200_000]), seed=scenes.SEEDS)
def test_rows_that_serve_nobody_are_padding(solution, reference, seats, span, seed):
    requests = scenes.draw(seed, n=7, prompt=9, output=7, span=span)

    saw, want, how = compare(solution, reference, requests, seats)

    for name in ("steps", "computed_tokens", "padded_tokens"):
        check.equal(getattr(saw, name), getattr(want, name), what=name, given=how)


@rule("R4")
@given(seats=SEATS, prompt=st.integers(1, 9), output=st.integers(1, 9))
def test_equal_lengths_need_no_padding(solution, seats, prompt, output):
    requests = [engine.Request(id, 0, prompt, output, output) for id in range(seats)]
    how = f"max_num_seqs={seats}, {engine.words(requests)}"

    saw = solution.static_batching(scenes.theirs(solution, requests), max_num_seqs=seats)

    check.equal(saw.padded_tokens, 0, what="padded_tokens", given=how)
    useful = seats * (prompt + output - 1)
    check.equal(saw.computed_tokens, useful, what="computed_tokens", given=how)


@rule("R4")
def test_no_requests_take_no_step(solution):
    saw = solution.static_batching([], max_num_seqs=2)

    figures = [saw.steps, saw.computed_tokens, saw.padded_tokens, saw.token_us]
    check.equal(figures, [0, 0, 0, []], what="the report", given="no requests")


@rule("R5")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_the_list_is_left_as_it_is_and_reported_in_its_order(solution, seats, seed):
    drawn = scenes.draw(seed, n=6, prompt=6, output=8, span=60_000)
    requests = shuffled(drawn, seed)
    how = f"max_num_seqs={seats}, {engine.words(requests)}"
    listed = scenes.theirs(solution, requests)

    report = solution.static_batching(listed, max_num_seqs=seats)

    after = [request.request_id for request in listed]
    check.equal(after, [request.id for request in requests], what="ids in the list", given=how)
    lengths = [len(row) for row in report.token_us]
    want = [request.output_len for request in requests]
    check.equal(lengths, want, what="lengths of the rows of token_us", given=how)


@rule("R6")
@given(seats=st.sampled_from([0, -1]))
def test_static_batching_needs_a_seat(solution, seats):
    requests = scenes.theirs(solution, scenes.draw(0, n=2, prompt=3, output=3, span=0))
    check.raises(
        ValueError,
        solution.static_batching,
        requests,
        max_num_seqs=seats,
        names="max_num_seqs",
        what="static_batching",
        given=f"max_num_seqs={seats}",
    )
