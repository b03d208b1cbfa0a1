"""Prefix cache: a radix tree of KV slots, and an engine that serves requests from it.

Stages: 1 match and insert · 2 locks · 3 eviction · 4 the engine · 5 the order of admission.
Grade one with `pytest challenges/11_prefix_cache -k tree` (locks, eviction, serving, scheduling).

Shapes: T tokens of a key, M of them matched, P tokens of a prompt, N slots of a request. Keys,
slots, prompts and outputs are lists, tuples or one-dimensional arrays of any integer dtype; token
ids are 0 or more. None of them is modified or kept. What is returned belongs to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = Sequence[int] | np.ndarray
Prefill = Callable[[list[tuple[int, int, np.ndarray]]], Any]


@dataclass(eq=False)
class Match:
    """What ``match_prefix`` found: its slots, and the handle that locks and unlocks take.

    The caller reads ``slots``, (M,) int64, and hands the match back. The other fields are your
    cache's: use them, add to them, or leave them. Given.
    """

    slots: np.ndarray  # (M,) int64
    node: Any = None
    lock_ref: int = 0  # locks taken by this match and not yet given back


class RadixCache:
    """Which slots hold the keys and values of which prefixes.

    Parameters
    ----------
    capacity : number of slots of the pool, 0 or more; slots are the numbers below it. The pool is
        the caller's: the cache is given slots and gives them back.

    >>> cache = RadixCache(10)
    >>> cache.insert([1, 2, 3], [7, 8, 9]).tolist()
    []
    >>> cache.match_prefix([1, 2, 5]).slots.tolist()
    [7, 8]
    """

    def __init__(self, capacity: int) -> None:
        # TODO stage 1: an empty tree; the later stages need more beside it.
        raise NotImplementedError("11_prefix_cache, stage 1")

    @property
    def evictable_size(self) -> int:
        """Number of cached tokens that no lock holds; without locks, of all."""
        # TODO stage 1: all cached tokens; stage 2: those that no lock holds.
        raise NotImplementedError("11_prefix_cache, stage 1")

    @property
    def protected_size(self) -> int:
        """Number of cached tokens that one lock or more hold."""
        # TODO stage 2.
        raise NotImplementedError("11_prefix_cache, stage 2")

    def match_prefix(self, key: Ints) -> Match:
        """Look up the longest cached prefix of a key, and touch its tokens.

        Parameters
        ----------
        key : T tokens, T may be 0.

        Returns
        -------
        A match, new with every call, whose ``slots`` are those of the M matched tokens in order,
        int64; M may be 0.
        """
        # TODO stage 1: the lookup; stage 3: what it touches.
        raise NotImplementedError("11_prefix_cache, stage 1")

    def insert(self, key: Ints, slots: Ints) -> np.ndarray:
        """Cache every prefix of a key, and touch its tokens.

        Parameters
        ----------
        key : T tokens, T may be 0.
        slots : T numbers, one for each token. For a token that is cached already, either the slot
            that the cache has for it or one that the cache does not have at all.

        Returns
        -------
        int64: those of ``slots``, in their order, that were given for a token which is cached in
        another slot. The cache did not take them: they are the caller's to free.

        Raises
        ------
        ValueError
            Naming ``slots`` if there are not T of them, if one is not in [0, capacity), if one is
            given twice, or if the cache has one already and not for that token of this key. The
            cache is as before.

        >>> cache = RadixCache(10)
        >>> _ = cache.insert([1, 2, 3], [7, 8, 9])
        >>> cache.insert([1, 2, 4, 5], [7, 0, 1, 2]).tolist()  # 1 came with the cache's own slot
        [0]
        >>> cache.match_prefix([1, 2, 4, 5]).slots.tolist(), cache.evictable_size
        ([7, 8, 1, 2], 5)
        """
        # TODO stage 1: tokens and slots; stage 3: what it touches.
        raise NotImplementedError("11_prefix_cache, stage 1")

    def inc_lock_ref(self, match: Match) -> None:
        """Lock every token of a match: it is protected until as many locks are given back.

        Parameters
        ----------
        match : from ``match_prefix`` of this cache; may be empty, and may be locked already.

        Raises
        ------
        ValueError
            Naming ``match`` if a token of it has been evicted since it was made, even if the token
            was inserted again (stage 3). The cache is as before.

        >>> cache = RadixCache(10)
        >>> _ = cache.insert([1, 2, 3], [7, 8, 9])
        >>> match = cache.match_prefix([1, 2])
        >>> cache.inc_lock_ref(match)
        >>> cache.evictable_size, cache.protected_size
        (1, 2)
        """
        # TODO stage 2: lock; stage 3: matches that have lost a token.
        raise NotImplementedError("11_prefix_cache, stage 2")

    def dec_lock_ref(self, match: Match) -> None:
        """Give back one lock that was taken with this match.

        Raises
        ------
        ValueError
            Naming ``match`` if it has no lock to give back, whatever other matches have. The cache
            is as before.
        """
        # TODO stage 2.
        raise NotImplementedError("11_prefix_cache, stage 2")

    def evict(self, num_tokens: int) -> np.ndarray:
        """Remove tokens, the least recently used leaf first, one after another.

        Parameters
        ----------
        num_tokens : 0 or more.

        Returns
        -------
        (min(num_tokens, evictable_size),) int64: the slots of the removed tokens, in any order.
        They are the caller's to free.

        Raises
        ------
        ValueError
            Naming ``num_tokens`` if it is below 0.

        >>> cache = RadixCache(10)
        >>> _ = cache.insert([1, 2, 3], [7, 8, 9])
        >>> _ = cache.insert([4], [0])
        >>> _ = cache.match_prefix([1, 2])
        >>> sorted(cache.evict(2).tolist())  # 3 is the oldest, then 4
        [0, 9]
        """
        # TODO stage 3.
        raise NotImplementedError("11_prefix_cache, stage 3")


class Engine:
    """Requests that share one pool of slots through a prefix cache.

    ``cache`` is the engine's RadixCache of the same capacity. It takes all calls from anyone, but
    slots that others evict from it are lost to the engine.

    Parameters
    ----------
    capacity : number of slots.
    max_running : number of requests that may run at once, 1 or more.
    policy : "fcfs", first come first served, or "lpm", longest prefix match first (stage 5).
    max_skips : how often a request may be passed over before it goes in turn, 0 or more (stage 5).

    Raises
    ------
    ValueError
        Naming ``policy`` if it is neither of the two.

    >>> engine = Engine(capacity=10, max_running=1)
    >>> engine.submit([1, 2, 3], max_new_tokens=2)
    0
    >>> batches = []
    >>> engine.step(batches.append)
    [0]
    >>> [(id, start, len(slots)) for id, start, slots in batches[0]]
    [(0, 0, 3)]
    >>> engine.slots(0).shape, engine.free_slots, engine.cache.protected_size
    ((4,), 6, 3)
    >>> engine.finish(0, [5, 6])  # 6 was never fed back: nothing was computed for it
    >>> engine.free_slots, engine.cache.evictable_size
    (6, 4)
    """

    def __init__(
        self, *, capacity: int, max_running: int, policy: str = "fcfs", max_skips: int = 8
    ) -> None:
        # TODO stage 4: set self.cache, and what the methods need.
        raise NotImplementedError("11_prefix_cache, stage 4")

    @property
    def free_slots(self) -> int:
        """Number of slots that neither the cache nor a request has."""
        # TODO stage 4.
        raise NotImplementedError("11_prefix_cache, stage 4")

    def submit(self, prompt: Ints, max_new_tokens: int = 1) -> int:
        """Put a request at the end of the queue.

        Parameters
        ----------
        prompt : P tokens, P at least 1.
        max_new_tokens : 1 or more.

        Returns
        -------
        Its id. Ids count from 0 in the order of submission; a refused request takes none.

        Raises
        ------
        ValueError
            Naming ``prompt`` if it is empty, ``max_new_tokens`` if it is below 1, ``capacity`` if
            P + max_new_tokens - 1 slots are more than the engine has.
        """
        # TODO stage 4.
        raise NotImplementedError("11_prefix_cache, stage 4")

    def step(self, prefill: Prefill) -> list[int]:
        """Admit waiting requests, have their prompts computed, and cache these.

        Parameters
        ----------
        prefill : is called once, with a list of (id, start, slots) in the order of admission, or
            not at all if nobody is admitted. ``slots`` is (P,) int64, those of the prompt. It
            reads slots[:start], computes the tokens from start on and writes slots[start:], for
            all requests at the same time.

        Returns
        -------
        The ids that were admitted, in that order. They run until ``finish``.
        """
        # TODO stage 4: in the order of submission; stage 5: policy "lpm".
        raise NotImplementedError("11_prefix_cache, stage 4")

    def finish(self, request_id: int, output: Ints) -> None:
        """End a running request: cache its tokens, give back its lock and its other slots.

        Parameters
        ----------
        request_id : of a request that runs.
        output : its new tokens, from 1 to max_new_tokens of them.

        Raises
        ------
        ValueError
            Naming ``request_id`` if no such request runs, ``output`` if its length is out of
            range. Nothing has changed then.
        """
        # TODO stage 4.
        raise NotImplementedError("11_prefix_cache, stage 4")

    def slots(self, request_id: int) -> np.ndarray:
        """The slots of a running request, N = P + max_new_tokens - 1 of them. (N,) int64

        Position p of prompt and output is read and written there, as of now: a step may change
        where the prompt is read from.
        """
        # TODO stage 4.
        raise NotImplementedError("11_prefix_cache, stage 4")
