"""The naive way: a batch stays until all of it has ended, prompts go first, and whoever fits now
is let in, whatever it needs a step later."""

import math


class Scheduler:
    def __init__(self, *, max_num_seqs, max_num_batched_tokens=math.inf, kv_slots=math.inf):
        self.seats, self.budget, self.slots = max_num_seqs, max_num_batched_tokens, kv_slots
        self.waiting, self.batch = [], []

    def add_request(self, request_id, prompt_len, max_tokens):
        self.waiting.append([request_id, prompt_len, 0])  # id, tokens known, tokens computed

    def finish(self, request_ids):
        self.batch = [row for row in self.batch if row[0] not in request_ids]

    def schedule(self):
        if not self.batch:
            self.batch, self.waiting = self.waiting[: self.seats], self.waiting[self.seats :]
        running, preempted, held = [], [], 0
        for row in self.batch:
            held += row[1]
            if held <= self.slots:
                running.append(row)
            elif row[2]:
                preempted.append(row[0])
                row[2] = 0
        plan, budget = {}, self.budget
        for row in sorted(running, key=lambda row: row[1] - row[2] == 1):
            tokens = min(row[1] - row[2], budget)
            if tokens:
                plan[row[0]] = int(tokens)
                budget -= tokens
                row[2] += int(tokens)
                row[1] += row[2] == row[1]
        return plan, preempted
