"""A generator makes the plans; who runs is the longest beginning, found by bisection."""

import bisect
from collections import Counter, OrderedDict


class Scheduler:
    def __init__(
        self,
        *,
        max_num_seqs,
        max_num_batched_tokens=None,
        long_prefill_token_threshold=None,
        kv_slots=None,
    ):
        _at_least(1, max_num_seqs=max_num_seqs)
        _at_least(max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
        _at_least(1, long_prefill_token_threshold=long_prefill_token_threshold)
        _at_least(1, kv_slots=kv_slots)
        self.kv_slots = kv_slots
        self.requests = OrderedDict()
        bounds = (max_num_seqs, max_num_batched_tokens, long_prefill_token_threshold, kv_slots)
        self.plans = _plans(self.requests, *bounds)

    def add_request(self, request_id, prompt_len, max_tokens):
        if request_id in self.requests:
            raise ValueError(f"a request of that request_id, {request_id}, is there")
        _at_least(1, prompt_len=prompt_len, max_tokens=max_tokens)
        if self.kv_slots is not None:
            _at_least(prompt_len + max_tokens - 1, kv_slots=self.kv_slots)
        self.requests[request_id] = Counter(known=prompt_len, most=prompt_len + max_tokens - 1)

    def finish(self, request_ids):
        for request_id in (request_ids := tuple(request_ids)):
            if request_id not in self.requests:
                raise ValueError(f"request_ids: there is no {request_id}")
        for request_id in request_ids:
            self.requests.pop(request_id)

    def schedule(self):
        return next(self.plans)


def _plans(requests, seats, budget, threshold, slots):
    while True:
        rows = list(requests.items())
        begun = sum(row["computed"] > 0 for _, row in rows)
        known, ahead = [0], [0]
        for _, row in rows:
            known.append(known[-1] + row["known"])
            # Half of what a request may still generate, and never more than 50 tokens.
            ahead.append(ahead[-1] + min(50, (row["most"] - row["known"] + 1) // 2))
        need = [k + a for k, a in zip(known, ahead, strict=True)]
        keep, let_in = begun, len(rows)
        if slots is not None:
            keep = min(begun, bisect.bisect_right(known, slots) - 1)
            let_in = max(1, bisect.bisect_right(need, slots) - 1)
        first = keep if keep < begun else min(seats, max(begun, let_in))
        preempted = [request_id for request_id, row in rows[first:] if row["computed"]]
        for request_id in preempted:
            del requests[request_id]["computed"]
        plan, rest = OrderedDict(), budget
        for request_id, row in rows[:first]:
            chunk = row["known"] - row["computed"]
            for bound in (threshold, rest):
                chunk = chunk if bound is None else min(chunk, bound)
            if chunk:
                plan[request_id] = chunk
                rest = None if rest is None else rest - chunk
                row["computed"] += chunk
                row["known"] += row["computed"] == row["known"]
        yield plan, preempted
