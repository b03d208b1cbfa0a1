"""Stage 5: the order of admission, what it saves, and whom it may not forget."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import several
from .serving import FINISH, PROMPTS, STEP, SUBMIT, Serving

OPS = several(SUBMIT, SUBMIT, STEP, STEP, FINISH, least=8, most=24)
SOME = st.lists(PROMPTS, min_size=1, max_size=3)
TIGHT = st.integers(9, 16)
POLICIES = st.sampled_from(["lpm", "fcfs"])
FAR = 99  # more steps than any of these tests has


def beside(solution, reference, ops, **options):
    """The solution's engine and the reference's, through the same operations, step by step."""
    saw, want = Serving(solution, **options), Serving(reference, **options)
    for op in ops:
        want.play([op])
        if op[0] == "step":
            yield saw, want
        else:
            saw.play([op])


def fill(prompts):
    """Operations that serve these prompts one after another."""
    return [op for p in prompts for op in (("submit", p, 1), ("step",), ("finish", 0, 1))]


@rule("R27")
@given(prompts=SOME, queue=st.lists(PROMPTS, min_size=3, max_size=5))
def test_the_longest_cached_prefix_goes_first(solution, prompts, queue):
    serving = Serving(solution, capacity=99, max_running=1, policy="lpm", max_skips=FAR)
    serving.play(fill(prompts)).play([("submit", prompt, 1) for prompt in queue])
    first, prefixes = len(prompts), {tuple(p[: n + 1]) for p in prompts for n in range(len(p))}
    waiting, want, saw = list(range(len(queue))), [], []

    for _ in queue:
        known = [sum(tuple(q[: n + 1]) in prefixes for n in range(len(q) - 1)) for q in queue]
        want.append(min(waiting, key=lambda i: (-known[i], i)))
        waiting.remove(want[-1])
        prompt = queue[want[-1]]
        prefixes |= {tuple(prompt[: n + 1]) for n in range(len(prompt))}
        saw += [id - first for id in serving.step()]
        serving.play([("finish", 0, 1)])

    text = f"the last {len(queue)} requests went in the order {saw}, which is not right"
    serving.that(saw == want, text)


@rule("R27")
@given(ops=OPS, capacity=TIGHT)
def test_of_equally_long_prefixes_the_first_submitted_goes(solution, reference, ops, capacity):
    options = {"capacity": capacity, "max_running": 1, "policy": "lpm", "max_skips": FAR}
    for saw, want in beside(solution, reference, ops, **options):
        saw.ids(want.steps[-1])


@rule("R24")
@given(big=PROMPTS, small=PROMPTS, cached=st.booleans())
def test_nobody_overtakes_a_longer_prefix_that_does_not_fit(solution, big, small, cached):
    big, capacity = [7, *big, *small], len(big) + len(small) + 3
    serving = Serving(solution, capacity=capacity, max_running=4, policy="lpm", max_skips=FAR)
    serving.play(fill([[7]] if cached else [])).play([("submit", [8], 3), ("step",)])
    first = len(serving.prompts)
    serving.play([("submit", big, 1), ("submit", small, 1)])

    serving.ids([])
    serving.play([("finish", 0, 1)])
    admitted = serving.step()[:1]
    serving.that(
        admitted == [first], f"the last step admitted {admitted} first, which is not right"
    )


@rule("R28")
@given(hot=PROMPTS, cold=PROMPTS, policy=POLICIES, why=st.sampled_from(["place", "room"]))
def test_a_request_that_waits_makes_nothing_younger(solution, hot, cold, policy, why):
    old, new = [4, *cold], [5, *hot]
    capacity = len(old) + len(new) + 4
    max_running = 1 if why == "place" else 2
    serving = Serving(solution, capacity=capacity, max_running=max_running, policy=policy)
    serving.play(fill([old, new])).play([("submit", [6, 6], 3), ("step",)])
    more = [1] * (1 if why == "place" else len(new) + 1)
    serving.play([("submit", [*old, *more], 1), ("step",), ("step",)])  # waits for place or room
    cache = serving.engine.cache

    cache.evict(len(old))

    serving.done.append(f"cache.evict({len(old)})")
    found = [len(cache.match_prefix(key).slots) for key in (old, new)]
    text = f"{found[0]} tokens of {old} are still cached and {found[1]} of {new}"
    serving.that(found == [0, len(new)], text)


@rule("R28")
@given(one=PROMPTS, two=PROMPTS, first=st.integers(0, 1), new=st.integers(1, 2))
def test_what_is_finished_last_is_the_youngest(solution, one, two, first, new):
    prompts = [[4, *one], [5, *two]]
    serving = Serving(solution, capacity=40, max_running=2)
    serving.play([("submit", prompt, new) for prompt in prompts]).play([("step",)])
    serving.play([("finish", first, new), ("finish", 0, new)])
    cache, count = serving.engine.cache, len(prompts[first]) + new - 1

    cache.evict(count)

    serving.done.append(f"cache.evict({count})")
    found = [len(cache.match_prefix(prompt).slots) for prompt in prompts]
    text = f"{found} tokens of the prompts are still cached, which is not right"
    want = [0 if id == first else len(prompt) for id, prompt in enumerate(prompts)]
    serving.that(found == want, text)


@rule("R28")
@given(ops=OPS, capacity=TIGHT, policy=POLICIES)
def test_what_was_admitted_last_is_the_youngest(solution, reference, ops, capacity, policy):
    options = {"capacity": capacity, "max_running": 2, "policy": policy, "max_skips": FAR}
    for saw, want in beside(solution, reference, ops, **options):
        saw.ids(want.steps[-1])
        for id in want.steps[-1]:
            saw.start(id, want.starts[id])


@rule("R29")
@given(shared=PROMPTS, tails=st.lists(PROMPTS, min_size=2, max_size=4))
def test_who_shares_with_one_that_is_admitted_waits_a_step(solution, shared, tails):
    serving = Serving(solution, capacity=99, max_running=9, policy="lpm")
    shared, tails = [5, *shared], [[10 + n, *tail] for n, tail in enumerate(tails)]
    serving.play([("submit", [*shared, *tail], 1) for tail in tails])
    for want in ([0], list(range(1, len(tails)))):
        serving.ids(want)
    for id in range(len(tails)):
        serving.start(id, len(shared) if id else 0)


@rule("R29")
@given(ops=OPS, max_running=st.integers(2, 4))
def test_only_who_gains_by_it_waits(solution, reference, ops, max_running):
    options = {"capacity": 24, "max_running": max_running, "policy": "lpm", "max_skips": FAR}
    for saw, want in beside(solution, reference, ops, **options):
        saw.ids(want.steps[-1])


@rule("R29")
@given(prompt=PROMPTS, times=st.integers(2, 3))
def test_nobody_waits_for_a_token_that_is_computed_anyway(solution, prompt, times):
    serving = Serving(solution, capacity=99, max_running=9, policy="lpm")
    serving.play(fill([prompt]))
    serving.play([("submit", [*prompt, end], 1) for end in [7] * times + [8]])

    serving.ids(list(range(1, 2 + times)))


@rule("R29")
@given(prompt=PROMPTS, more=PROMPTS)
def test_one_token_more_than_is_cached_is_worth_a_step(solution, prompt, more):
    serving = Serving(solution, capacity=99, max_running=9, policy="lpm")
    serving.play(fill([prompt]))
    serving.play([("submit", [*prompt, 7], 1), ("submit", [*prompt, 7, *more], 1)])

    serving.ids([1])
    serving.ids([2])


@rule("R29")
@given(cold=PROMPTS)
def test_what_was_evicted_in_the_step_defers_nobody(solution, cold):
    cold, hot = [4, *cold], [5, *[5] * len(cold)]
    options = {"capacity": 2 * len(cold) + 2, "max_running": 2, "max_skips": 1}
    serving = Serving(solution, policy="lpm", **options)
    serving.play([*fill([cold, hot]), ("submit", [6], 1), ("step",), ("submit", cold, 1)])
    serving.play([("submit", [*hot, 8], 1), ("step",), ("finish", 1, 1), ("finish", 0, 1)])
    serving.play([("submit", [*cold, 9], 1)])

    # The first is overdue and needs a slot, that of its own last token; the other had it cached.
    serving.ids([3, 5])


@rule("R29")
@given(shared=PROMPTS, tail=PROMPTS, other=PROMPTS)
def test_who_comes_after_a_deferred_one_is_still_admitted(solution, shared, tail, other):
    serving = Serving(solution, capacity=99, max_running=9, policy="lpm")
    queue = [[5, *shared, 7], [5, *shared, *tail, 8], [6, *other]]
    serving.play([("submit", prompt, 1) for prompt in queue])

    serving.ids([0, 2])
    serving.ids([1])


@rule("R30")
@given(hot=PROMPTS, cold=PROMPTS, max_skips=st.sampled_from([0, 1, 2, 3, 4, None]))
def test_nobody_is_passed_over_more_often_than_max_skips(solution, hot, cold, max_skips):
    hot, cold = [5, *hot], [6, *cold]
    bound = {} if max_skips is None else {"max_skips": max_skips}
    serving = Serving(solution, capacity=60, max_running=1, policy="lpm", **bound)
    max_skips = bound.get("max_skips", 8)  # the default
    serving.play(fill([hot])).play([("submit", cold, 1)])
    for number in range(max_skips + 2):
        serving.play([("submit", [*hot, 10 + number], 1), ("step",), ("finish", 0, 1)])

    saw = [id for step in serving.steps[1:] for id in step]
    want = [*range(2, 2 + max_skips), 1, 2 + max_skips]
    serving.that(saw == want, f"after request 0 they went in the order {saw}, which is not right")


@rule("R30")
@given(hot=PROMPTS, max_skips=st.integers(1, 3))
def test_a_step_counts_once_however_many_it_admits(solution, hot, max_skips):
    hot = [5, *hot]
    serving = Serving(solution, capacity=60, max_running=2, policy="lpm", max_skips=max_skips)
    serving.play(fill([hot])).play([("submit", [6, 6], 1)])
    for number in range(max_skips + 1):
        serving.play([("submit", [*hot, 10 + number], 1), ("submit", [*hot, 20 + number], 1)])
        serving.play([("step",), ("finish", 0, 1), ("finish", 0, 1)])

    saw = serving.steps[1:]
    hots = list(range(2, 3 + 2 * max_skips))
    want = [hots[2 * n : 2 * n + 2] for n in range(max_skips)] + [[1, hots[-1]]]
    serving.that(saw == want, f"after request 0 the steps admitted {saw}, which is not right")


@rule("R30")
@given(hot=PROMPTS, longest_first=st.booleans())
def test_one_of_those_admitted_is_enough_to_be_passed_over(solution, hot, longest_first):
    short, long = [5, *hot, 7], [5, *hot, 7, 7]
    one, three = (long, short) if longest_first else (short, long)
    serving = Serving(solution, capacity=60, max_running=2, policy="lpm", max_skips=1)
    serving.play(fill([long]))
    serving.play([("submit", [*one, 10], 1), ("submit", [6, 6], 1), ("submit", [*three, 11], 1)])
    serving.play([("step",), ("finish", 0, 1), ("finish", 0, 1), ("submit", [*short, 12], 1)])

    serving.ids([2, 4])


@rule("R30")
@given(hot=PROMPTS)
def test_nobody_is_passed_over_by_one_that_came_before(solution, hot):
    serving = Serving(solution, capacity=60, max_running=1, policy="lpm", max_skips=1)
    serving.play([*fill([[5, *hot]]), ("submit", [6, 6], 1), ("submit", [7, 7], 1), ("step",)])
    serving.play([("finish", 0, 1), ("submit", [5, *hot, 9], 1)])

    serving.ids([3])


@rule("R30")
@given(shared=PROMPTS)
def test_a_deferred_request_can_be_passed_over(solution, shared):
    serving = Serving(solution, capacity=60, max_running=3, policy="lpm", max_skips=1)
    shared = [5, *shared]
    queue = [[*shared, 7], [*shared, 8], [6, 6]]
    serving.play([("submit", prompt, 1) for prompt in queue]).play([("step",)])
    serving.play([("finish", 0, 1), ("finish", 0, 1), ("submit", [*shared, 7, 9], 1)])

    serving.ids([1, 3])


@rule("R30")
@given(hot=PROMPTS, max_skips=st.integers(1, 3))
def test_a_step_that_admits_nobody_passes_nobody_over(solution, hot, max_skips):
    hot = [5, 5, *hot]
    serving = Serving(solution, capacity=60, max_running=1, policy="lpm", max_skips=max_skips)
    serving.play([*fill([hot]), ("submit", [6, 6], 1), ("step",), ("submit", [7, 7], 1)])
    serving.play([("submit", [*hot, 9], 1), ("submit", [5, 9], 1)])
    serving.play([("step",)] * max_skips)
    for _ in range(3):
        serving.play([("finish", 0, 1), ("step",)])

    saw = [id for step in serving.steps[2:] for id in step]
    want = [3, 2, 4] if max_skips == 1 else [3, 4, 2]
    serving.that(saw == want, f"after request 1 they went in the order {saw}, which is not right")


@rule("R30")
@given(ops=OPS, max_running=st.integers(1, 3), max_skips=st.integers(0, 3))
def test_those_passed_over_often_enough_go_in_turn(
    solution, reference, ops, max_running, max_skips
):
    options = {"max_running": max_running, "policy": "lpm", "max_skips": max_skips}
    for saw, want in beside(solution, reference, ops, **options):
        saw.ids(want.steps[-1])


@rule("R21")
@given(ops=OPS, max_running=st.integers(1, 3), max_skips=st.integers(0, 3))
def test_in_any_order_what_is_read_has_been_computed(solution, ops, max_running, max_skips):
    options = {"max_running": max_running, "policy": "lpm", "max_skips": max_skips}
    Serving(solution, **options).play(ops).check("batch", "read")


@rule("R23")
@given(ops=OPS, max_running=st.integers(1, 3), max_skips=st.integers(0, 3))
def test_in_any_order_every_slot_is_free_cached_or_kept(solution, ops, max_running, max_skips):
    options = {"max_running": max_running, "policy": "lpm", "max_skips": max_skips}
    Serving(solution, **options).play(ops).check("lost")


@rule("R31")
@given(words=st.lists(PROMPTS, min_size=2, max_size=8))
def test_room_for_the_longest_prompt_is_enough_to_compute_each_prefix_once(solution, words):
    prompts = [[*word, 100 + n] for n, word in enumerate(words)]  # none begins with another
    options = {"capacity": max(map(len, prompts)), "max_running": 1}
    serving = Serving(solution, policy="lpm", max_skips=FAR, **options)
    serving.play([("submit", prompt, 1) for prompt in prompts])
    serving.play([("step",), ("finish", 0, 1)] * len(prompts))

    computed = sum(len(prompts[id]) - start for id, start in serving.starts.items())
    least = len({tuple(p[: n + 1]) for p in prompts for n in range(len(p))})
    text = f"{computed} tokens were computed, which is not the least that will do"
    serving.that(computed == least, text)


def serve(impl, prompts, **options):
    """Submit all, then step and finish until none waits; the number of tokens computed.

    Every slot keeps what was computed for it, so that a start which is too late is found out.
    """
    engine = impl.Engine(policy="lpm", **options)
    for prompt in prompts:
        engine.submit(prompt, 1)
    computed, memory, left = 0, {}, len(prompts)
    while left:
        batch = []
        admitted = engine.step(lambda requests, batch=batch: batch.extend(requests))
        check.that(admitted, saw=f"step admitted nobody, {left} of {len(prompts)} prompts left")
        for id, start, slots in batch:
            prefix = [prompts[id][: n + 1].tobytes() for n in range(len(slots))]
            read = [memory.get(int(slot)) for slot in slots[:start]]
            saw = f"prefill of prompt {id} reads slots that were computed for something else"
            check.that(read == prefix[:start], saw=saw)
        for id, start, slots in batch:
            computed += len(slots) - start
            for n in range(start, len(slots)):
                memory[int(slots[n])] = prompts[id][: n + 1].tobytes()
        for id in admitted:
            engine.finish(id, [0])
        left -= len(admitted)
    return computed


@rule("R31")
def test_order_saves_recomputation(count):
    groups, members, shared, T = 6, 8, 60, 64

    def inputs(rng):
        heads = rng.integers(0, 128_256, (groups, shared))
        tails = rng.integers(0, 128_256, (members * groups, T - shared))
        return ([np.append(heads[n % groups], tail) for n, tail in enumerate(tails)],)

    def run(impl, prompts):
        return serve(impl, prompts, capacity=96, max_running=1, max_skips=FAR)

    def verify(computed, prompts):
        least = groups * shared + len(prompts) * (T - shared)
        saw = f"{computed} tokens were computed, fewer than there are different ones"
        check.that(computed >= least, saw=saw)

    count(run, inputs=inputs, verify=verify)


@rule("R32")
def test_a_batch_computes_shared_tokens_once(count):
    n, shared, T = 8, 60, 64

    def inputs(rng):
        head = rng.integers(0, 128_256, shared)
        return ([np.append(head, rng.integers(0, 128_256, T - shared)) for _ in range(n)],)

    def run(impl, prompts):
        return serve(impl, prompts, capacity=n * T, max_running=n)

    def verify(computed, prompts):
        least = shared + len(prompts) * (T - shared)
        saw = f"{computed} tokens were computed, fewer than there are different ones"
        check.that(computed >= least, saw=saw)

    count(run, inputs=inputs, verify=verify)
