"""The reference of 11_prefix_cache against dictionaries of all prefixes, and against a theorem.

No library has this tree without a GPU and a server behind it. So cache and engine are written here
once more in the plainest way: every cached prefix is a key, every lookup tries all lengths, every
eviction looks at all tokens, and an engine has counts where the real one has slots.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SEEDS = range(12)
Key = tuple[int, ...]


def load() -> ModuleType:
    """The reference; it stands in sys.modules, where dataclasses look for it."""
    path = Path(__file__).parents[2] / "reference" / "11_prefix_cache.py"
    spec = importlib.util.spec_from_file_location("reference_11_prefix_cache", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pc = load()


def prefixes(key: Key) -> Iterator[Key]:
    return (key[: n + 1] for n in range(len(key)))


@dataclass
class Token:
    """A cached token, under the prefix that ends with it."""

    slot: int
    born: int
    used: int
    locks: int = 0


class Dictionary:
    """All cached prefixes. ``now`` counts the calls."""

    def __init__(self) -> None:
        self.tokens: dict[Key, Token] = {}
        self.now = 0

    def longest(self, key: Key) -> Key:
        return max((p for p in prefixes(key) if p in self.tokens), key=len, default=())

    def use(self, key: Key) -> None:
        self.now += 1
        for prefix in prefixes(key):
            self.tokens[prefix].used = self.now

    def insert(self, key: Key, slots: list[int]) -> list[int]:
        superfluous = []
        for prefix, slot in zip(prefixes(key), slots, strict=True):
            if prefix not in self.tokens:
                self.tokens[prefix] = Token(slot, self.now, self.now)
            elif self.tokens[prefix].slot != slot:
                superfluous.append(slot)
        self.use(key)
        return superfluous

    def lock(self, key: Key, by: int) -> None:
        for prefix in prefixes(key):
            self.tokens[prefix].locks += by

    def evict(self, count: int) -> list[int]:
        """The least recently used unlocked tokens; of equally old ones the deepest first."""
        free = [p for p, token in self.tokens.items() if not token.locks]
        oldest = sorted(free, key=lambda p: (self.tokens[p].used, -len(p)))[:count]
        return [self.tokens.pop(p).slot for p in oldest]

    def born(self, key: Key) -> list[int]:
        return [self.tokens[p].born if p in self.tokens else -1 for p in prefixes(key)]

    def sizes(self) -> tuple[int, int]:
        locked = sum(token.locks > 0 for token in self.tokens.values())
        return len(self.tokens) - locked, locked


@pytest.mark.parametrize("letters", [2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_tree_answers_like_the_dictionary(seed: int, letters: int) -> None:
    """400 random calls each: every slot, size, evicted token and refusal is the dictionary's."""
    rng = np.random.default_rng(seed)
    capacity = 60
    cache, other = pc.RadixCache(capacity), Dictionary()
    free, matches = list(range(capacity)), []

    for _ in range(400):
        key = tuple(int(t) for t in rng.integers(0, letters, rng.integers(0, 12)))
        match rng.choice(
            ["insert", "match", "lock", "unlock", "evict"], p=[0.35, 0.3, 0.15, 0.1, 0.1]
        ):
            case "insert":
                known = other.longest(key)[: int(rng.integers(0, 12))]
                need = len(key) - len(known)
                if need > len(free):
                    continue
                slots = [other.tokens[p].slot for p in prefixes(known)] + free[:need]
                del free[:need]
                back = cache.insert(key, slots).tolist()
                assert back == other.insert(key, slots)
                free += back
            case "match":
                found = cache.match_prefix(key)
                known = other.longest(key)
                other.use(known)
                assert found.slots.tolist() == [other.tokens[p].slot for p in prefixes(known)]
                matches.append([found, known, other.born(known), 0])
            case "lock" if matches:
                entry = matches[int(rng.integers(len(matches)))]
                if other.born(entry[1]) != entry[2]:
                    with pytest.raises(ValueError, match="match"):
                        cache.inc_lock_ref(entry[0])
                    continue
                cache.inc_lock_ref(entry[0])
                other.lock(entry[1], 1)
                entry[3] += 1
            case "unlock" if matches:
                entry = matches[int(rng.integers(len(matches)))]
                if not entry[3]:
                    with pytest.raises(ValueError, match="match"):
                        cache.dec_lock_ref(entry[0])
                    continue
                cache.dec_lock_ref(entry[0])
                other.lock(entry[1], -1)
                entry[3] -= 1
            case "evict":
                count = int(rng.integers(0, 10))
                gone = cache.evict(count).tolist()
                assert sorted(gone) == sorted(other.evict(count))
                free += gone
        assert (cache.evictable_size, cache.protected_size) == other.sizes()
        assert len(free) + sum(other.sizes()) == capacity


class Counts:
    """The engine with counts for slots: who is admitted, and how much is computed."""

    def __init__(self, capacity: int, max_running: int, policy: str, max_skips: int) -> None:
        self.cache, self.free, self.policy = Dictionary(), capacity, policy
        self.max_running, self.max_skips = max_running, max_skips
        self.waiting: dict[int, list[Any]] = {}  # id: prompt, max_new_tokens, times passed over
        self.running: dict[int, list[Any]] = {}  # id: prompt, max_new_tokens, what it has locked

    def order(self, known: dict[int, int]) -> list[int]:
        overdue = [i for i, (_, _, skips) in self.waiting.items() if skips >= self.max_skips]
        if self.policy == "fcfs":
            return sorted(self.waiting)
        rest = [i for i in self.waiting if i not in overdue]
        return sorted(overdue) + [
            i for n in range(max(known.values(), default=0), -1, -1) for i in rest if known[i] == n
        ]

    def step(self) -> list[tuple[int, int]]:
        """Ids and first positions computed, in the order of admission."""
        known = {i: len(self.cache.longest(p[:-1])) for i, (p, _, _) in self.waiting.items()}
        admitted: dict[int, int] = {}
        for i in self.order(known):
            prompt, max_new, skips = self.waiting[i]
            if len(self.running) == self.max_running:
                break
            gains = (
                any(prompt[: known[i] + 1] == self.running[j][0][: known[i] + 1] for j in admitted)
                and known[i] < len(prompt) - 1
            )
            if gains and self.policy == "lpm" and skips < self.max_skips:
                continue
            found = self.cache.longest(prompt[:-1])
            need = len(prompt) + max_new - 1 - len(found)
            self.cache.lock(found, 1)
            if need > self.free + self.cache.sizes()[0]:
                self.cache.lock(found, -1)
                break
            self.free += len(self.cache.evict(max(0, need - self.free))) - need
            self.running[i], admitted[i] = [prompt, max_new, found], len(found)
        for i in admitted:
            del self.waiting[i]
        for i, entry in self.waiting.items():
            entry[2] += bool([j for j in admitted if j > i])
        for i in admitted:
            self.keep(i, self.running[i][0], admitted[i])
        return list(admitted.items())

    def keep(self, i: int, key: Key, private_from: int) -> None:
        """Cache a key of which the request has its own slots from a position on."""
        known = len(self.cache.longest(key))
        self.free += max(0, known - private_from)
        self.cache.insert(key, [-1] * len(key))
        self.cache.lock(self.running[i][2], -1)
        self.cache.lock(key, 1)
        self.running[i][2] = key

    def finish(self, i: int, output: Key) -> None:
        prompt, max_new, _ = self.running[i]
        key = prompt + output[:-1]
        self.keep(i, key, len(prompt))
        self.cache.lock(key, -1)
        self.free += len(prompt) + max_new - 1 - len(key)
        del self.running[i]


@pytest.mark.parametrize("policy", ["fcfs", "lpm"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_engine_admits_computes_and_frees_like_the_counts(seed: int, policy: str) -> None:
    """300 random calls each: ids, first positions and free slots are those of the counts."""
    rng = np.random.default_rng(seed)
    capacity, max_running = int(rng.integers(14, 40)), int(rng.integers(1, 6))
    max_skips = int(rng.integers(0, 5))
    options = {"max_running": max_running, "policy": policy, "max_skips": max_skips}
    engine = pc.Engine(capacity=capacity, **options)
    other = Counts(capacity, **options)
    submitted = 0

    for _ in range(300):
        match rng.choice(["submit", "step", "finish"], p=[0.4, 0.35, 0.25]):
            case "submit":
                prompt = tuple(int(t) for t in rng.integers(0, 2, rng.integers(1, 10)))
                max_new = int(rng.integers(1, 5))
                assert engine.submit(prompt, max_new) == submitted
                other.waiting[submitted] = [prompt, max_new, 0]
                submitted += 1
            case "step":
                batch: list[Any] = []
                ids = engine.step(batch.extend)
                want = other.step()
                assert [(i, start) for i, start, _ in batch] == want
                assert ids == [i for i, _ in want]
            case "finish" if other.running:
                i = int(rng.choice(list(other.running)))
                count = int(rng.integers(1, other.running[i][1] + 1))
                output = tuple(int(t) for t in rng.integers(0, 2, count))
                engine.finish(i, output)
                other.finish(i, output)
        assert engine.free_slots == other.free
        cache = engine.cache
        assert (cache.evictable_size, cache.protected_size) == other.cache.sizes()


@pytest.mark.parametrize("seed", SEEDS)
def test_longest_prefix_first_computes_each_prefix_once(seed: int) -> None:
    """Zheng et al., section 3: with room for the longest request, that order is optimal."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        n = int(rng.integers(2, 14))
        words = [tuple(int(t) for t in rng.integers(0, 3, rng.integers(1, 9))) for _ in range(n)]
        prompts = [(*word, 100 + i) for i, word in enumerate(words)]  # none begins with another
        longest = max(map(len, prompts))
        engine = pc.Engine(capacity=longest, max_running=1, policy="lpm", max_skips=n)
        for prompt in prompts:
            engine.submit(prompt)

        computed = 0
        for _ in prompts:
            batch: list[Any] = []
            (i,) = engine.step(batch.extend)
            computed += len(prompts[i]) - batch[0][1]
            engine.finish(i, [0])

        assert computed == len({prefix for prompt in prompts for prefix in prefixes(prompt)})
