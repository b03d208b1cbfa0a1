"""What a prefix cache has to do, in the plainest way: a dictionary of all cached prefixes.

``Game`` plays the caller of a cache, with a pool of slots and that dictionary beside it; an
operation is a tuple, and ``given`` says in words which were carried out. ``Serving`` plays the
caller of an engine and keeps which token, behind which others, each slot was computed for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_llmgrind import check, st


@dataclass
class Entry:
    """A cached token; its key in the dictionary is the whole prefix that ends with it."""

    slot: int
    touched: int
    born: int
    locks: int = 0


class Prefixes:
    """The dictionary."""

    def __init__(self):
        self.entries, self.clock = {}, 0

    def longest(self, key):
        n = 0
        while n < len(key) and key[: n + 1] in self.entries:
            n += 1
        return key[:n]

    def path(self, key):
        """The entries of a cached key, from its first token to its last."""
        return [self.entries[key[: n + 1]] for n in range(len(key))]

    def touch(self, key):
        self.clock += 1
        for entry in self.path(key):
            entry.touched = self.clock

    def insert(self, key, slots):
        known = len(self.longest(key))
        path = self.path(key[:known])
        left = [slot for slot, entry in zip(slots, path, strict=False) if slot != entry.slot]
        for n in range(known, len(key)):
            self.entries[key[: n + 1]] = Entry(slots[n], 0, self.clock)
        self.touch(key)
        return left

    def evict(self, num_tokens):
        """One token after another: of those with no lock and nothing behind them, the oldest."""
        gone = []
        for _ in range(num_tokens):
            inner = {key[:-1] for key in self.entries}
            free = [k for k, entry in self.entries.items() if k not in inner and not entry.locks]
            if not free:
                break
            oldest = min(free, key=lambda key: self.entries[key].touched)
            gone.append(self.entries.pop(oldest).slot)
        return gone

    def sizes(self):
        """Evictable and protected tokens."""
        held = sum(entry.locks > 0 for entry in self.entries.values())
        return len(self.entries) - held, held


@dataclass
class Handle:
    """A match of the solution's, and what the dictionary knew at that time."""

    match: object
    key: tuple
    born: tuple
    name: str
    locks: int = 0


ALL = frozenset({"match", "superfluous", "sizes", "evicted"})


class Game:
    """A cache beside the dictionary; ``watch`` says which answers are compared."""

    def __init__(self, solution, *, capacity=20, watch=ALL):
        self.cache, self.capacity, self.watch = solution.RadixCache(capacity), capacity, watch
        self.model, self.free = Prefixes(), list(range(capacity))
        self.handles, self.done = [], []

    @property
    def given(self):
        return f"RadixCache({self.capacity}): " + (", ".join(self.done) or "nothing done")

    def play(self, ops):
        for op in ops:
            getattr(self, op[0])(*op[1:])
        return self

    def insert(self, key, own=0):
        """Insert key; for the first ``own`` of its cached tokens with the cache's own slots."""
        key = tuple(key)
        known = self.model.path(self.model.longest(key))
        slots = [entry.slot for entry in known[:own]]
        if len(key) - len(slots) > len(self.free):
            return
        while len(slots) < len(key):
            slots.append(self.free.pop())
        self.done.append(f"insert {list(key)} with slots {slots}")
        saw = self.cache.insert(np.array(key, np.int64), np.array(slots, np.int64))
        left = self.model.insert(key, slots)
        self.free += left
        if "superfluous" in self.watch:
            want = np.array(left, np.int64)
            check.equal(saw, want, what="the slots that insert returned", given=self.given)
        self.sizes()

    def match(self, key):
        found = self.model.longest(tuple(key))
        name = f"m{len(self.handles)}"
        self.done.append(f"{name} = match {list(key)}")
        match = self.cache.match_prefix(np.array(key, np.int64))
        self.model.touch(found)
        path = self.model.path(found)
        self.handles.append(Handle(match, found, tuple(entry.born for entry in path), name))
        if "match" in self.watch:
            want = np.array([entry.slot for entry in path], np.int64)
            check.equal(match.slots, want, what="match.slots", given=self.given)
        self.sizes()

    def alive(self, handle):
        """Whether no token of the match was evicted since."""
        entries = self.model.entries
        path = [handle.key[: n + 1] for n in range(len(handle.key))]
        return tuple(entries[p].born for p in path if p in entries) == handle.born

    def lock(self, index):
        alive = [handle for handle in self.handles if self.alive(handle)]
        if not alive:
            return
        handle = alive[index % len(alive)]
        self.done.append(f"lock {handle.name}")
        self.cache.inc_lock_ref(handle.match)
        self.count(handle, 1)

    def unlock(self, index):
        locked = [handle for handle in self.handles if handle.locks]
        if not locked:
            return
        handle = locked[index % len(locked)]
        self.done.append(f"unlock {handle.name}")
        self.cache.dec_lock_ref(handle.match)
        self.count(handle, -1)

    def count(self, handle, change):
        handle.locks += change
        for entry in self.model.path(handle.key):
            entry.locks += change
        self.sizes()

    def evict(self, num_tokens):
        self.done.append(f"evict {num_tokens}")
        saw = self.cache.evict(num_tokens)
        gone = self.model.evict(num_tokens)
        self.free += gone
        if "evicted" in self.watch:
            what = "the slots that evict returned"
            check.array(saw, shape=(len(gone),), dtype=np.int64, what=what, given=self.given)
            want = np.array(sorted(gone), np.int64)
            check.equal(np.sort(saw), want, what=f"{what}, in ascending order,", given=self.given)
        self.sizes()

    def sizes(self):
        if "sizes" in self.watch:
            saw = (self.cache.evictable_size, self.cache.protected_size)
            what = "(evictable_size, protected_size)"
            check.equal(saw, self.model.sizes(), what=what, given=self.given)


# -- what is drawn ------------------------------------------------------------------------------

KEYS = st.lists(st.integers(0, 2), min_size=1, max_size=6)
INSERT = st.tuples(st.just("insert"), KEYS, st.integers(0, 6))
MATCH = st.tuples(st.just("match"), KEYS)
LOCK = st.tuples(st.just("lock"), st.integers(0, 5))
UNLOCK = st.tuples(st.just("unlock"), st.integers(0, 5))
EVICT = st.tuples(st.just("evict"), st.integers(0, 8))


def several(*kinds, least=3, most=12):
    return st.lists(st.one_of(*kinds), min_size=least, max_size=most)


# -- an engine ----------------------------------------------------------------------------------

PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=7)
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
        self.capacity, self.memory, self.wrong = capacity, {}, {}
        words = "".join(f", {name}={value!r}" for name, value in options.items())
        self.made, self.done = f"Engine(capacity={capacity}{words}): ", []
        self.prompts, self.max_new, self.running, self.starts = [], [], [], {}

    @property
    def given(self):
        return self.made + ", ".join(self.done)

    def play(self, ops):
        for op in ops:
            getattr(self, op[0])(*op[1:])
        return self

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
        admitted = self.engine.step(lambda batch: batches.extend(batch))
        batch = [(int(id), int(at), [int(slot) for slot in row]) for id, at, row in batches]
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
        output = (2,) * count
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
            saw = self.wrong.get(kind, "")
            check.that(not saw, saw=saw, given=self.given, value=(saw, self.starts))
