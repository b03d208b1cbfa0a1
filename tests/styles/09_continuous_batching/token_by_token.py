"""Known tokens are lists of marks, the budget is handed out token by token; cells are counted."""


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
        _at_least(1, long_prefill_token_threshold=long_prefill_token_threshold, kv_slots=kv_slots)
        self.seats = range(max_num_seqs)
        self.budget = max_num_batched_tokens or math.inf
        self.threshold = long_prefill_token_threshold or math.inf
        self.slots = kv_slots or math.inf
        self.marks, self.tops, self.clock = {}, {}, 0

    def add_request(self, request_id, prompt_len, max_tokens):
        if request_id in self.marks:
            raise ValueError("request_id")
        if prompt_len < 1:
            raise ValueError("prompt_len")
        if max_tokens < 1:
            raise ValueError("max_tokens")
        if prompt_len + max_tokens - 1 > self.slots:
            raise ValueError("kv_slots")
        self.marks[request_id] = [False] * prompt_len
        self.tops[request_id] = prompt_len + max_tokens - 1

    def finish(self, request_ids):
        rest = {i: marks for i, marks in self.marks.items() if i not in set(request_ids)}
        if len(rest) != len(self.marks) - len(set(request_ids)):
            raise ValueError("request_ids")
        self.marks = rest

    def room(self, ids):
        """What they may need within the next 40 steps."""
        return sum(min(len(self.marks[i]) + 40, self.tops[i]) for i in ids)

    def schedule(self):
        held = [i for i, marks in self.marks.items() if any(marks)]
        preempted = []
        while sum(len(self.marks[i]) for i in held) > self.slots:
            preempted.append(held.pop())
            self.marks[preempted[-1]] = [False] * len(self.marks[preempted[-1]])
        running = list(held)
        for i in self.marks:
            if i in running or preempted:
                continue
            if len(running) not in self.seats or self.room([*running, i]) > self.slots:
                break
            running.append(i)
        plan = {}
        for i in running:
            if any(self.marks[i]) and self.marks[i].count(False) == 1:
                plan[i] = 1
        while sum(plan.values()) < self.budget:
            may = [i for i in running if plan.get(i, 0) < min(self.wants(i), self.threshold)]
            if not may:
                break
            plan[may[0]] = plan.get(may[0], 0) + 1
        for i, n in plan.items():
            marks = self.marks[i]
            first = marks.index(False)
            marks[first : first + n] = [True] * n
            if all(marks):
                marks.append(False)
        return plan, preempted

    def wants(self, i):
        return self.marks[i].count(False)


def static_batching(requests, *, max_num_seqs):
    if max_num_seqs <= 0:
        raise ValueError(f"max_num_seqs={max_num_seqs}")
    order = [i for _, i in sorted((r.arrival_us, i) for i, r in enumerate(requests))]
    times, cells, served, steps, now = {}, 0, 0, 0, 0
    while order:
        now = now if requests[order[0]].arrival_us <= now else requests[order[0]].arrival_us
        rows = []
        while order and len(rows) < max_num_seqs and requests[order[0]].arrival_us <= now:
            rows.append(order.pop(0))
        prompts = [requests[i].prompt_len for i in rows]
        outputs = [requests[i].output_len for i in rows]
        now += step_us(len(rows) * max(prompts))
        one = step_us(len(rows))
        for i, n in zip(rows, outputs, strict=True):
            times[i] = list(range(now, now + n * one, one))
        later = max(outputs) - 1
        now, steps = now + later * one, steps + 1 + later
        cells += len(rows) * (max(prompts) + later)
        served += sum(prompts) + sum(outputs) - len(rows)
    return Report(
        token_us=[times[i] for i in range(len(requests))],
        padded_tokens=cells - served,
        computed_tokens=cells,
        steps=steps,
    )
