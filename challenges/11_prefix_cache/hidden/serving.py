"""The caller of an engine, who knows what each slot was computed for.

An operation is a tuple, and ``given`` says in words which were carried out.
"""

import numpy as np

from pytest_llmgrind import check, st

from .model import KEYS, sizes

PROMPTS = KEYS
SUBMIT = st.tuples(st.just("submit"), PROMPTS, st.integers(1, 3))
STEP = st.just(("step",))
FINISH = st.tuples(st.just("finish"), st.integers(0, 3), st.integers(1, 3))


class Serving:
    """An engine with the memory that its slots stand for.

    ``wrong`` collects, by kind, the first sentence about what went wrong: a slot that was read
    and holds something else, a slot that two have, slots that nobody has.
    """

    def __init__(self, solution, *, capacity=16, **options):
        self.engine = solution.Engine(capacity=capacity, **options)
        self.solution, self.capacity, self.memory, self.wrong = solution, capacity, {}, {}
        words = "".join(f", {name}={value!r}" for name, value in options.items())
        self.made, self.done = f"Engine(capacity={capacity}{words}): ", []
        self.lpm = options.get("policy") == "lpm"
        self.prompts, self.max_new, self.running = [], [], []
        self.starts, self.steps = {}, []

    @property
    def given(self):
        return self.made + ", ".join(self.done)

    def play(self, ops):
        for op in ops:
            getattr(self, op[0])(*op[1:])
        return self

    def rest(self):
        pass

    def submit(self, prompt, max_new=1):
        if len(prompt) + max_new - 1 > self.capacity:
            return
        self.done.append(f"submit({list(prompt)}, {max_new})")
        self.engine.submit(np.array(prompt, np.int64), max_new)
        self.prompts.append(tuple(prompt))
        self.max_new.append(max_new)

    def step(self):
        self.done.append("step")
        batches = []
        admitted = self.engine.step(lambda batch: batches.append(list(batch)))
        if len(batches) != bool(len(admitted)):
            self.note("batch", f"prefill was called {len(batches)} times for {list(admitted)}")
        every = [entry for batch in batches for entry in batch]
        batch = [(int(id), int(at), [int(slot) for slot in row]) for id, at, row in every]
        if [id for id, _, _ in batch] != list(admitted):
            ids = [id for id, _, _ in batch]
            self.note("batch", f"step returned {list(admitted)}, prefill got the ids {ids}")
        for id, start, slots in batch:  # everything is read before anything is written
            self.starts[id] = start
            self.read(f"prefill of request {id}", self.prompts[id][:start], slots)
        for id, start, slots in batch:
            prompt = self.prompts[id]
            if len(slots) != len(prompt):
                self.note("batch", f"prefill of request {id} got {len(slots)} slots")
            self.memory |= {s: prompt[: n + 1] for n, s in enumerate(slots) if n >= start}
        self.running += admitted
        self.steps.append(list(admitted))
        for id in admitted:
            row = self.row(id)[len(self.prompts[id]) :]
            self.memory |= dict.fromkeys(row, ("output", id))
        self.look()
        return list(admitted)

    def finish(self, index=0, count=1):
        if not self.running:
            return
        id = self.running.pop(index % len(self.running))
        prompt, count = self.prompts[id], min(count, self.max_new[id])
        row = self.row(id)[len(prompt) :]
        if any(self.memory.get(slot) != ("output", id) for slot in row):
            self.note("read", f"a slot for the output of request {id} was given to another")
        output = (1,) * count
        for n in range(count - 1):
            self.memory[row[n]] = prompt + output[: n + 1]
        self.done.append(f"finish({id}, {list(output)})")
        self.engine.finish(id, np.array(output, np.int64))
        self.look()

    def row(self, id):
        row = [int(slot) for slot in self.engine.slots(id)]
        size = len(self.prompts[id]) + self.max_new[id] - 1
        if len(row) != size:
            self.note("batch", f"slots({id}) has {len(row)} numbers")
        return row

    def read(self, who, tokens, slots):
        for n in range(len(tokens)):
            if n >= len(slots) or self.memory.get(slots[n]) != tokens[: n + 1]:
                self.note("read", f"{who} reads something else at position {n}")
                return

    def look(self):
        """What the running requests read is there, and each slot is somewhere."""
        private = 0
        for id in self.running:
            self.read(f"request {id}", self.prompts[id], self.row(id))
            private += self.max_new[id] - 1
        free, cache = self.engine.free_slots, self.engine.cache
        cached = cache.evictable_size + cache.protected_size
        if free + cached + private != self.capacity:
            self.note("lost", f"{free} free, {cached} cached, {private} kept for outputs")

    def note(self, kind, sentence):
        self.wrong.setdefault(kind, f"{sentence} (after {self.done[-1]})")

    def check(self, *kinds):
        for kind in kinds:
            self.that(kind not in self.wrong, self.wrong.get(kind, ""))

    def ids(self, want):
        """One more step, which admits exactly these."""
        saw = self.step()
        self.that(saw == want, f"the last step admitted {saw}, which is not right")

    def start(self, id, want):
        saw = self.starts.get(id)
        self.that(
            saw == want, f"request {id} is computed from position {saw} on, which is not right"
        )

    def that(self, condition, saw, value=None):
        if not condition:
            so_far = (self.steps, self.starts, self.wrong, self.state(), basics(self.solution))
            if self.lpm:
                so_far += (preferences(self.solution),)
            check.that(False, saw=saw, given=self.given, value=(saw, value, so_far))

    def state(self):
        """What tells mistakes apart whichever slots an engine prefers: sizes, who reads what."""
        engine, reads = self.engine, []
        for id in self.running:
            prompt = self.prompts[id]
            found = engine.cache.match_prefix(np.array(prompt, np.int64)).slots
            reads.append(np.array_equal(found, engine.slots(id)[: len(prompt)]))
        return int(engine.free_slots), sizes(engine.cache), reads


def basics(solution):
    """What a cache answers to a few calls: whether a mistake lies in it or in the engine."""
    cache = solution.RadixCache(20)
    said = [cache.insert([5, 6], [2, 3]), cache.insert([1, 2, 3], [7, 8, 9])]
    said += [cache.insert([1, 2, 4], [7, 0, 1]), cache.match_prefix([1, 2, 9]).slots]
    match = cache.match_prefix([1, 2, 3])
    cache.inc_lock_ref(match)
    said += [match.slots, cache.match_prefix([5]).slots]
    said += [cache.evict(1), cache.evict(9), cache.match_prefix([1, 2, 3]).slots]
    other = solution.RadixCache(20)
    said += [
        other.insert([5], [0]),
        (match := other.match_prefix([5])).slots,
        other.insert([6], [1]),
    ]
    other.inc_lock_ref(match)
    other.dec_lock_ref(match)
    said += [other.evict(1)]
    said = [sorted(int(slot) for slot in slots) for slots in said]
    return said, sizes(cache), sizes(other)


def preferences(solution):
    """The orders in which an engine serves prompts whose cached prefixes differ, and who waits."""
    many = [[1, 2, 3, 4], [9, 9], [1, 2, *[7] * 4], [1, 8], [1, 6], [1, 2, 3, *[5] * 6]]
    few, served = [[1, 2, 3, 4], [9, 9], [1, 2, 3, 5], [1, 2, 6]], []
    for max_skips, queue in ((99, many), (1, many), (1, few)):
        engine = solution.Engine(capacity=99, max_running=1, policy="lpm", max_skips=max_skips)
        for first, last in ((0, 1), (1, len(queue))):
            for prompt in queue[first:last]:
                engine.submit(prompt)
            for _ in range(first, last):
                for id in engine.step(lambda batch: None):
                    served.append(int(id))
                    engine.finish(id, [0])
    together = solution.Engine(capacity=99, max_running=9, policy="lpm")
    for prompt in ([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4, 6], [1, 7]):
        together.submit(prompt)
    return served, list(together.step(lambda batch: None))
