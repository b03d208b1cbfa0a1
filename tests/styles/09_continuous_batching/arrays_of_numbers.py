"""A row of an array for each request, decodes apart, sums by cumsum; plans hold NumPy ints."""

import numpy as np


class Scheduler:
    def __init__(
        self,
        *,
        max_num_seqs,
        max_num_batched_tokens=None,
        long_prefill_token_threshold=None,
        kv_slots=None,
    ):
        _at_least(1, max_num_seqs=max_num_seqs, kv_slots=kv_slots)
        _at_least(1, long_prefill_token_threshold=long_prefill_token_threshold)
        _at_least(max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
        top = np.iinfo(np.int64).max // 4
        bounds = (max_num_seqs, max_num_batched_tokens, long_prefill_token_threshold, kv_slots)
        self.bounds = [top if bound is None else bound for bound in bounds]
        self.table = np.zeros((0, 4), np.int64)  # id, known, computed, slots at the end

    def add_request(self, request_id, prompt_len, max_tokens):
        if (self.table[:, 0] == request_id).any():
            raise ValueError(f"request_id {request_id}")
        _at_least(1, prompt_len=prompt_len, max_tokens=max_tokens)
        _at_least(prompt_len + max_tokens - 1, kv_slots=self.bounds[3])
        row = [request_id, prompt_len, 0, prompt_len + max_tokens - 1]
        self.table = np.vstack([self.table, np.array([row], np.int64)])

    def finish(self, request_ids):
        gone = np.fromiter(request_ids, np.int64)
        if not np.isin(gone, self.table[:, 0]).all():
            raise ValueError(f"request_ids: {gone}")
        self.table = self.table[~np.isin(self.table[:, 0], gone)]

    def schedule(self):
        seats, budget, threshold, slots = self.bounds
        ids, known, computed, most = self.table.T
        begun = computed > 0
        # A tenth of the slots stays free when somebody begins, as far as it could ever be needed.
        spare = np.minimum(np.cumsum(most - known), slots // 10)
        need = np.cumsum(known) + np.where(begun, 0, spare)
        alone = np.arange(len(ids)) == 0
        runs = np.logical_and.accumulate((need <= slots) | alone) & (np.arange(len(ids)) < seats)
        lost = ids[begun & ~runs].tolist()
        self.table[~runs, 2] = 0
        left = np.where(runs, known - computed, 0)
        given = np.where(begun & (left == 1), 1, 0)
        rest = np.minimum(np.where(given == 1, 0, left), threshold)
        before = np.cumsum(rest) - rest
        given = given + np.clip(budget - given.sum() - before, 0, rest)
        self.table[:, 2] += given
        self.table[:, 1] += (given > 0) & (given == left)
        takes = given > 0
        return dict(zip(ids[takes], given[takes], strict=True)), lost
