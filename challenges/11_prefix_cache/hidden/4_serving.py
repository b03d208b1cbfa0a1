"""Stage 4: requests are admitted, computed and finished, and every slot comes back."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import several, sizes
from .serving import FINISH, PROMPTS, STEP, SUBMIT, Serving

OPS = several(SUBMIT, SUBMIT, STEP, STEP, FINISH, least=8, most=24)
ONE_BY_ONE = st.lists(st.tuples(PROMPTS, st.integers(1, 3)), min_size=2, max_size=6)


@rule("R20")
@given(requests=ONE_BY_ONE)
def test_only_what_is_not_cached_is_computed(solution, requests):
    serving, cached = Serving(solution, capacity=64, max_running=1), set()

    for number, (prompt, max_new) in enumerate(requests):
        serving.play([("submit", prompt, max_new), ("step",)])
        want = 0
        while want < len(prompt) - 1 and tuple(prompt[: want + 1]) in cached:
            want += 1
        serving.start(number, want)
        serving.play([("finish", 0, max_new)])
        whole = [*prompt, *[1] * (max_new - 1)]
        cached |= {tuple(whole[: n + 1]) for n in range(len(whole))}


@rule("R20")
@given(prompt=PROMPTS, times=st.integers(2, 3))
def test_the_last_token_of_a_cached_prompt_is_computed(solution, prompt, times):
    serving = Serving(solution, capacity=20, max_running=1)

    for number in range(times):
        serving.play([("submit", prompt, 1), ("step",), ("finish", 0, 1)])
        serving.start(number, len(prompt) - 1 if number else 0)


@rule("R20")
@given(prompt=PROMPTS)
def test_what_was_evicted_in_the_same_step_is_computed_again(solution, prompt):
    prompt = [5, *prompt]
    serving = Serving(solution, capacity=len(prompt) + 4, max_running=3)
    serving.play([("submit", prompt, 1), ("step",), ("finish", 0, 1)])
    serving.play([("submit", [6, 6, 6], 1), ("step",), ("finish", 0, 1)])

    # One slot is free: for the second of these a token of the oldest prompt has to go.
    serving.play([("submit", [7, 7], 1), ("submit", [*prompt, 8], 1), ("step",)])

    serving.start(3, len(prompt) - 1)
    serving.check("read")


@rule("R21")
@given(ops=OPS, max_running=st.integers(1, 3))
def test_what_a_request_reads_has_been_computed_and_is_there(solution, ops, max_running):
    Serving(solution, max_running=max_running).play(ops).check("batch", "read")


@rule("R21")
@given(prompt=PROMPTS, more=PROMPTS, same=st.integers(2, 3))
def test_prompts_of_one_step_do_not_read_from_each_other(solution, prompt, more, same):
    room = same * (len(prompt) + 1) + len(prompt) + len(more)
    serving = Serving(solution, capacity=room, max_running=5)
    serving.play([("submit", prompt, 2)] * same)
    serving.play([("submit", [*prompt, *more], 1), ("step",)])
    serving.check("batch", "read")

    # What was computed twice is free again, and goes to others.
    serving.play([("submit", [7, *more[1:]], 1), ("step",), ("submit", [8], 1), ("step",)])
    serving.check("batch", "read")


@rule("R21")
@given(prompt=PROMPTS, max_new=st.integers(1, 2))
def test_a_running_request_keeps_what_it_computed(solution, prompt, max_new):
    serving = Serving(solution, capacity=len(prompt) + 5, max_running=3)
    serving.play([("submit", prompt, max_new), ("step",), ("submit", [9] * 6, 1), ("step",)])

    serving.check("batch", "read")


@rule("R22")
@given(prompt=PROMPTS, max_new=st.integers(1, 5), count=st.integers(1, 5))
def test_the_next_turn_finds_all_but_the_last_token(solution, prompt, max_new, count):
    serving, count = Serving(solution, capacity=40, max_running=1), min(count, max_new)
    serving.play([("submit", prompt, max_new), ("step",), ("finish", 0, count)])
    serving.play([("submit", [*prompt, *[1] * count, 0, 1], 1), ("step",)])

    serving.start(1, len(prompt) + count - 1)


@rule("R23")
@given(ops=OPS, max_running=st.integers(1, 3))
def test_every_slot_is_free_cached_or_kept_for_an_output(solution, ops, max_running):
    Serving(solution, max_running=max_running).play(ops).check("lost")


@rule("R23")
@given(prompts=st.lists(PROMPTS, min_size=1, max_size=4), max_new=st.integers(1, 3))
def test_an_idle_engine_has_no_locks_and_no_lost_slots(solution, prompts, max_new):
    serving = Serving(solution, capacity=30, max_running=2)
    serving.play([("submit", [*prompt, *prompt], max_new) for prompt in prompts])
    for _ in range(2 * len(prompts)):
        serving.play([("step",), ("finish", 0, 1), ("finish", 0, max_new)])

    engine = serving.engine
    free, (evictable, protected) = engine.free_slots, sizes(engine.cache)
    saw = f"at the end {free} slots are free, {evictable} evictable and {protected} protected"
    serving.that(protected == 0 and free + evictable == 30, saw)


@rule("R23")
@given(prompt=PROMPTS)
def test_a_request_that_was_refused_holds_nothing(solution, prompt):
    P = len(prompt)
    serving = Serving(solution, capacity=P + 4, max_running=2)
    serving.play([("submit", prompt, 1), ("step",), ("finish", 0, 1)])
    serving.play([("submit", [9] * 3, 1), ("step",), ("submit", [*prompt, 8, 8, 8], 1)])

    for _ in range(2):
        saw = sizes(serving.engine.cache)
        text = f"(evictable_size, protected_size) is {saw}, which is not right"
        serving.that(saw == (P, 3), text)
        serving.step()


@rule("R24")
@given(ops=OPS, max_running=st.integers(1, 3))
def test_requests_are_admitted_in_turn_as_long_as_they_fit(solution, reference, ops, max_running):
    saw, want = (Serving(impl, max_running=max_running) for impl in (solution, reference))
    for op in ops:
        want.play([op])
        if op[0] != "step":
            saw.play([op])
            continue
        saw.ids(want.steps[-1])


@rule("R24")
@given(shared=st.integers(1, 6), own=st.integers(1, 3))
def test_what_a_request_reuses_is_not_evicted_for_it(solution, shared, own):
    first, second = list(range(shared)), [9] * 3
    serving = Serving(solution, capacity=shared + own + 3, max_running=2)
    serving.play([("submit", first, 1), ("step",), ("finish", 0, 1)])
    serving.play([("submit", second, own + 2), ("step",)])  # leaves no room beside the first
    serving.play([("submit", [*first, 8, 8], 1)])

    serving.ids([])
    serving.check("batch", "read", "lost")


@rule("R24")
@given(prompt=PROMPTS, spare=st.integers(0, 2))
def test_a_request_that_just_fits_is_admitted(solution, prompt, spare):
    serving = Serving(solution, capacity=len(prompt) + 3 + spare, max_running=4)
    serving.play([("submit", [8], 1), ("step",), ("finish", 0, 1)])  # one to evict
    serving.play([("submit", [9], 1), ("step",), ("submit", prompt, 3)])

    serving.ids([2])
    serving.check("batch", "read", "lost")


@rule("R24")
@given(prompts=st.lists(PROMPTS, min_size=3, max_size=5), max_running=st.integers(1, 3))
def test_no_more_than_max_running_run_at_once(solution, prompts, max_running):
    serving = Serving(solution, capacity=60, max_running=max_running)
    serving.play([("submit", prompt, 1) for prompt in prompts])
    ids = list(range(len(prompts)))

    serving.ids(ids[:max_running])
    serving.ids([])
    serving.play([("finish", 0, 1)])
    serving.ids(ids[max_running : max_running + 1])


@rule("R24")
@given(big=PROMPTS, small=PROMPTS)
def test_nobody_overtakes_a_request_that_does_not_fit(solution, big, small):
    big = [7, *big, *small]
    serving = Serving(solution, capacity=len(big) + 1, max_running=4)
    serving.play([("submit", [8], 2), ("step",), ("submit", big, 1), ("submit", small, 1)])

    serving.ids([])
    serving.play([("finish", 0, 1)])
    first = serving.step()[:1]
    serving.that(first == [1], f"the last step admitted {first} first, which is not right")


@rule("R25")
@given(prompt=PROMPTS, max_new=st.integers(1, 3))
def test_requests_that_cannot_be_are_refused(solution, prompt, max_new):
    P = len(prompt)
    engine = solution.Engine(capacity=P + max_new - 1, max_running=2)
    how = f"capacity {P + max_new - 1}, prompt {prompt}"
    submit, finish = engine.submit, engine.finish

    check.raises(ValueError, submit, [], what="submit of nothing", names="prompt", given=how)
    what = "submit with max_new_tokens=0"
    check.raises(ValueError, submit, prompt, 0, what=what, names="max_new_tokens", given=how)
    what = f"submit with max_new_tokens={max_new + 1}"
    check.raises(ValueError, submit, prompt, max_new + 1, what=what, names="capacity", given=how)

    check.equal(submit(prompt, max_new), 0, what="the id after three refusals", given=how)
    what = "finish of a request that waits"
    check.raises(ValueError, finish, 0, [1], what=what, names="request_id", given=how)
    engine.step(lambda batch: None)
    for output in ([], [1] * (max_new + 1)):
        what = f"finish with {len(output)} tokens of {max_new}"
        check.raises(ValueError, finish, 0, output, what=what, names="output", given=how)
    finish(0, [1])
    what = "finish of a request that is finished"
    check.raises(ValueError, finish, 0, [1], what=what, names="request_id", given=how)
    slots = engine.free_slots + engine.cache.evictable_size
    check.equal(slots, P + max_new - 1, what="free_slots + cache.evictable_size", given=how)


@rule("R25")
def test_wrong_numbers_and_policies_are_refused(solution):
    make, cache = solution.Engine, solution.RadixCache(4)
    options = {"capacity": 4, "max_running": 1, "policy": "lifo"}
    check.raises(ValueError, make, what="policy='lifo'", names="policy", **options)
    cache.insert([1, 2], [0, 1])
    check.raises(ValueError, cache.evict, -1, what="evict(-1)", names="num_tokens")
    check.equal(cache.evictable_size, 2, what="evictable_size after evict(-1)")


@rule("R26")
@given(prompt=PROMPTS)
def test_an_engine_keeps_and_changes_no_argument(solution, prompt):
    engine, tokens = solution.Engine(capacity=40, max_running=2), np.array(prompt)
    output, seen = np.array([2, 1, 0]), []
    how = f"submit, step and finish of {prompt} with output [2, 1, 0]"

    with check.unchanged(given=how, prompt=tokens, output=output):
        engine.submit(tokens, 3)
        tokens[:] = 9
        engine.step(lambda batch: seen.extend(batch))
        tokens[:] = prompt
        for row in (seen[0][2], engine.slots(0)):
            if row.flags.writeable:  # whatever the solution lets its caller write to
                row[:] = 0
        engine.finish(0, output)

    output[:] = 9
    serving_again = engine.submit([*prompt, 2, 1, 7], 1)
    engine.step(lambda batch: seen.extend(batch))
    start = [at for id, at, _ in seen if id == serving_again]
    how += ", overwrite all arrays, submit prompt and output again"
    check.equal(start, [len(prompt) + 2], what="the first position computed", given=how)


@rule("R26")
@given(max_examples=16, prompt=PROMPTS, clear=st.booleans())
def test_what_prefill_does_to_its_list_stays_there(solution, prompt, clear):
    engine = solution.Engine(capacity=40, max_running=2)
    prompt, output = [*prompt, 5], [2, 1, 0]
    lists, rows = ([*prompt], [*output]), []

    def prefill(batch):
        rows.extend(np.array(slots) for _, _, slots in batch)
        for _, _, slots in batch:
            if slots.flags.writeable:
                slots[:] = 0
        if clear:
            batch.clear()

    how = f"submit {prompt}, step with a prefill that overwrites the slots"
    how += " and clears its list" if clear else ""
    engine.submit(lists[0], 3)
    admitted = engine.step(prefill)
    check.equal(list(admitted), [0], what="the ids that step returned", given=how)
    saw = np.array(engine.slots(0))[: len(prompt)]
    check.equal(saw, rows[0], what="the slots of the prompt", given=how)

    engine.finish(0, lists[1])
    how += f", finish with {output}"
    check.that(lists == (prompt, output), saw=f"the lists are {lists} now", given=how, value=lists)
    found = engine.cache.match_prefix([*prompt, *output]).slots
    check.equal(found[: len(prompt)], rows[0], what="match.slots", given=how)
    check.equal(len(found), len(prompt) + 2, what="length of match.slots", given=how)


@rule("R19")
def test_evicted_tokens_take_no_memory(peak):
    n, kept, capacity = 96, 1, 400
    # Each prompt takes all slots that are not locked, so all but the first token of the last go.
    sizes = [capacity - kept * number for number in range(n)]

    def inputs(rng):
        return ([rng.integers(0, 128_256, size) for size in sizes],)

    def run(impl, prompts):
        small, T = impl.RadixCache(24), 12
        for first in range(15):  # with the tokens goes what was made for the many branches
            key = list(range(first, first + T))
            small.insert(key, list(range(T)))
            for n in range(T):
                small.insert([*key[:n], 99], [*range(n), T + n])
            small.evict(2 * T)
        engine, late = impl.Engine(capacity=capacity, max_running=1), []
        cache = engine.cache
        for number, prompt in enumerate(prompts):
            id = engine.submit(prompt)
            engine.step(lambda batch: None)
            engine.finish(id, [0])
            for head in late:  # the end of one part went
                cache.inc_lock_ref(cache.match_prefix(head))
            late = [prompt[:kept]]
            if number % 2:  # split, and the second part goes
                cache.inc_lock_ref(cache.match_prefix(late.pop()))
        return cache.match_prefix(prompts[-1]).slots, small.match_prefix([0]).slots

    def verify(result, prompts):
        found, left = result
        none = np.zeros(0, np.int64)
        check.equal(left, none, what="match.slots of a token that was evicted")
        what = "length of match.slots of the last prompt"
        check.equal(len(found), sizes[-1], what=what)

    peak(run, inputs=inputs, verify=verify)
