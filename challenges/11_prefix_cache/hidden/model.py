"""What a prefix cache has to do, in the plainest way: a dictionary of all cached prefixes.

``Game`` plays the caller of a cache, with a pool of slots and that dictionary beside it; an
operation is a tuple, and ``given`` says in words which were carried out.
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


def whole_numbers(array, what, given):
    """The array as a list, once it is one of int64."""
    shape = getattr(array, "shape", (0,))[:1]
    return [int(n) for n in check.array(array, shape=shape, dtype=np.int64, what=what, given=given)]


def order(cache):
    """The slots in the order in which tokens go, one call for each."""
    gone = []
    while slots := [int(slot) for slot in cache.evict(1)]:
        gone += slots
    return gone


def refused(call, *args, what, names, given, look):
    """The call raises a ValueError that names an argument; else ``look()`` says what it did."""
    try:
        call(*args)
    except NotImplementedError:
        raise
    except Exception as error:
        check.raises(ValueError, _raising(error), what=what, names=names, given=given)
    else:
        check.that(False, saw=f"{what} was not refused", given=given, value=look())


def _raising(error):
    def call():
        raise error

    return call


class Game:
    """A cache beside the dictionary.

    ``watch`` says which answers are compared, of "match", "superfluous", "sizes" and "evicted";
    with "sizes" come the calls of stage 2. All answers are kept: two mistakes that lead to the same
    wrong one seldom share the way there.
    """

    def __init__(self, solution, *watch, capacity=20):
        self.cache, self.capacity, self.watch = solution.RadixCache(capacity), capacity, watch
        self.model, self.free = Prefixes(), list(range(capacity))
        self.handles, self.done, self.answers = [], [], []

    @property
    def given(self):
        return f"RadixCache({self.capacity}): " + (", ".join(self.done) or "nothing done")

    def play(self, ops):
        for op in ops:
            getattr(self, op[0])(*op[1:])
        return self

    def compare(self, kind, what, saw, want):
        self.answers.append(saw)
        if kind in self.watch and saw != want:
            # What is left in which order tells mistakes apart that look the same so far.
            rest = order(self.cache) if "evicted" in self.watch else []
            value = (self.answers, rest)
            check.that(
                False, saw=f"{what} {saw}, which is not right", given=self.given, value=value
            )

    def rest(self):
        pass

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
        saw = whole_numbers(saw, "what insert returned", self.given)
        self.compare("superfluous", "insert returned", saw, left)
        self.sizes()

    def match(self, key):
        found = self.model.longest(tuple(key))
        name = f"m{len(self.handles)}"
        self.done.append(f"{name} = match {list(key)}")
        match = self.cache.match_prefix(np.array(key, np.int64))
        self.model.touch(found)
        path = self.model.path(found)
        self.handles.append(Handle(match, found, tuple(entry.born for entry in path), name))
        saw = whole_numbers(match.slots, f"{name}.slots", self.given)
        self.compare("match", f"{name}.slots is", saw, [entry.slot for entry in path])
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
        saw = sorted(whole_numbers(saw, "what evict returned", self.given))
        self.compare("evicted", "evict returned, in ascending order,", saw, sorted(gone))
        self.sizes()

    def sizes(self):
        if "sizes" in self.watch:
            saw = sizes(self.cache)
            self.compare("sizes", "(evictable_size, protected_size) is", saw, self.model.sizes())


def sizes(cache):
    return int(cache.evictable_size), int(cache.protected_size)


def sizes_are(cache, want, given):
    saw = sizes(cache)
    text = f"(evictable_size, protected_size) is {saw}, which is not right"
    check.that(saw == want, saw=text, given=given, value=saw)


# -- what is drawn ------------------------------------------------------------------------------

# Words of two letters, all up to four and some longer ones, so that much is shared. One draw each:
# a sequence of operations is then shortened quickly.
WORDS = [[*map(int, f"{n:b}"[1:])] for n in range(2, 32)]
WORDS += [[*word, *other] for word, other in zip(WORDS[14:], WORDS[2:], strict=False)]
KEYS = st.sampled_from(WORDS)
INSERT = st.tuples(st.just("insert"), KEYS, st.integers(0, 6))
INSERT_NEW = st.tuples(st.just("insert"), KEYS)
MATCH = st.tuples(st.just("match"), KEYS)
LOCK = st.tuples(st.just("lock"), st.integers(0, 5))
UNLOCK = st.tuples(st.just("unlock"), st.integers(0, 5))
EVICT = st.tuples(st.just("evict"), st.integers(0, 8))
REST = st.just(("rest",))  # a long sequence becomes a short one by resting


def several(*kinds, least=3, most=12):
    return st.lists(st.one_of(REST, *kinds), min_size=least, max_size=most)
