"""Stage 2: what a lock holds, and that it goes on holding exactly that."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import INSERT, KEYS, LOCK, MATCH, UNLOCK, Game, several


@rule("R10")
@given(first=several(INSERT, MATCH), then=several(LOCK, LOCK, UNLOCK))
def test_every_cached_token_is_evictable_or_protected(solution, first, then):
    Game(solution, watch={"sizes"}).play(first).play(then)


@rule("R10")
@given(key=KEYS, times=st.integers(1, 3))
def test_what_was_locked_twice_is_unlocked_twice(solution, key, times):
    cache = solution.RadixCache(20)
    cache.insert(key, list(range(len(key))))
    matches = [cache.match_prefix(key) for _ in range(2)]
    T, sizes = len(key), []

    for match in matches:
        for _ in range(times):
            cache.inc_lock_ref(match)
    for match in matches:
        for _ in range(times):
            sizes.append(cache.protected_size)
            cache.dec_lock_ref(match)
    sizes.append(cache.protected_size)

    how = f"insert {key}, match it twice, lock each match {times} times, unlock them one by one"
    want = [T] * (2 * times) + [0]
    check.equal(sizes, want, what="protected_size before each unlock and at the end", given=how)


@rule("R11")
@given(max_examples=60, ops=several(INSERT, MATCH, LOCK, LOCK, UNLOCK, least=4, most=16))
def test_a_lock_holds_the_same_tokens_whatever_comes_later(solution, ops):
    Game(solution, watch={"sizes"}).play(ops)


@rule("R11")
@given(key=st.lists(st.integers(0, 2), min_size=2, max_size=6), at=st.integers(1, 5))
def test_a_lock_is_released_from_both_halves_of_a_split(solution, key, at):
    at = min(at, len(key) - 1)
    other = [*key[:at], 7]
    cache = solution.RadixCache(20)
    cache.insert(key, list(range(len(key))))
    match = cache.match_prefix(key)
    cache.inc_lock_ref(match)
    cache.insert(other, [*match.slots[:at], 19])
    how = f"insert {key}, match and lock it, insert {other}"

    saw = (cache.evictable_size, cache.protected_size)
    check.equal(saw, (1, len(key)), what="(evictable_size, protected_size)", given=how)

    cache.dec_lock_ref(match)
    how += ", unlock"
    saw = (cache.evictable_size, cache.protected_size)
    check.equal(saw, (len(key) + 1, 0), what="(evictable_size, protected_size)", given=how)


@rule("R11")
@given(key=KEYS, more=KEYS)
def test_a_lock_on_a_prefix_leaves_the_rest_evictable(solution, key, more):
    cache, whole = solution.RadixCache(20), [*key, *more]
    cache.insert(whole, list(range(len(whole))))
    cache.inc_lock_ref(cache.match_prefix(key))

    how = f"insert {whole}, match and lock {key}"
    saw = (cache.evictable_size, cache.protected_size)
    check.equal(saw, (len(more), len(key)), what="(evictable_size, protected_size)", given=how)


@rule("R12")
@given(key=KEYS, times=st.integers(0, 2))
def test_a_match_without_a_lock_gives_none_back(solution, key, times):
    cache = solution.RadixCache(20)
    cache.insert([*key, 7], list(range(len(key) + 1)))
    held, match = cache.match_prefix([*key, 7]), cache.match_prefix(key)
    cache.inc_lock_ref(held)
    for _ in range(times):
        cache.inc_lock_ref(match)
        cache.dec_lock_ref(match)
    how = f"insert {[*key, 7]}, lock a match of it, lock and unlock a match of {key} {times} times"

    unlock = cache.dec_lock_ref
    check.raises(ValueError, unlock, match, what="one unlock more", names="match", given=how)

    size, how = cache.protected_size, f"{how}, unlock once more, refused"
    check.equal(size, len(key) + 1, what="protected_size", given=how)
    cache.dec_lock_ref(held)
    check.equal(cache.protected_size, 0, what="protected_size", given=f"{how}, unlock the first")


@rule("R12")
def test_the_match_of_nothing_can_be_locked(solution):
    cache = solution.RadixCache(4)
    match = cache.match_prefix([1, 2])
    cache.inc_lock_ref(match)
    cache.insert([1, 2], np.array([3, 0]))
    how = "match [1, 2] in an empty cache, lock it, insert [1, 2]"

    saw = (cache.evictable_size, cache.protected_size)
    check.equal(saw, (2, 0), what="(evictable_size, protected_size)", given=how)
    cache.dec_lock_ref(match)
    unlock = cache.dec_lock_ref
    check.raises(ValueError, unlock, match, what="a second unlock", names="match", given=how)
