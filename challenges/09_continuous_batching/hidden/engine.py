"""A serving engine that carries out a scheduler's plans and writes down what it saw.

It stops at what no engine could carry out: tokens for a request that is not being served, more
tokens than a request has left, nothing planned while requests are unfinished. All else is written
down, for the tests of the rules to judge, so that one mistake does not fail them all.
The clock is in steps, or in what ``step_us`` says.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from pytest_llmgrind import check


@dataclass(frozen=True)
class Request:
    id: int
    arrival: int
    prompt_len: int
    output_len: int
    max_tokens: int


@dataclass(frozen=True)
class Step:
    """A plan, and what it met: requests in the order added, after the preemptions."""

    number: int
    tokens: dict
    preempted: list
    known: dict  # tokens of each request, its prompt and what it has generated
    computed: dict  # of these, how many had their keys and values in slots
    longest: dict  # tokens that a request has ever had computed

    def left(self, id):
        return self.known[id] - self.computed[id]

    @cached_property
    def running(self):
        return [id for id, n in self.computed.items() if n]

    @cached_property
    def decoding(self):
        return [id for id in self.running if self.left(id) == 1]

    @cached_property
    def prompts(self):
        """Who has more to compute than a decode, in the order added."""
        decoding = set(self.decoding)
        return [id for id in self.computed if id not in decoding]

    @cached_property
    def begun(self):
        """Those of the prompts that hold slots or get some now, in the order added."""
        return [id for id in self.prompts if self.computed[id] or id in self.tokens]

    @cached_property
    def holding(self):
        """Slots in use at the end of the step, of each request that has any."""
        held = {id: self.computed[id] for id in self.running}
        for id, n in self.tokens.items():
            held[id] = held.get(id, 0) + n
        return held

    @property
    def recomputed(self):
        return sum(
            max(0, min(self.longest[id], self.computed[id] + n) - self.computed[id])
            for id, n in self.tokens.items()
        )


@dataclass
class Log:
    given: str
    arrivals: dict
    times: dict  # of the tokens of each request
    steps: list = field(default_factory=list)
    odd: list = field(default_factory=list)  # what no plan may hold, and an engine gets over

    @property
    def plans(self):
        """Every plan so far, by which one program is told from another."""
        return [[sorted(map(list, s.tokens.items())), sorted(s.preempted)] for s in self.steps]

    def refuse(self, step, saw):
        """A rule is broken; the number of the step is told with what was seen."""
        told = f"step {step.number if isinstance(step, Step) else step}: {saw}"
        check.that(False, saw=told, given=self.given, value=[self.plans, told])

    @property
    def longest_gap(self):
        """Between two tokens of a request."""
        return max(b - a for row in self.times.values() for a, b in pairwise(row))

    @property
    def mean_wait(self):
        """From arrival to the first token."""
        waits = [self.times[id][0] - arrival for id, arrival in self.arrivals.items()]
        return sum(waits) // len(waits)


def words(requests):
    """What a failure tells of a trace; spec.md says how to read it."""
    rows = (f"{r.id}: {r.arrival, r.prompt_len, r.output_len, r.max_tokens}" for r in requests)
    return "requests {" + ", ".join(rows) + "}"


def run(scheduler, requests, *, given, step_us=None, cancelled=None):
    """Serve requests, which come in order of arrival, to their end; the log of it.

    ``cancelled[number]`` are the requests that their clients give up before that step.
    """
    log = Log(given, {r.id: r.arrival for r in requests}, {r.id: [] for r in requests})
    served, waiting = {}, list(requests)
    known, computed, longest = {}, {}, {}
    now = number = 0
    most = 50 + 20 * sum(r.prompt_len + r.output_len for r in requests)

    def leave(ids):
        scheduler.finish(ids)
        for id in ids:
            del served[id], known[id], computed[id]

    while served or waiting:
        if not served:
            now = max(now, waiting[0].arrival)
        while waiting and waiting[0].arrival <= now:
            new = waiting.pop(0)
            scheduler.add_request(new.id, new.prompt_len, new.max_tokens)
            served[new.id], known[new.id] = new, new.prompt_len
            computed[new.id] = longest[new.id] = 0
        if gone := [id for id in (cancelled or {}).get(number, []) if id in served]:
            leave(gone)
            if not served:
                number += 1
                continue
        tokens, preempted = form(scheduler.schedule(), computed, number, log)
        computed.update(dict.fromkeys(preempted, 0))
        step = Step(number, tokens, preempted, dict(known), dict(computed), dict(longest))
        log.steps.append(step)
        refuse_the_impossible(log, step)
        now += step_us(sum(tokens.values())) if step_us else 1
        done = []
        for id, n in tokens.items():
            computed[id] += n
            longest[id] = max(longest[id], computed[id])
            if computed[id] == known[id]:
                known[id] += 1
                log.times[id].append(now)
                if len(log.times[id]) == served[id].output_len:
                    done.append(id)
        if done:
            leave(done)
        number += 1
        if number > most:
            log.refuse(step, f"requests {sorted(served)} are still unfinished")
    return log


def form(plan, computed, number, log):
    """A plan as plain ints, as far as an engine can make sense of it; what is odd is noted."""
    fine = isinstance(plan, tuple) and len(plan) == 2
    if not (fine and isinstance(plan[0], dict) and isinstance(plan[1], list)):
        log.refuse(number, f"schedule returned {type(plan).__name__}, which is no (dict, list)")
    tokens, preempted = plan
    for id in [*tokens, *preempted]:
        if not whole(id):
            log.refuse(number, f"the plan names {id!r}, which is no request_id")
        if id not in computed:
            log.refuse(number, f"the plan names request {id}, which is not being served")
    for id, n in tokens.items():
        if not whole(n) or n < 0:
            log.refuse(number, f"request {id} is given {n!r} tokens, which is no number of tokens")
        if n == 0:
            log.odd.append((number, f"request {id} is in the plan with 0 tokens"))
    for id in set(preempted):
        if not computed[id]:
            log.odd.append((number, f"request {id} is preempted and holds no slot"))
        if preempted.count(id) > 1:
            log.odd.append((number, f"request {id} is preempted twice in a step"))
        if tokens.get(id):
            log.odd.append((number, f"request {id} is preempted and given tokens"))
    return (
        {int(id): int(n) for id, n in tokens.items() if n},
        [int(id) for id in dict.fromkeys(preempted)],
    )


def whole(number):
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def refuse_the_impossible(log, step):
    if not step.tokens:
        log.refuse(step, f"nothing is planned, and requests {sorted(step.known)} are unfinished")
    for id, n in step.tokens.items():
        if n > step.left(id):
            saw = f"request {id} is given {n} tokens and has {step.left(id)} left to compute"
            log.refuse(step, saw)


def check_plans(saw, want, *, what, given):
    """Plans as they have to be, shown whole where they are not."""
    told = f"{what} came back as {saw!r:.300}, which is not right"
    check.that(saw == want, saw=told, given=given, value=saw)


# -- what rules of several stages ask ------------------------------------------------------------


def in_order(log):
    """No plan holds what an engine has to get over."""
    for number, saw in log.odd:
        log.refuse(number, saw)


def within_seats(log, max_num_seqs):
    for step in log.steps:
        if len(step.holding) > max_num_seqs:
            who = f"requests {sorted(step.holding)} hold slots"
            log.refuse(step, f"{who}, which is more than max_num_seqs={max_num_seqs}")


def within_budget(log, budget):
    for step in log.steps:
        total = sum(step.tokens.values())
        if total > budget:
            log.refuse(step, f"the plan has {total} tokens, over max_num_batched_tokens={budget}")


def within_slots(log, kv_slots):
    for step in log.steps:
        held = sum(step.holding.values())
        if held > kv_slots:
            log.refuse(step, f"{held} slots are held, over kv_slots={kv_slots}")


def decodes_all_run(log):
    for step in log.steps:
        for id in step.decoding:
            if id not in step.tokens:
                saw = f"request {id} has begun, has one token left to compute and is not planned"
                log.refuse(step, saw)


def in_the_order_added(log):
    """Nobody holds slots while somebody who was added before does not."""
    for step in log.steps:
        first, last = list(step.known)[: len(step.holding)], step.holding
        if set(first) != set(last):
            waits = next(id for id in first if id not in last)
            ahead = [id for id in last if id not in first]
            saw = f"request {waits} holds no slot, and requests {ahead}, added after it, hold some"
            log.refuse(step, saw)


def all_in_the_plan(log, max_num_seqs):
    """As many requests run as there are unfinished ones, or seats."""
    for step in log.steps:
        if len(step.tokens) != min(max_num_seqs, len(step.known)):
            saw = f"{len(step.tokens)} requests are in the plan"
            log.refuse(step, f"{saw}, of {len(step.known)} unfinished ones on {max_num_seqs} seats")


def all_that_was_needed(log, requests):
    """Each token was computed once."""
    total = sum(sum(step.tokens.values()) for step in log.steps)
    needed = sum(request.prompt_len + request.output_len - 1 for request in requests)
    if total != needed:
        saw = f"{total} tokens were computed in {len(log.steps)} steps"
        check.that(False, saw=saw, given=log.given, value=log.plans)
