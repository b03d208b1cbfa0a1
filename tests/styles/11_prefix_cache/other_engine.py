"""An engine of dicts and sets: the highest slot first, and the queue by taking out the best."""

import itertools


class Engine:
    def __init__(self, *, capacity, max_running, policy="fcfs", max_skips=8):
        if policy not in {"lpm", "fcfs"}:
            raise ValueError(f"no policy={policy}")
        self.cache, self.pool, self.capacity = RadixCache(capacity), set(range(capacity)), capacity
        self.places, self.lpm, self.patience = max_running, policy == "lpm", max_skips
        self.ids, self.queue, self.running = itertools.count(), {}, {}

    free_slots = property(lambda self: len(self.pool))

    def submit(self, prompt, max_new_tokens=1):
        prompt = tuple(np.array(prompt, np.int64).tolist())
        if not prompt:
            raise ValueError("the prompt is empty")
        if max_new_tokens <= 0:
            raise ValueError("max_new_tokens is too small")
        if len(prompt) + max_new_tokens > self.capacity + 1:
            raise ValueError("more than the capacity")
        id = next(self.ids)
        self.queue[id] = {"prompt": prompt, "new": max_new_tokens, "passed": 0}
        return id

    def known(self, id):
        return len(self.cache._peek(np.array(self.queue[id]["prompt"][:-1], np.int64)).slots)

    def late(self, id):
        return not self.lpm or self.queue[id]["passed"] >= self.patience

    def step(self, prefill):
        known, left, batch = {id: self.known(id) for id in self.queue}, set(self.queue), []
        while left and len(self.running) < self.places:
            late = [id for id in left if self.late(id)]
            id = min(late) if late else min(left, key=lambda id: (-known[id], id))
            left.remove(id)
            prompt = self.queue[id]["prompt"]
            more = prompt[: known[id] + 1]
            others = [self.running[other]["prompt"] for other, _ in batch]
            gains = len(more) < len(prompt) and any(p[: len(more)] == more for p in others)
            if gains and not self.late(id):
                continue
            start = self.place(id)
            if start is None:
                break
            batch.append((id, start))
        ids = [id for id, _ in batch]
        for id in ids:
            del self.queue[id]
        for id, request in self.queue.items():
            request["passed"] += id < max(ids, default=-1)
        if ids:
            rows = {id: self.slots(id)[: len(self.running[id]["prompt"])] for id in ids}
            prefill([(id, start, rows[id]) for id, start in batch])
        for id in reversed(ids):
            self.settle(self.running[id], self.running[id]["prompt"])
        return ids

    def place(self, id):
        request = self.queue[id]
        match = self.cache._peek(np.array(request["prompt"][:-1], np.int64))
        self.cache.inc_lock_ref(match)
        need = len(request["prompt"]) + request["new"] - 1 - len(match.slots)
        missing = need - len(self.pool)
        if missing > self.cache.evictable_size:
            self.cache.dec_lock_ref(match)
            return None
        if missing > 0:
            self.pool.update(self.cache.evict(missing).tolist())
        new = sorted(self.pool, reverse=True)[:need]
        self.pool.difference_update(new)
        row = [*match.slots.tolist(), *new]
        self.running[id] = {**request, "row": row, "match": match}
        return len(match.slots)

    def settle(self, request, key):
        """What was handed in and is not where the tokens are found afterwards is free."""
        own = request["row"][: len(key)]
        self.cache.insert(key, own)
        match = self.cache.match_prefix(key)
        request["row"][: len(key)] = match.slots.tolist()
        self.pool |= set(own) - set(request["row"])
        self.cache.inc_lock_ref(match)
        self.cache.dec_lock_ref(request["match"])
        request["match"] = match

    def finish(self, request_id, output):
        request = self.running.get(request_id)
        if request is None:
            raise ValueError(f"request_id {request_id} does not run")
        if len(output) == 0 or len(output) > request["new"]:
            raise ValueError("output is empty or too long")
        key = [*request["prompt"], *np.array(output, np.int64).tolist()][:-1]
        self.settle(request, key)
        self.cache.dec_lock_ref(request["match"])
        self.pool |= set(request["row"][len(key) :])
        del self.running[request_id]

    def slots(self, request_id):
        return np.array(self.running[request_id]["row"], np.int64)
