"""A scheduler that decides, step by step, which tokens of which requests an engine computes.

Iteration-level scheduling: Yu et al., "Orca: A Distributed Serving System for Transformer-Based
Generative Models", OSDI 2022. Chunks beside decodes: Agrawal et al.
2024, "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", arXiv 2403.02310.
Preemption by recomputation: Kwon et al. 2023, "PagedAttention", arXiv 2309.06180.
Differs from Orca, which keeps room for all of max_tokens, in that a request is admitted with room
for a few steps ahead; from vLLM in that slots hold single tokens, not blocks.
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
_LOOKAHEAD = 32  # tokens to come for which admission keeps room: 0 is greedy, math.inf is Orca's


@dataclass(frozen=True)
class Request:
    """A request of a trace."""

    request_id: int
    arrival_us: int
    prompt_len: int
    output_len: int
    max_tokens: int


@dataclass(frozen=True)
class Report:
    """What serving a trace took."""

    steps: int
    computed_tokens: int
    padded_tokens: int
    token_us: list[list[int]]


def step_us(tokens: int) -> int:
    """Duration of a step that computes so many tokens."""
    return STEP_US + TOKEN_US * tokens


def make_trace(seed: int, n: int) -> list[Request]:
    """n requests in bursts, with heavy-tailed lengths."""
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
    """Serve the requests, which come in order of arrival, by the plans of a scheduler."""
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


def static_batching(requests: Sequence[Request], *, max_num_seqs: int) -> Report:
    """Serve the requests in batches, each of which runs until its longest output is complete."""
    _at_least(1, max_num_seqs=max_num_seqs)
    waiting = sorted(range(len(requests)), key=lambda i: requests[i].arrival_us)  # stable
    token_us: list[list[int]] = [[] for _ in requests]
    now = steps = computed = 0
    while waiting:
        now = max(now, requests[waiting[0]].arrival_us)
        batch = [i for i in waiting if requests[i].arrival_us <= now][:max_num_seqs]
        waiting = waiting[len(batch) :]
        longest = max(requests[i].prompt_len for i in batch)
        decodes = max(requests[i].output_len for i in batch) - 1  # prefill gives the first token
        for width in [longest, *[1] * decodes]:
            now += step_us(len(batch) * width)
            steps, computed = steps + 1, computed + len(batch) * width
            for i in batch:
                if len(token_us[i]) < requests[i].output_len:
                    token_us[i].append(now)
    # The last token of an output is never fed back.
    useful = sum(request.prompt_len + request.output_len - 1 for request in requests)
    return Report(steps, computed, computed - useful, token_us)


@dataclass
class _Sequence:
    """A request as the scheduler knows it."""

    prompt_len: int
    max_tokens: int
    generated: int = 0
    computed: int = 0

    @property
    def known(self) -> int:
        """Tokens of the prompt, and those that it has generated."""
        return self.prompt_len + self.generated

    @property
    def left(self) -> int:
        return self.known - self.computed

    @property
    def most(self) -> int:
        """Slots that it needs at the very end: its last token is never fed back."""
        return self.prompt_len + self.max_tokens - 1


class Scheduler:
    """Plans one step after another. Prefill and decode are one thing: tokens left to compute.

    Requests run in the order in which they were added, always the first few of them. So the first
    is never preempted, and whoever waits becomes the first one day.
    """

    def __init__(
        self,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int | None = None,
        long_prefill_token_threshold: int | None = None,
        kv_slots: int | None = None,
    ) -> None:
        _at_least(1, max_num_seqs=max_num_seqs)
        # Below that, not every request that decodes would get its token.
        _at_least(max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
        _at_least(1, long_prefill_token_threshold=long_prefill_token_threshold)
        _at_least(1, kv_slots=kv_slots)
        self._max_num_seqs = max_num_seqs
        self._budget = _or_unlimited(max_num_batched_tokens)
        self._threshold = _or_unlimited(long_prefill_token_threshold)
        self._kv_slots = _or_unlimited(kv_slots)
        self._sequences: dict[int, _Sequence] = {}  # in the order added

    def add_request(self, request_id: int, prompt_len: int, max_tokens: int) -> None:
        """A request to be served from the next plan on."""
        if request_id in self._sequences:
            raise ValueError(f"request_id: {request_id} is being served")
        _at_least(1, prompt_len=prompt_len, max_tokens=max_tokens)
        new = _Sequence(prompt_len, max_tokens)
        if new.most > self._kv_slots:
            raise ValueError(f"kv_slots: a request may need {new.most} of {self._kv_slots}")
        self._sequences[request_id] = new

    def finish(self, request_ids: Sequence[int]) -> None:
        """Requests that are over: complete, or given up by their client."""
        request_ids = list(dict.fromkeys(request_ids))
        if unknown := [i for i in request_ids if i not in self._sequences]:
            raise ValueError(f"request_ids: {unknown} are not being served")
        for request_id in request_ids:
            del self._sequences[request_id]

    def schedule(self) -> tuple[dict[int, int], list[int]]:
        """The tokens that each request computes in the next step, and who is preempted for it."""
        running = self._running()
        preempted = [
            request_id
            for request_id, sequence in self._sequences.items()
            if sequence.computed and request_id not in running
        ]
        for request_id in preempted:
            self._sequences[request_id].computed = 0
        plan, budget = {}, self._budget
        # In the order added, decodes need no precedence: who stands before a request never takes
        # more than in the step in which that request began, and it got a token then.
        for request_id, sequence in running.items():
            tokens = min(sequence.left, self._threshold, budget)
            if tokens == 0:
                break
            plan[request_id] = int(tokens)
            budget -= tokens
            sequence.computed += plan[request_id]
            if sequence.left == 0:  # the step ends with a new token
                sequence.generated += 1
        return plan, preempted

    def _running(self) -> dict[int, _Sequence]:
        """The first few requests, as many as seats and slots allow."""
        running: dict[int, _Sequence] = {}
        known = ahead = 0
        for request_id, sequence in self._sequences.items():
            known += sequence.known
            ahead += min(sequence.known + _LOOKAHEAD, sequence.most)
            # Who has begun goes on while all that is known fits. Who begins leaves the others room
            # to grow: else it is preempted a few steps later, and its prompt computed again.
            need = known if sequence.computed else ahead
            if len(running) == self._max_num_seqs or need > self._kv_slots:
                break
            running[request_id] = sequence
        return running


def _or_unlimited(limit: int | None) -> float:
    return math.inf if limit is None else limit


def _at_least(least: int, **arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and value < least:
            raise ValueError(f"{name}: wanted {least} or more, got {value}")
