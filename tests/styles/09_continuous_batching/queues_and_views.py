"""A queue of those who wait and a list of those who run, as in vLLM; slots are counted as used."""


class Scheduler:
    __slots__ = ("_bounds", "_running", "_seen", "_waiting")

    def __init__(
        self,
        *,
        max_num_seqs,
        max_num_batched_tokens=None,
        long_prefill_token_threshold=None,
        kv_slots=None,
    ):
        bounds = {
            "max_num_seqs": (max_num_seqs, 1),
            "max_num_batched_tokens": (max_num_batched_tokens, max_num_seqs),
            "long_prefill_token_threshold": (long_prefill_token_threshold, 1),
            "kv_slots": (kv_slots, 1),
        }
        for name, (bound, least) in bounds.items():
            if bound is not None and bound < least:
                raise ValueError(f"{name} is {bound}")
        self._bounds = [10**9 if bound is None else bound for bound, _ in bounds.values()]
        self._waiting, self._running, self._seen = [], [], set()

    def add_request(self, request_id, prompt_len, max_tokens):
        if request_id in self._seen:
            raise ValueError(f"request_id {request_id} twice")
        for name, value in (("prompt_len", prompt_len), ("max_tokens", max_tokens)):
            if value < 1:
                raise ValueError(f"{name} is {value}")
        if prompt_len + max_tokens > self._bounds[3] + 1:
            raise ValueError("kv_slots: it can never run")
        self._seen.add(request_id)
        self._waiting.append([request_id, prompt_len, 0, max_tokens])

    def finish(self, request_ids):
        gone = set(request_ids)
        if not gone <= self._seen:
            raise ValueError("request_ids")
        self._seen -= gone
        for queue in (self._waiting, self._running):
            queue[:] = [row for row in queue if row[0] not in gone]

    def schedule(self):
        seats, budget, threshold, slots = self._bounds
        plan, preempted, at = {}, [], 0
        while at < len(self._running):
            row = self._running[at]
            tokens = min(row[1] - row[2], threshold, budget)
            # Prompts in pieces count as a whole, or they would lose their slots halfway.
            while sum(other[1] for other in self._running) > slots:
                victim = self._running.pop()
                victim[2] = 0
                preempted.append(victim[0])
                self._waiting.insert(0, victim)
            if at < len(self._running) and tokens:
                plan[row[0]], budget = tokens, budget - tokens
            at += 1
        while self._waiting and budget and len(self._running) < seats and not preempted:
            row = self._waiting[0]
            free = slots - sum(other[1] for other in self._running)
            grow = sum(min(24, other[3]) for other in self._running) + min(24, row[3])
            if row[1] > free or (self._running and row[1] + grow > free):
                break
            self._running.append(self._waiting.pop(0))
            plan[row[0]] = min(row[1], threshold, budget)
            budget -= plan[row[0]]
        for row in self._running:
            row[2] += plan.get(row[0], 0)
            if row[2] == row[1]:
                row[1], row[3] = row[1] + 1, row[3] - 1
        return dict(reversed(plan.items())), preempted
