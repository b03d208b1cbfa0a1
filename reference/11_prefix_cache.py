"""A radix tree of cached prefixes, and an engine that serves requests from it.

RadixAttention: Zheng et al. 2023, "SGLang: Efficient Execution of Structured Language Model
Programs", arXiv 2312.07104, section 3: the tree, reference counts, LRU eviction of leaves, and
longest-shared-prefix-first scheduling.
Differs from the paper in that pages have one token, that a leaf is evicted token by token from its
end and not as a whole, that what a partial match leaves out stays as old as it was, and that a
request can be passed over only so often.

Dimension key: T tokens of a key, M of them matched, P tokens of a prompt, N slots of a request.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Ints = Sequence[int] | np.ndarray
Prefill = Callable[[list[tuple[int, int, np.ndarray]]], Any]
_NONE = np.zeros(0, np.int64)


@dataclass(eq=False)
class Match:
    """The longest cached prefix of a key when it was looked up, and a handle to lock it by."""

    slots: np.ndarray  # (M,) int64
    node: Any = None
    lock_ref: int = 0  # locks taken by this match and not yet given back


@dataclass(eq=False)
class _Node:
    """Tokens that follow each other on every path. A match ends where a node ends."""

    key: np.ndarray  # (n,) the tokens
    slots: np.ndarray  # (n,)
    parent: _Node | None = None
    end: int = 0  # tokens from the root to the last of key; shrinks and never grows
    last_access: int = 0
    lock_ref: int = 0
    children: dict[int, _Node] = field(default_factory=dict)  # by their first token


class RadixCache:
    """Which slots hold the keys and values of which prefixes."""

    def __init__(self, capacity: int) -> None:
        self._root = _Node(_NONE, _NONE)
        self._held = np.zeros(capacity, bool)  # (capacity,) whether the tree has that slot
        self._clock = self._size = self._protected = 0

    @property
    def evictable_size(self) -> int:
        """Cached tokens that no lock holds."""
        return self._size - self._protected

    @property
    def protected_size(self) -> int:
        """Cached tokens that a lock holds."""
        return self._protected

    def match_prefix(self, key: Ints) -> Match:
        """The longest cached prefix of key; touches it."""
        path = self._walk(np.array(key, np.int64))
        self._touch(path)
        return _match_of(path)

    def insert(self, key: Ints, slots: Ints) -> np.ndarray:
        """Cache key; those slots that are not needed, since the token had another. (n,) int64"""
        key, slots = np.array(key, np.int64), np.array(slots, np.int64)
        if len(slots) != len(key):
            raise ValueError(f"slots: wanted {len(key)}, one a token, got {len(slots)}")
        path = self._walk(key)
        known = _match_of(path).slots  # (M,)
        M = len(known)
        other = np.append(slots[:M] != known, np.ones(len(slots) - M, bool))  # (T,)
        self._check(slots, other)
        self._touch(path)
        if len(key) > M:
            leaf = _Node(key[M:].copy(), slots[M:].copy(), path[-1], len(key), self._clock)
            path[-1].children[int(key[M])] = leaf
            self._held[leaf.slots] = True
            self._size += len(leaf.key)
        return slots[:M][other[:M]]

    def inc_lock_ref(self, match: Match) -> None:
        """Hold every token of the match, from the first to the last, until dec_lock_ref."""
        if match.node.end < len(match.slots):
            raise ValueError("match: tokens of it have been evicted since, match again")
        for node in _upwards(match.node):
            if node.lock_ref == 0:
                self._protected += len(node.key)
            node.lock_ref += 1
        match.lock_ref += 1

    def dec_lock_ref(self, match: Match) -> None:
        """Give back one lock of the match."""
        if match.lock_ref == 0:
            raise ValueError("match: it holds no lock to give back")
        for node in _upwards(match.node):
            node.lock_ref -= 1
            if node.lock_ref == 0:
                self._protected -= len(node.key)
        match.lock_ref -= 1

    def evict(self, num_tokens: int) -> np.ndarray:
        """Remove the least recently used of the tokens that nothing holds; their slots. (n,)"""
        if num_tokens < 0:
            raise ValueError(f"num_tokens: wanted 0 or more, got {num_tokens}")
        # No two leaves are equally old: a call touches one path. Each call of evict looks at all
        # nodes; a production tree keeps the free leaves in a set.
        heap = [(node.last_access, node) for node in _below(self._root) if _is_free_leaf(node)]
        heapq.heapify(heap)
        freed = [_NONE]
        while num_tokens > 0 and heap:
            leaf = heapq.heappop(heap)[1]
            freed.append(_cut(leaf, num_tokens))
            num_tokens -= len(freed[-1])
            if len(leaf.key) == 0 and _is_free_leaf(leaf.parent):
                heapq.heappush(heap, (leaf.parent.last_access, leaf.parent))
        slots = np.concatenate(freed)
        self._held[slots] = False
        self._size -= len(slots)
        return slots

    def _peek(self, key: np.ndarray) -> Match:
        """The match of key, which touches nothing: for requests that may not come to run."""
        return _match_of(self._walk(key))

    def _walk(self, key: np.ndarray) -> list[_Node]:
        """The nodes from the root whose tokens are the longest cached prefix of key.

        Where that ends inside a node, the node is split: nobody can tell from outside.
        """
        path = [self._root]
        while (at := path[-1].end) < len(key) and int(key[at]) in path[-1].children:
            child = path[-1].children[int(key[at])]
            n = _common(child.key, key[at:])
            path.append(child if n == len(child.key) else _split(child, n))
            if path[-1] is not child:
                break
        return path

    def _touch(self, path: list[_Node]) -> None:
        self._clock += 1
        for node in path:
            node.last_access = self._clock

    def _check(self, slots: np.ndarray, other: np.ndarray) -> None:
        """The slots can be taken; other (T,) is False where the tree has that slot right there."""
        capacity = len(self._held)
        if ((slots < 0) | (slots >= capacity)).any():
            raise ValueError(f"slots: wanted numbers from 0 to {capacity - 1}, got {slots}")
        if len(np.unique(slots)) < len(slots):
            raise ValueError(f"slots: one is given twice in {slots}")
        if self._held[slots[other]].any():
            raise ValueError(f"slots: some of {slots[other]} are cached for other tokens")


def _match_of(path: list[_Node]) -> Match:
    return Match(np.concatenate([node.slots for node in path]), path[-1])


def _upwards(node: _Node | None) -> Iterator[_Node]:
    """The node and those above it, without the root."""
    while node.parent is not None:
        yield node
        node = node.parent


def _below(root: _Node) -> Iterator[_Node]:
    ahead = list(root.children.values())
    while ahead:
        yield (node := ahead.pop())
        ahead += node.children.values()


def _is_free_leaf(node: _Node) -> bool:
    return not node.children and node.lock_ref == 0 and node.parent is not None


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens both begin with."""
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    return int(differs.argmax()) if differs.any() else n


def _split(node: _Node, n: int) -> _Node:
    """Put a new node in front of it that takes its first n tokens; returns the new one.

    The old one keeps the end, and with it the matches that end there: they find what they hold.
    Copies, since a view would keep the memory of tokens that are evicted later.
    """
    end = node.end - len(node.key) + n
    first = _Node(node.key[:n].copy(), node.slots[:n].copy(), node.parent, end)
    first.last_access, first.lock_ref = node.last_access, node.lock_ref
    first.children[int(node.key[n])] = node
    node.parent.children[int(node.key[0])] = first
    node.key, node.slots, node.parent = node.key[n:].copy(), node.slots[n:].copy(), first
    return first


def _cut(leaf: _Node, num_tokens: int) -> np.ndarray:
    """Take up to that many tokens off the end of a leaf, and the leaf off once it is empty."""
    keep = max(0, len(leaf.key) - num_tokens)
    slots = leaf.slots[keep:]
    if keep == 0:
        del leaf.parent.children[int(leaf.key[0])]
    leaf.end -= len(slots)
    leaf.key, leaf.slots = leaf.key[:keep].copy(), leaf.slots[:keep].copy()
    return slots


@dataclass(eq=False)
class _Request:
    id: int
    prompt: np.ndarray  # (P,)
    max_new_tokens: int
    slots: np.ndarray = field(default_factory=_NONE.copy)  # (N,) once it runs
    match: Match | None = None  # what it holds locked while it runs
    cached: int = 0  # tokens that need not be computed, as of the last step
    skips: int = 0

    @property
    def num_slots(self) -> int:
        """N = P + max_new_tokens - 1: the last new token is never fed back."""
        return len(self.prompt) + self.max_new_tokens - 1


class Engine:
    """Requests that share one pool of slots through a prefix cache."""

    def __init__(
        self, *, capacity: int, max_running: int, policy: str = "fcfs", max_skips: int = 8
    ) -> None:
        if policy not in ("fcfs", "lpm"):
            raise ValueError(f"policy: wanted fcfs or lpm, got {policy}")
        self.cache = RadixCache(capacity)
        self._free = list(range(capacity))
        self._capacity, self._max_running = capacity, max_running
        self._policy, self._max_skips = policy, max_skips
        self._waiting: list[_Request] = []
        self._running: dict[int, _Request] = {}
        self._submitted = 0

    @property
    def free_slots(self) -> int:
        """Slots that neither the cache nor a request has."""
        return len(self._free)

    def submit(self, prompt: Ints, max_new_tokens: int = 1) -> int:
        """Put a request at the end of the queue; its id, counted from 0."""
        request = _Request(self._submitted, np.array(prompt, np.int64), max_new_tokens)
        if len(request.prompt) == 0:
            raise ValueError("prompt: wanted one token or more, got none")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: wanted 1 or more, got {max_new_tokens}")
        if request.num_slots > self._capacity:
            raise ValueError(f"capacity: {request.num_slots} slots wanted of {self._capacity}")
        self._waiting.append(request)
        self._submitted += 1
        return request.id

    def step(self, prefill: Prefill) -> list[int]:
        """Admit waiting requests, have their prompts computed, cache these; the ids admitted."""
        for request in self._waiting:
            request.cached = len(self.cache._peek(request.prompt[:-1]).slots)
        admitted: list[_Request] = []
        for request in sorted(self._waiting, key=self._rank):
            if len(self._running) == self._max_running:
                break
            if self._is_deferred(request, admitted):
                continue
            if not self._admit(request):
                break
            admitted.append(request)
            self._running[request.id] = request
        self._waiting = [request for request in self._waiting if request not in admitted]
        for request in self._waiting:
            request.skips += any(request.id < other.id for other in admitted)
        if admitted:
            prefill([(r.id, r.cached, r.slots[: len(r.prompt)].copy()) for r in admitted])
        for request in admitted:
            self._store(request, request.prompt)
        return [request.id for request in admitted]

    def finish(self, request_id: int, output: Ints) -> None:
        """End a request: cache its prompt and output, free the slots that it did not use."""
        request = self._running_request(request_id)
        if not 1 <= len(output) <= request.max_new_tokens:
            raise ValueError(f"output: wanted 1 to {request.max_new_tokens}, got {len(output)}")
        key = np.append(request.prompt, np.array(output[:-1], np.int64))
        self._store(request, key)
        self.cache.dec_lock_ref(request.match)
        self._free += request.slots[len(key) :].tolist()
        del self._running[request_id]

    def slots(self, request_id: int) -> np.ndarray:
        """The slots of a running request, position by position. (N,) int64"""
        return self._running_request(request_id).slots.copy()

    def _goes_in_turn(self, request: _Request) -> bool:
        return self._policy == "fcfs" or request.skips >= self._max_skips

    def _rank(self, request: _Request) -> tuple[int, int, int]:
        if self._goes_in_turn(request):
            return 0, 0, request.id
        return 1, -request.cached, request.id

    def _is_deferred(self, request: _Request, admitted: list[_Request]) -> bool:
        """Whether the request finds more of its prompt computed in the next step."""
        prompt = request.prompt[:-1]
        shared = max((_common(prompt, other.prompt) for other in admitted), default=0)
        return shared > request.cached and not self._goes_in_turn(request)

    def _admit(self, request: _Request) -> bool:
        """Give the request its slots, if there are enough."""
        match = self.cache._peek(request.prompt[:-1])  # the last token's logits are wanted
        need = request.num_slots - len(match.slots)
        self.cache.inc_lock_ref(match)  # before counting: what it reuses is not to be evicted
        if need > len(self._free) + self.cache.evictable_size:
            self.cache.dec_lock_ref(match)
            return False
        self._free += self.cache.evict(max(0, need - len(self._free))).tolist()
        new, self._free = self._free[:need], self._free[need:]
        request.slots = np.append(match.slots, np.array(new, np.int64))
        request.match, request.cached = match, len(match.slots)
        return True

    def _store(self, request: _Request, key: np.ndarray) -> None:
        """Give the slots of key to the cache; from now on the request reads the cache's."""
        self._free += self.cache.insert(key, request.slots[: len(key)]).tolist()
        match = self.cache.match_prefix(key)
        request.slots[: len(key)] = match.slots  # its own may have been freed as superfluous
        self.cache.inc_lock_ref(match)
        self.cache.dec_lock_ref(request.match)
        request.match = match

    def _running_request(self, request_id: int) -> _Request:
        if request_id not in self._running:
            raise ValueError(f"request_id: wanted one that runs, got {request_id}")
        return self._running[request_id]
