"""Stub of 09_continuous_batching: decide, step by step, who computes which tokens.

Read spec.md beside this file. What is marked "Given" is complete; the rest is yours, stage by
stage. Add private helpers (``_name``) as you like.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

STEP_US = 20_000
TOKEN_US = 100


@dataclass(frozen=True)
class Request:
    """A request of a trace. Given.

    The engine knows ``output_len``, the tokens after which the request ends; a scheduler does not.
    What it is told is ``max_tokens``, which the output never exceeds.
    """

    request_id: int
    arrival_us: int
    prompt_len: int
    output_len: int
    max_tokens: int


@dataclass(frozen=True)
class Report:
    """What serving a trace took. Given.

    ``computed_tokens`` counts all positions that were computed, padding and recomputation
    included; ``padded_tokens`` those that served no request. ``token_us[i][j]`` is the time at
    which token j of request i of the list was done.
    """

    steps: int
    computed_tokens: int
    padded_tokens: int
    token_us: list[list[int]]


def step_us(tokens: int) -> int:
    """Duration of a step that computes so many tokens, in microseconds. Given.

    >>> step_us(1), step_us(256)
    (20100, 45600)
    """
    return STEP_US + TOKEN_US * tokens


def make_trace(seed: int, n: int) -> list[Request]:
    """n requests in bursts, with heavy-tailed lengths, in order of arrival. Given.

    >>> trace = make_trace(5, 150)
    >>> trace[28].prompt_len, trace[28].output_len, trace[28].max_tokens
    (1568, 14, 512)
    """
    draw, normal = random.Random(seed).random, statistics.NormalDist()  # the same everywhere
    trace, now = [], 0
    for request_id in range(n):
        if draw() < 0.25:
            now += int(-60_000 * math.log(1 - draw()))
        prompt_len = min(2_000, 1 + int(60 * math.exp(1.2 * normal.inv_cdf(draw()))))
        output_len = min(400, 1 + int(40 * math.exp(1.1 * normal.inv_cdf(draw()))))
        trace.append(Request(request_id, now, prompt_len, output_len, 512))
    return trace


def simulate(
    scheduler: Any, requests: Sequence[Request], *, step_us: Callable[[int], int] = step_us
) -> Report:
    """Serve the requests, which come in order of arrival, by the plans of a scheduler. Given.

    The engine that grades does the same and looks at each plan as well. Here, put a print where
    you like. With ``step_us=lambda tokens: 1`` the clock counts steps.

    >>> trace = [Request(0, 0, 3, 4, 9), Request(1, 0, 1, 1, 9), Request(2, 0, 2, 2, 9)]
    >>> simulate(Scheduler(max_num_seqs=2), trace, step_us=lambda tokens: 1).token_us
    [[1, 2, 3, 4], [1], [2, 3]]
    """
    waiting = list(requests)
    computed: dict[int, int] = {}  # of each request that is being served
    times: dict[int, list[int]] = {request.request_id: [] for request in requests}
    of = {request.request_id: request for request in requests}
    now = steps = total = 0
    while waiting or computed:
        if not computed:
            now = max(now, waiting[0].arrival_us)
        while waiting and waiting[0].arrival_us <= now:
            new = waiting.pop(0)
            computed[new.request_id] = 0
            scheduler.add_request(new.request_id, new.prompt_len, new.max_tokens)
        plan, preempted = scheduler.schedule()
        if not plan:
            raise RuntimeError(f"step {steps}: nothing is planned for {sorted(computed)}")
        for request_id in preempted:
            computed[request_id] = 0
        now, steps, total = now + step_us(sum(plan.values())), steps + 1, total + sum(plan.values())
        finished = []
        for request_id, tokens in plan.items():
            computed[request_id] += tokens
            if computed[request_id] == of[request_id].prompt_len + len(times[request_id]):
                times[request_id].append(now)
                if len(times[request_id]) == of[request_id].output_len:
                    finished.append(request_id)
                    del computed[request_id]
        if finished:
            scheduler.finish(finished)
    return Report(steps, total, 0, list(times.values()))


# Stage 1: batches that nobody enters and nobody leaves.


def static_batching(requests: Sequence[Request], *, max_num_seqs: int) -> Report:
    """Serve the requests in batches, each of which runs until its longest output is complete.

    Parameters
    ----------
    requests : in any order; prompt_len and output_len are at least 1. Not modified.
    max_num_seqs : rows of a batch at most.

    Returns
    -------
    Report with ``token_us`` in the order of ``requests``, all numbers ints. Steps last ``step_us``
    of what they compute, padding included.

    Raises
    ------
    ValueError
        Naming ``max_num_seqs`` if it is below 1.

    >>> trace = [Request(0, 0, 3, 4, 9), Request(1, 0, 1, 1, 9), Request(2, 0, 2, 2, 9)]
    >>> report = static_batching(trace, max_num_seqs=2)
    >>> report.steps, report.computed_tokens, report.padded_tokens
    (6, 15, 5)
    >>> report.token_us
    [[20600, 40800, 61000, 81200], [20600], [101400, 121500]]
    """
    # TODO stage 1: the way that every later stage is held against.
    raise NotImplementedError("09_continuous_batching, stage 1")


# Stages 2 to 4: who runs is decided anew in every step.


class Scheduler:
    """Plans one step of the engine after another.

    Between two steps the engine calls ``add_request`` for each request that has arrived and
    ``finish`` for those that are over, in any order, and then ``schedule``. Two schedulers know
    nothing of each other.

    >>> scheduler = Scheduler(max_num_seqs=2, max_num_batched_tokens=8)
    >>> scheduler.add_request(0, 3, 20)
    >>> scheduler.add_request(1, 12, 20)
    >>> [scheduler.schedule() for _ in range(3)]
    [({0: 3, 1: 5}, []), ({0: 1, 1: 7}, []), ({0: 1, 1: 1}, [])]
    """

    def __init__(
        self,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int | None = None,
        long_prefill_token_threshold: int | None = None,
        kv_slots: int | None = None,
    ) -> None:
        """A scheduler without requests. Whatever is None has no bound.

        Parameters
        ----------
        max_num_seqs : seats, that is requests that hold slots at the same time.
        max_num_batched_tokens : tokens that a step computes, of all requests together (stage 3).
        long_prefill_token_threshold : tokens that one request gets in a step (stage 3).
        kv_slots : slots of the cache, one for each token of a request that has been computed
            (stage 4).

        Raises
        ------
        ValueError
            Naming ``max_num_seqs``, ``long_prefill_token_threshold`` or ``kv_slots`` if it is below
            1, ``max_num_batched_tokens`` if it is below ``max_num_seqs``.

        >>> Scheduler(max_num_seqs=4, max_num_batched_tokens=3)
        Traceback (most recent call last):
            ...
        ValueError: max_num_batched_tokens: wanted 4 or more, got 3
        """
        # TODO stage 2: max_num_seqs; stage 3: two bounds on tokens; stage 4: kv_slots.
        raise NotImplementedError("09_continuous_batching, stage 2")

    def add_request(self, request_id: int, prompt_len: int, max_tokens: int) -> None:
        """A request has arrived. It may be in the next plan.

        Parameters
        ----------
        request_id : any int. That of a request that is over may come again, as a new request.
        prompt_len : tokens of the prompt, at least 1.
        max_tokens : tokens that it generates at most, at least 1. It ends when ``finish`` says so,
            mostly long before.

        Raises
        ------
        ValueError
            Naming ``request_id`` if a request of that id is being served; ``prompt_len`` or
            ``max_tokens`` if it is below 1; ``kv_slots`` if the request could not be served with
            all slots for itself (stage 4). The scheduler is as before.

        >>> scheduler = Scheduler(max_num_seqs=1)
        >>> scheduler.add_request(7, 3, 20)
        >>> scheduler.schedule()
        ({7: 3}, [])
        """
        # TODO stage 2; stage 4: who can never be served.
        raise NotImplementedError("09_continuous_batching, stage 2")

    def finish(self, request_ids: Sequence[int]) -> None:
        """Requests are over: complete, or given up by their client, wherever they are.

        Raises
        ------
        ValueError
            Naming ``request_ids`` if one of them is not being served. The scheduler is as before.

        >>> scheduler = Scheduler(max_num_seqs=1)
        >>> scheduler.add_request(7, 3, 20)
        >>> scheduler.add_request(8, 2, 20)
        >>> first = scheduler.schedule()
        >>> scheduler.finish([7])
        >>> first, scheduler.schedule()
        (({7: 3}, []), ({8: 2}, []))
        """
        # TODO stage 2.
        raise NotImplementedError("09_continuous_batching, stage 2")

    def schedule(self) -> tuple[dict[int, int], list[int]]:
        """The next step. It counts as carried out when this returns.

        Returns
        -------
        num_scheduled_tokens : for each request that takes part, the tokens that it computes in this
            step, from 1 to those it has left; in any order.
        preempted : the requests that lose all their slots before this step, in any order (stage 4;
            before that it is empty). None of them takes part in it.

        When the last token that a request has left is computed, the step ends with a new one.

        >>> scheduler = Scheduler(max_num_seqs=2)
        >>> scheduler.schedule()
        ({}, [])
        >>> scheduler.add_request(7, 3, 20)
        >>> scheduler.schedule(), scheduler.schedule()
        (({7: 3}, []), ({7: 1}, []))
        """
        # TODO stage 2: seats; stage 3: a budget and chunks; stage 4: slots and preemption.
        raise NotImplementedError("09_continuous_batching, stage 2")
