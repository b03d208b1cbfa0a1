"""Stage 2: who runs is decided anew in every step."""

from pytest_llmgrind import check, given, rule, st

from . import engine, scenes

SEATS = st.sampled_from([3, 2, 4, 1])
NOTHING = ({}, [])
TRACE = {"max_num_seqs": 16}


def drawn(seed, *, n=8, prompt=6, output=6, span=12):
    return scenes.draw(seed, n=n, prompt=prompt, output=output, span=span)


@rule("R7")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_every_request_gets_its_tokens_and_no_more(solution, seats, seed):
    requests = drawn(seed)

    log = scenes.serve(solution, requests, max_num_seqs=seats)

    engine.in_order(log)
    for step in log.steps:
        if step.preempted:
            saw = f"requests {sorted(step.preempted)} are preempted, and slots have no bound"
            log.refuse(step, saw)
    engine.all_that_was_needed(log, requests)


@rule("R9")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_a_prompt_is_computed_in_one_step(solution, seats, seed):
    log = scenes.serve(solution, drawn(seed, prompt=9, output=3), max_num_seqs=seats)

    for step in log.steps:
        for id, n in step.tokens.items():
            if n != step.left(id):
                saw = f"request {id} has {step.left(id)} tokens left and is given {n}"
                log.refuse(step, f"{saw}, without a bound on the tokens of a step")


@rule("R8")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_no_more_than_max_num_seqs_run(solution, seats, seed):
    log = scenes.serve(solution, drawn(seed), max_num_seqs=seats)

    engine.within_seats(log, seats)


@rule("R9")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_no_seat_stays_empty_while_a_request_waits(solution, seats, seed):
    log = scenes.serve(solution, drawn(seed), max_num_seqs=seats)

    engine.all_in_the_plan(log, seats)


@rule("R10")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_requests_begin_in_the_order_in_which_they_were_added(solution, seats, seed):
    log = scenes.serve(solution, drawn(seed, prompt=12, output=4), max_num_seqs=seats)

    engine.in_the_order_added(log)


@rule("R11")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_who_has_begun_is_in_every_plan_until_it_ends(solution, seats, seed):
    log = scenes.serve(solution, drawn(seed, prompt=4, output=9), max_num_seqs=seats)

    engine.decodes_all_run(log)


@rule("R12")
@given(seats=SEATS, at=st.integers(1, 5), seed=scenes.SEEDS)
def test_a_request_that_is_given_up_leaves_its_seat_or_the_queue(solution, seats, at, seed):
    requests = drawn(seed, span=3)
    gone = [request.id for request in requests[-2::-3]]  # who came last is named first

    log = scenes.serve(solution, requests, max_num_seqs=seats, cancelled={at: gone})

    engine.all_in_the_plan(log, seats)


@rule("R12")
@given(other=st.integers(1, 6), ran=st.integers(1, 3))
def test_an_id_that_comes_again_is_a_new_request(solution, other, ran):
    scheduler, text = scenes.scheduler(solution, max_num_seqs=3)
    how = f"{text}, requests 7 and 8 with 4 and 2 tokens, {ran} plans"
    how = f"{how}, finish([7]), request 7 anew with {other} tokens, request 9 with 3"
    scheduler.add_request(7, 4, 9)
    scheduler.add_request(8, 2, 9)
    for _ in range(ran):
        scheduler.schedule()
    scheduler.finish([7])
    scheduler.add_request(7, other, 9)
    scheduler.add_request(9, 3, 9)

    saw = [scheduler.schedule(), scheduler.schedule()]

    want = [({8: 1, 7: other, 9: 3}, []), ({8: 1, 7: 1, 9: 1}, [])]
    engine.check_plans(saw, want, what="the next two plans", given=how)


@rule("R13")
@given(idle=st.integers(1, 3))
def test_without_requests_the_plan_is_empty(solution, idle):
    how = f"schedule called {idle} times without requests, one of 3 tokens served, and so again"
    scheduler, _ = scenes.scheduler(solution, max_num_seqs=2)

    saw = [scheduler.schedule() for _ in range(idle)]
    scheduler.add_request(5, 3, 4)
    first = scheduler.schedule()
    scheduler.finish([5])
    saw += [scheduler.schedule() for _ in range(idle)]

    engine.check_plans(saw, [NOTHING] * 2 * idle, what="the plans without requests", given=how)
    engine.check_plans(first, ({5: 3}, []), what="the plan between them", given=how)


@rule("R14")
@given(seats=st.sampled_from([3, 2, 4]), seed=scenes.SEEDS, max_examples=20)
def test_schedulers_are_independent(solution, seats, seed):
    requests = drawn(seed, n=5)

    scenes.take_turns(solution, requests, {"max_num_seqs": seats}, {"max_num_seqs": 1})


@rule("R14")
@given(seats=SEATS, seed=scenes.SEEDS)
def test_a_plan_that_was_returned_is_nobodys_business(solution, seats, seed):
    requests = [(request.id, request.prompt_len) for request in drawn(seed, n=5)]
    words = ", ".join(f"{id} with {prompt} tokens" for id, prompt in requests)
    how = f"max_num_seqs={seats}, requests {words}, 3 plans"
    scheduler = solution.Scheduler(max_num_seqs=seats)
    for id, prompt in requests:
        scheduler.add_request(id, prompt, 9)
    first = dict(requests[:seats])

    kept = scheduler.schedule()
    second = scheduler.schedule()
    engine.check_plans(kept, (first, []), what="the first plan, after the second,", given=how)
    for tokens, preempted in (kept, second):
        tokens.clear()
        preempted.append(-1)
    third = scheduler.schedule()

    want = (dict.fromkeys(first, 1), [])
    told = f"{how}, the first two emptied before the third"
    engine.check_plans(third, want, what="the third plan", given=told)


@rule("R6")
@given(seats=st.sampled_from([0, -3]))
def test_a_scheduler_needs_a_seat(solution, seats):
    check.raises(
        ValueError,
        solution.Scheduler,
        max_num_seqs=seats,
        names="max_num_seqs",
        what="Scheduler",
        given=f"max_num_seqs={seats}",
    )


@rule("R6")
@given(
    case=st.sampled_from(
        [
            ("request_id", (3, 2, 2)),
            ("prompt_len", (4, 0, 2)),
            ("prompt_len", (4, -2, 2)),
            ("max_tokens", (4, 2, 0)),
        ]
    )
)
def test_a_refused_request_changes_nothing(solution, case):
    name, arguments = case
    how = f"request 3 with 5 tokens added, then add_request{arguments}"
    scheduler, _ = scenes.scheduler(solution, max_num_seqs=2)
    scheduler.add_request(3, 5, 2)

    add = scheduler.add_request
    check.raises(ValueError, add, *arguments, names=name, what="add_request", given=how)

    engine.check_plans(scheduler.schedule(), ({3: 5}, []), what="the plan after it", given=how)


@rule("R6")
@given(ids=st.sampled_from([[9], [3, 9], [9, 3]]))
def test_finishing_who_is_not_served_changes_nothing(solution, ids):
    how = f"requests 3 and 4 with 5 tokens each, then finish({ids})"
    scheduler, _ = scenes.scheduler(solution, max_num_seqs=2)
    scheduler.add_request(3, 5, 2)
    scheduler.add_request(4, 5, 2)

    check.raises(ValueError, scheduler.finish, ids, names="request_ids", what="finish", given=how)

    engine.check_plans(
        scheduler.schedule(), ({3: 5, 4: 5}, []), what="the plan after it", given=how
    )


@rule("R15")
def test_seats_that_are_refilled_save_steps(count):
    count(lambda impl: len(scenes.serve_recorded(impl, **TRACE).steps))


@rule("R16")
def test_few_rows_are_padding(count):
    def empty_rows(impl):
        steps = scenes.serve_recorded(impl, **TRACE).steps
        return sum(TRACE["max_num_seqs"] - len(step.tokens) for step in steps)

    count(empty_rows)


@rule("R17")
def test_the_first_token_comes_early(count):
    count(lambda impl: scenes.serve_recorded(impl, **TRACE).mean_wait // 1_000)
