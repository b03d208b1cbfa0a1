"""The naive way: a list of all prefixes, looked through from end to end; prompts share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Match:
    slots: np.ndarray


class RadixCache:
    def __init__(self, capacity):
        self.entries = []  # (prefix, the slot of its last token)

    def match_prefix(self, key):
        key = list(map(int, key))
        found = {len(prefix): slot for prefix, slot in self.entries if key[: len(prefix)] == prefix}
        slots = [found[n] for n in sorted(found)]
        return Match(np.array(slots, np.int64))

    def insert(self, key, slots):
        key, known = list(map(int, key)), len(self.match_prefix(key).slots)
        for n in range(known, len(key)):
            self.entries.append((key[: n + 1], int(slots[n])))
        return np.array(slots[:known], np.int64)

    def inc_lock_ref(self, match):
        pass

    def evict(self, num_tokens):
        last = self.entries[len(self.entries) - num_tokens :]
        del self.entries[len(self.entries) - num_tokens :]
        return np.array([slot for _, slot in last], np.int64)


class Engine:
    def __init__(self, *, capacity, max_running, policy="fcfs", max_skips=8):
        self.max_running, self.waiting, self.running, self.submitted = max_running, [], {}, 0
        self.cache, self.prompts = RadixCache(capacity), {}

    def submit(self, prompt, max_new_tokens=1):
        self.waiting.append((self.submitted, prompt))
        self.submitted += 1
        return self.submitted - 1

    def step(self, prefill):
        room = self.max_running - len(self.running)
        admitted, self.waiting = self.waiting[:room], self.waiting[room:]
        at = 0
        for id, prompt in admitted:
            self.running[id], self.prompts[id] = np.arange(at, at + len(prompt)), prompt
            at += len(prompt)
        if admitted:
            prefill([(id, 0, self.running[id]) for id, _ in admitted])
        return [id for id, _ in admitted]

    def slots(self, request_id):
        return self.running[request_id]

    def finish(self, request_id, output):
        self.cache.evict(len(self.cache.entries))  # it remembers no more than the last prompt
        self.cache.insert(self.prompts.pop(request_id), self.running.pop(request_id))
