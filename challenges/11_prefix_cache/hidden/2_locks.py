"""Stage 2: what a lock holds, and that it goes on holding exactly that."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import INSERT, KEYS, LOCK, MATCH, UNLOCK, Game, refused, several, sizes, sizes_are


@rule("R10")
@given(first=several(INSERT, MATCH), then=several(LOCK, LOCK, UNLOCK))
def test_every_cached_token_is_evictable_or_protected(solution, first, then):
    Game(solution, "sizes").play(first).play(then)


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
    Game(solution, "sizes").play(ops)


@rule("R10")
@given(key=KEYS)
def test_a_lock_holds_the_first_token_and_the_last(solution, key):
    cache, whole = solution.RadixCache(20), [*key, *[7] * (len(key) + 1)]
    cache.insert(whole, list(range(len(whole))))
    for n in range(1, len(whole)):
        cache.match_prefix(whole[:n])

    cache.inc_lock_ref(cache.match_prefix(whole))

    how = f"insert {whole}, match each of its prefixes, match and lock all of it"
    sizes_are(cache, (0, len(whole)), how)


@rule("R11")
@given(key=KEYS, at=st.integers(0, 7))
def test_a_lock_is_released_from_both_halves_of_a_split(solution, key, at):
    at, key = min(at, len(key) - 1), [5, *key]
    other = [*key[: at + 1], 7]
    cache = solution.RadixCache(20)
    cache.insert(key, list(range(len(key))))
    cache.match_prefix([5])
    match = cache.match_prefix(key)
    cache.inc_lock_ref(match)
    how = f"insert {key}, match [5], match and lock {key}"
    sizes_are(cache, (0, len(key)), how)

    cache.insert(other, [*match.slots[: at + 1], 19])
    how += f", insert {other}"
    sizes_are(cache, (1, len(key)), how)

    cache.dec_lock_ref(match)
    sizes_are(cache, (len(key) + 1, 0), f"{how}, unlock")


@rule("R11")
@given(key=KEYS, more=KEYS)
def test_a_lock_on_a_prefix_leaves_the_rest_evictable(solution, key, more):
    cache, whole = solution.RadixCache(20), [*key, *more]
    cache.insert(whole, list(range(len(whole))))

    cache.inc_lock_ref(cache.match_prefix(key))

    sizes_are(cache, (len(more), len(key)), f"insert {whole}, match and lock {key}")


@rule("R11")
@given(key=KEYS, more=KEYS)
def test_what_is_inserted_behind_a_lock_is_not_locked(solution, key, more):
    cache, whole = solution.RadixCache(20), [*key, *more]
    cache.insert(key, list(range(len(key))))
    match = cache.match_prefix(key)
    cache.inc_lock_ref(match)

    cache.insert(whole, [*range(len(key)), *range(10, 10 + len(more))])

    sizes_are(cache, (len(more), len(key)), f"insert {key}, match and lock it, insert {whole}")


@rule("R12")
@given(key=KEYS, times=st.integers(0, 2))
def test_a_match_without_a_lock_gives_none_back(solution, key, times):
    cache, whole = solution.RadixCache(20), [*key, 7]
    cache.insert(whole, list(range(len(whole))))
    held, match = cache.match_prefix(whole), cache.match_prefix(key)
    cache.inc_lock_ref(held)
    for _ in range(times):
        cache.inc_lock_ref(match)
        cache.dec_lock_ref(match)
    how = f"insert {whole}, lock a match of it, lock and unlock a match of {key} {times} times"

    words = {"what": f"one more unlock of {key}", "names": "match", "given": how}
    refused(cache.dec_lock_ref, match, **words, look=lambda: sizes(cache))

    how += ", unlock it once more, refused"
    sizes_are(cache, (0, len(whole)), how)
    cache.inc_lock_ref(match)
    cache.dec_lock_ref(match)
    how += ", lock and unlock it again"
    sizes_are(cache, (0, len(whole)), how)
    cache.dec_lock_ref(held)
    sizes_are(cache, (len(whole), 0), f"{how}, unlock the first match")


@rule("R12")
def test_the_match_of_nothing_can_be_locked(solution):
    cache = solution.RadixCache(4)
    match = cache.match_prefix([1, 2])
    cache.inc_lock_ref(match)
    cache.insert([1, 2], np.array([3, 0]))
    how = "match [1, 2] in an empty cache, lock it, insert [1, 2]"

    sizes_are(cache, (2, 0), how)
    cache.dec_lock_ref(match)
    words = {"what": "a second unlock", "names": "match", "given": how}
    refused(cache.dec_lock_ref, match, **words, look=lambda: sizes(cache))
