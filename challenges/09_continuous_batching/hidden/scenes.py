"""Requests that a seed makes, under ids that say nothing of their order."""

import copy
from dataclasses import replace

import numpy as np

from pytest_llmgrind import st

from . import engine, trace

SEEDS = st.integers(0, 999)


def draw(seed, *, n, prompt, output, span, spare=3):
    """n requests within ``span`` steps, prompts and outputs of at most that many tokens."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.integers(0, span + 1, n)).tolist()
    ids = rng.choice(90, n, replace=False).tolist()
    prompts, outputs = (rng.integers(1, most + 1, n).tolist() for most in (prompt, output))
    tops = [output + int(rng.integers(0, spare + 1)) for output in outputs]
    return [engine.Request(*row) for row in zip(ids, arrivals, prompts, outputs, tops, strict=True)]


def tight(seed):
    """Requests that grow far beyond their prompts, and slots for two or three of them."""
    rng = np.random.default_rng(seed)
    requests = draw(seed, n=7, prompt=24, output=24, span=8, spare=24)
    more = rng.integers(30, 46, len(requests)).tolist()
    longer = [
        replace(r, output_len=r.output_len + m, max_tokens=r.max_tokens + m)
        for r, m in zip(requests, more, strict=True)
    ]
    need = max(r.prompt_len + r.max_tokens - 1 for r in longer)
    return longer, need + int(rng.integers(10, 40))


def theirs(solution, requests):
    """The same in the solution's own class."""
    return [
        solution.Request(
            request_id=r.id,
            arrival_us=r.arrival,
            prompt_len=r.prompt_len,
            output_len=r.output_len,
            max_tokens=r.max_tokens,
        )
        for r in requests
    ]


def scheduler(solution, **limits):
    """A scheduler, and how a failure names it; limits that are None are left out."""
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    text = ", ".join(f"{name}={limit}" for name, limit in limits.items())
    return solution.Scheduler(**limits), f"Scheduler({text})"


class Kept:
    """A scheduler whose plans are kept as they came, and as they were then."""

    def __init__(self, scheduler):
        self.add_request, self.finish = scheduler.add_request, scheduler.finish
        self.scheduler, self.plans, self.were = scheduler, [], []

    def schedule(self):
        plan = self.scheduler.schedule()
        self.plans.append(plan)
        self.were.append(copy.deepcopy(plan))
        return plan


def serve(solution, requests, *, cancelled=None, told="", **limits):
    """The log of a small trace: a step of the engine takes 1. ``told`` are other words for it."""
    made, text = scheduler(solution, **limits)
    also = f", given up before step: {cancelled}" if cancelled else ""
    given = f"{text}, {told or engine.words(requests)}{also}"
    return engine.run(made, requests, given=given, cancelled=cancelled)


def take_turns(solution, requests, wide, narrow):
    """Two schedulers that are asked in turns plan what each plans alone."""
    words = ", ".join(f"{r.id} with {r.prompt_len} tokens" for r in requests)

    def plans(*bounds):
        schedulers = [scheduler(solution, **limits)[0] for limits in bounds]
        for request in requests:
            for each in schedulers:
                each.add_request(request.id, request.prompt_len, 9)
        return list(zip(*([each.schedule() for each in schedulers] for _ in range(4)), strict=True))

    alone = [*plans(wide), *plans(narrow)]
    for pair in ((0, 1), (1, 0), (0, 0)):
        bounds = [(wide, narrow)[which] for which in pair]
        how = f"schedulers with {bounds[0]} and {bounds[1]}, requests {words}, 4 plans of each"
        for place, (saw, which) in enumerate(zip(plans(*bounds), pair, strict=True)):
            what = f"the plans of the {('first', 'second')[place]}"
            engine.check_plans(saw, alone[which], what=what, given=how)


def serve_recorded(solution, **limits):
    """The log of the recorded trace, within the limits."""
    made, text = scheduler(solution, **limits)
    given = f"{text}, make_trace({trace.SEED}, {len(trace.requests())})"
    duration = lambda tokens: 20_000 + 100 * tokens  # noqa: E731
    log = engine.run(made, trace.requests(), given=given, step_us=duration)
    engine.in_order(log)
    engine.within_seats(log, limits["max_num_seqs"])
    engine.within_budget(log, limits.get("max_num_batched_tokens", float("inf")))
    engine.within_slots(log, limits.get("kv_slots", float("inf")))
    return log


def order(seed, n):
    """A permutation of n places."""
    return np.random.default_rng([seed, n]).permutation(n).tolist()


def at_equal_times(requests):
    """Arrivals rounded to 20 ms, so that some are equal."""
    return [later(request, -(request.arrival % 20_000)) for request in requests]


def later(request, by):
    return replace(request, arrival=request.arrival + by)
