"""Stage 4: a bound on the slots of the cache, preemption, and nobody who starves."""

from pytest_llmgrind import check, given, rule, st

from . import engine, scenes

FEW = 8  # each of these traces takes some 200 steps
# Traces on which most mistakes show, and no two of them alike on the first.
SEEDS = st.sampled_from([14, 8, 41, 53, 7, 25, 2, 27])
TIGHT = {"max_num_seqs": 6, "max_num_batched_tokens": 16}
TRACE = {"max_num_batched_tokens": 256, "kv_slots": 3_200}


def serve_tight(solution, seed, **limits):
    requests, kv_slots = scenes.tight(seed)
    return scenes.serve(solution, requests, **{**TIGHT, **limits}, kv_slots=kv_slots), kv_slots


@rule("R22")
@given(seed=SEEDS, max_examples=FEW)
def test_slots_in_use_stay_within_kv_slots(solution, seed):
    log, kv_slots = serve_tight(solution, seed)

    engine.within_slots(log, kv_slots)


@rule("R7")
@given(seed=SEEDS, max_examples=FEW)
def test_who_is_preempted_takes_no_part_in_the_step(solution, seed):
    log, _ = serve_tight(solution, seed)

    engine.in_order(log)


@rule("R8")
@given(seed=SEEDS, max_examples=FEW)
def test_who_resumes_takes_a_seat(solution, seed):
    log, _ = serve_tight(solution, seed, max_num_seqs=3)

    engine.within_seats(log, 3)


@rule("R18")
@given(seed=SEEDS, max_examples=FEW)
def test_who_resumes_is_within_the_token_budget(solution, seed):
    log, _ = serve_tight(solution, seed)

    engine.within_budget(log, TIGHT["max_num_batched_tokens"])


@rule("R23")
@given(seed=SEEDS, max_examples=FEW)
def test_who_begins_or_resumes_fits_with_all_its_tokens(solution, seed):
    log, kv_slots = serve_tight(solution, seed)

    for step in log.steps:
        known = sum(step.known[id] for id in step.running)
        for id in [id for id in step.known if id in step.tokens and not step.computed[id]]:
            known += step.known[id]
            if known > kv_slots:
                saw = f"request {id} with {step.known[id]} tokens begins beside requests"
                others = f"that know {known - step.known[id]} tokens"
                log.refuse(step, f"{saw} {others}, and there are {kv_slots} slots")


@rule("R10")
@given(seed=SEEDS, max_examples=FEW)
def test_who_was_added_last_is_preempted_first(solution, seed):
    log, _ = serve_tight(solution, seed)

    engine.in_the_order_added(log)


@rule("R11")
@given(seed=SEEDS, max_examples=FEW)
def test_who_is_not_preempted_goes_on_decoding(solution, seed):
    log, _ = serve_tight(solution, seed)

    engine.decodes_all_run(log)


@rule("R24")
@given(seed=SEEDS, max_examples=FEW)
def test_nobody_is_preempted_without_need(solution, seed):
    log, kv_slots = serve_tight(solution, seed)

    for step in [step for step in log.steps if step.preempted]:
        first = next(id for id in step.known if id in step.preempted)
        others = sum(step.known[id] for id in step.running)
        if others + step.known[first] <= kv_slots:
            saw = f"request {first} with {step.known[first]} tokens is preempted"
            log.refuse(step, f"{saw}, and those who go on know {others}, in {kv_slots} slots")


@rule("R25")
@given(seed=SEEDS, max_examples=FEW)
def test_who_resumes_computes_all_its_tokens_as_one_prompt(solution, seed):
    log, _ = serve_tight(solution, seed, long_prefill_token_threshold=9)

    for step in log.steps:
        rest = TIGHT["max_num_batched_tokens"] - len(step.decoding)
        for id in step.begun:
            got, can = step.tokens.get(id, 0), min(step.left(id), rest, 9)
            if got != can and step.longest[id] > step.computed[id]:
                saw = f"request {id}, which was preempted, has {step.left(id)} tokens left"
                log.refuse(step, f"{saw} and is given {got}, and {rest} of the budget are left")
            rest -= got


@rule("R26")
@given(seed=SEEDS, seats=st.sampled_from([6, 3]), max_examples=FEW)
def test_the_oldest_request_advances_in_every_step(solution, seats, seed):
    log, _ = serve_tight(solution, seed, max_num_seqs=seats)

    for step in log.steps:
        oldest = next(iter(step.known))
        if oldest not in step.tokens:
            how = "is preempted" if oldest in step.preempted else "is given no token"
            log.refuse(step, f"request {oldest}, the first of those unfinished, {how}")


@rule("R26")
@given(size=st.sampled_from([40, 25, 32]), every=st.sampled_from([1, 2]), max_examples=6)
def test_a_stream_of_short_requests_does_not_starve_a_long_one(solution, size, every):
    """The long one needs all slots; short ones come as long as it has not ended."""
    requests = [engine.Request(id, 0, 3, 8, 12) for id in range(4)]
    requests.append(engine.Request(50, 1, size, min(8, 41 - size), 41 - size))
    short = [engine.Request(100 + i, 1 + i * every, 2, 6, 10) for i in range(60)]
    how = f"{engine.words(requests)}, and behind them 60 of {engine.words(short[:2])} and so on"
    requests += short
    limits = {"max_num_seqs": 6, "max_num_batched_tokens": 8, "kv_slots": 40}

    log = scenes.serve(solution, requests, **limits, told=how)

    early = [id for id in log.times if id >= 100 and log.times[id][0] < log.times[50][0]]
    saw = f"requests {early[:3]} had a first token before request 50, which was added before them"
    check.that(not early, saw=saw, given=how, value=log.plans)


@rule("R27")
@given(
    n=st.sampled_from([6, 2, 3, 1]),
    seats=st.sampled_from([3, 2, 5]),
    budget=st.sampled_from([7, 12, None]),
    seed=scenes.SEEDS,
)
def test_slots_for_everybody_change_nothing(solution, n, seats, budget, seed):
    requests = scenes.draw(seed, n=n, prompt=15, output=5, span=0, spare=30)
    limits = {"max_num_seqs": seats, "max_num_batched_tokens": budget}
    enough = sum(request.prompt_len + request.max_tokens for request in requests)

    without = scenes.serve(solution, requests, **limits)
    log = scenes.serve(solution, requests, **limits, kv_slots=enough)

    for step, free in zip(log.steps, without.steps, strict=False):
        if (step.tokens, step.preempted) != (free.tokens, free.preempted):
            saw = f"the plan is {step.tokens}, and without kv_slots {free.tokens}"
            log.refuse(step, saw)


@rule("R28")
@given(prompt=st.integers(1, 12), max_tokens=st.integers(1, 12), others=st.integers(0, 2))
def test_a_request_that_just_fits_is_served(solution, prompt, max_tokens, others):
    requests = [engine.Request(i, 0, 1, 1, 1) for i in range(others)]
    requests.append(engine.Request(9, 0, prompt, max_tokens, max_tokens))
    limits = {"max_num_seqs": 2, "max_num_batched_tokens": 4}

    log = scenes.serve(solution, requests, **limits, kv_slots=prompt + max_tokens - 1)

    engine.within_slots(log, prompt + max_tokens - 1)


@rule("R28")
@given(prompt=st.integers(1, 12), max_tokens=st.integers(1, 12))
def test_a_request_that_can_never_fit_is_refused(solution, prompt, max_tokens):
    kv_slots = prompt + max_tokens - 1
    scheduler, text = scenes.scheduler(solution, max_num_seqs=2, kv_slots=kv_slots)
    how = f"{text}, a request of {prompt} tokens with max_tokens={max_tokens + 1}"

    for arguments in ((4, prompt, max_tokens + 1), (4, prompt + 1, max_tokens)):
        add = scheduler.add_request
        check.raises(ValueError, add, *arguments, names="kv_slots", what="add_request", given=how)

    engine.check_plans(scheduler.schedule(), ({}, []), what="the plan after it", given=how)
    scheduler.add_request(4, prompt, max_tokens)
    engine.check_plans(
        scheduler.schedule(), ({4: prompt}, []), what="a plan of one that fits", given=how
    )


@rule("R12")
@given(ran=st.integers(1, 14), first=st.sampled_from([1, 2]), prompt=st.sampled_from([5, 3, 8]))
def test_slots_of_a_request_that_is_given_up_are_free(solution, ran, first, prompt):
    scheduler, text = scenes.scheduler(solution, max_num_seqs=3, kv_slots=20)
    how = f"{text}, requests 1 and 2 with {prompt} tokens and max_tokens=12, {ran} plans"
    how = f"{how}, finish([{first}]), finish([{3 - first}]), a request 3 that needs all slots"
    scheduler.add_request(1, prompt, 12)
    scheduler.add_request(2, prompt, 12)
    for _ in range(ran):
        scheduler.schedule()
    scheduler.finish([first])
    scheduler.finish([3 - first])
    scheduler.add_request(3, 19, 2)

    saw = [scheduler.schedule(), scheduler.schedule()]

    engine.check_plans(saw, [({3: 19}, []), ({3: 1}, [])], what="the next two plans", given=how)


@rule("R12")
@given(seed=SEEDS, max_examples=4)
def test_who_is_preempted_can_be_given_up(solution, seed):
    log, kv_slots = serve_tight(solution, seed)
    gone = next((step for step in log.steps if step.preempted), None)
    if gone is None:
        return  # whoever never preempts has nobody to give up
    requests, _ = scenes.tight(seed)

    cancelled = {gone.number + 1: gone.preempted}
    scenes.serve(solution, requests, **TIGHT, kv_slots=kv_slots, cancelled=cancelled)


@rule("R14")
@given(seats=st.sampled_from([3, 2]), seed=scenes.SEEDS, max_examples=20)
def test_bounds_are_those_of_one_scheduler(solution, seats, seed):
    requests = scenes.draw(seed, n=5, prompt=6, output=6, span=0)
    narrow = {"max_num_seqs": seats, "max_num_batched_tokens": 4, "kv_slots": 14}
    narrow["long_prefill_token_threshold"] = 2

    scenes.take_turns(solution, requests, {"max_num_seqs": seats}, narrow)


@rule("R14")
@given(seed=SEEDS, max_examples=2)
def test_whom_a_plan_preempts_stays_as_it_was_said(solution, seed):
    requests, kv_slots = scenes.tight(seed)
    made, text = scenes.scheduler(solution, **TIGHT, kv_slots=kv_slots)
    kept = scenes.Kept(made)

    engine.run(kept, requests, given=f"{text}, {engine.words(requests)}")

    for number, (now, then) in enumerate(zip(kept.plans, kept.were, strict=True)):
        what = f"the plan of step {number}, at the end,"
        engine.check_plans(now, then, what=what, given=f"{text}, {engine.words(requests)}")


@rule("R6")
@given(kv_slots=st.sampled_from([0, -5]))
def test_a_cache_has_a_slot(solution, kv_slots):
    check.raises(
        ValueError,
        solution.Scheduler,
        max_num_seqs=2,
        kv_slots=kv_slots,
        names="kv_slots",
        what="Scheduler",
        given=f"max_num_seqs=2, kv_slots={kv_slots}",
    )


@rule("R29")
def test_a_half_empty_cache_makes_nobody_wait(count):
    count(lambda impl: scenes.serve_recorded(impl, max_num_seqs=16, **TRACE).mean_wait // 1_000)


@rule("R30")
def test_little_is_computed_twice(count):
    def recomputed(impl):
        log = scenes.serve_recorded(impl, max_num_seqs=64, **TRACE)
        return sum(step.recomputed for step in log.steps)

    count(recomputed)
