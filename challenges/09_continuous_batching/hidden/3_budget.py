"""Stage 3: a bound on the tokens of a step, and prompts in chunks."""

from pytest_llmgrind import check, given, rule, st

from . import engine, scenes

LIMITS = st.sampled_from([(3, 8), (2, 5), (4, 4), (3, 3), (1, 1), (4, 16), (2, 30)])
NO_LIMIT = float("inf")


def drawn(seed, *, n=7, prompt=20, output=6, span=10):
    return scenes.draw(seed, n=n, prompt=prompt, output=output, span=span)


def serve(solution, requests, limits, threshold=None):
    seats, budget = limits
    return scenes.serve(
        solution,
        requests,
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        long_prefill_token_threshold=threshold,
    )


def check_chunks(log, limits, threshold=NO_LIMIT):
    """What decodes leave goes to prompts in the order added, until it or the seats are used up."""
    seats, budget = limits
    for step in log.steps:
        rest = budget - sum(n for id, n in step.tokens.items() if id in step.decoding)
        free = seats - len(step.running)
        for id in step.prompts:
            seated = step.computed[id] > 0 or free > 0
            can = min(step.left(id), threshold, rest) if seated else 0
            free -= not step.computed[id] and can > 0
            got = step.tokens.get(id, 0)
            if got != can:
                saw = f"request {id} has {step.left(id)} tokens left and is given {got}"
                some = rest if rest < NO_LIMIT else "any number"
                log.refuse(step, f"{saw}, and those before it leave {some} of the budget")
            rest -= got


@rule("R18")
@given(limits=LIMITS, seed=scenes.SEEDS)
def test_a_step_stays_within_the_token_budget(solution, limits, seed):
    log = serve(solution, drawn(seed), limits)

    engine.within_budget(log, limits[1])


@rule("R18")
@given(limits=LIMITS, seed=scenes.SEEDS)
def test_chunks_of_a_prompt_add_up_to_it(solution, limits, seed):
    requests = drawn(seed)

    log = serve(solution, requests, limits)

    engine.all_that_was_needed(log, requests)


@rule("R7")
@given(limits=LIMITS, threshold=st.sampled_from([None, 2, 5]), seed=scenes.SEEDS)
def test_who_gets_no_token_is_not_in_the_plan(solution, limits, threshold, seed):
    log = serve(solution, drawn(seed), limits, threshold)

    engine.in_order(log)


@rule("R8")
@given(limits=LIMITS, threshold=st.sampled_from([None, 2, 5]), seed=scenes.SEEDS)
def test_a_prompt_that_is_not_complete_has_a_seat(solution, limits, threshold, seed):
    log = serve(solution, drawn(seed), limits, threshold)

    engine.within_seats(log, limits[0])


@rule("R10")
@given(limits=LIMITS, threshold=st.sampled_from([None, 2, 5]), seed=scenes.SEEDS)
def test_a_short_prompt_does_not_begin_before_a_long_one(solution, limits, threshold, seed):
    log = serve(solution, drawn(seed), limits, threshold)

    engine.in_the_order_added(log)


@rule("R11")
@given(limits=LIMITS, threshold=st.sampled_from([None, 3]), seed=scenes.SEEDS)
def test_no_prompt_makes_a_decode_wait(solution, limits, threshold, seed):
    log = serve(solution, drawn(seed, output=10), limits, threshold)

    engine.decodes_all_run(log)


@rule("R19")
@given(limits=LIMITS, seed=scenes.SEEDS)
def test_prompts_use_up_what_decodes_leave(solution, limits, seed):
    log = serve(solution, drawn(seed), limits)

    check_chunks(log, limits)


@rule("R20")
@given(limits=LIMITS, threshold=st.sampled_from([3, 1, 2, 7]), seed=scenes.SEEDS)
def test_a_long_prompt_leaves_some_of_the_budget_to_those_behind_it(
    solution, limits, threshold, seed
):
    log = serve(solution, drawn(seed), limits, threshold)

    for step in log.steps:
        for id, n in step.tokens.items():
            if n > threshold:
                saw = f"request {id} is given {n} tokens"
                log.refuse(step, f"{saw}, over long_prefill_token_threshold={threshold}")
    check_chunks(log, limits, threshold)


@rule("R20")
@given(threshold=st.sampled_from([4, 1, 9]), prompt=st.integers(20, 30), seats=st.integers(1, 3))
def test_the_threshold_needs_no_token_budget(solution, threshold, prompt, seats):
    requests = [engine.Request(id, 0, prompt + id, 2, 2) for id in range(3)]

    log = scenes.serve(
        solution, requests, max_num_seqs=seats, long_prefill_token_threshold=threshold
    )

    check_chunks(log, (seats, NO_LIMIT), threshold)


@rule("R6")
@given(
    case=st.sampled_from(
        [
            ("max_num_batched_tokens", {"max_num_seqs": 3, "max_num_batched_tokens": 2}),
            ("max_num_batched_tokens", {"max_num_seqs": 1, "max_num_batched_tokens": 0}),
            (
                "long_prefill_token_threshold",
                {"max_num_seqs": 2, "long_prefill_token_threshold": 0},
            ),
            (
                "long_prefill_token_threshold",
                {
                    "max_num_seqs": 2,
                    "max_num_batched_tokens": 4,
                    "long_prefill_token_threshold": -1,
                },
            ),
        ]
    )
)
def test_a_budget_has_room_for_every_seat(solution, case):
    name, limits = case
    how = ", ".join(f"{key}={value}" for key, value in limits.items())
    make = solution.Scheduler
    check.raises(ValueError, make, **limits, names=name, what="Scheduler", given=how)


@rule("R21")
def test_a_long_prompt_stalls_nobody(count):
    limits = {"max_num_seqs": 16, "max_num_batched_tokens": 256}
    count(lambda impl: scenes.serve_recorded(impl, **limits).longest_gap // 1_000)
