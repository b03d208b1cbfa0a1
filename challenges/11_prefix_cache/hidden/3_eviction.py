"""Stage 3: what goes first, what stays, and that no slot is lost or had twice on the way."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import EVICT, INSERT, KEYS, LOCK, MATCH, UNLOCK, Game, order, refused, several, sizes

MANY = st.sampled_from([20, 6, 3, 1, 0, 12])


@rule("R13")
@given(key=KEYS, at=st.integers(0, 6), tail=KEYS, held=st.sampled_from([0, 0, 1, 3]), n=MANY)
def test_evict_takes_as_many_as_it_is_asked_for(solution, key, at, tail, held, n):
    cache, T, other = solution.RadixCache(40), len(key), [*key[:at], *tail]
    cache.insert(key, list(range(T)))
    known = cache.match_prefix(other).slots
    cache.insert(other, [*known, *range(8 + len(known), 8 + len(other))])
    cache.inc_lock_ref(cache.match_prefix(key[:held]))
    free = cache.evictable_size

    saw = cache.evict(n)

    how = f"insert {key} and {other}, lock {key[:held]}, {free} tokens evictable, evict {n}"
    what = "the slots that evict returned"
    check.array(saw, shape=(min(n, free),), dtype=np.int64, what=what, given=how)
    once = len(np.unique(saw)) == len(saw)
    check.that(once, saw=f"{what} are {saw}, one of them twice", given=how, value=saw)
    check.equal(cache.evictable_size, free - min(n, free), what="evictable_size", given=how)


@rule("R14")
@given(max_examples=60, ops=several(INSERT, INSERT, MATCH, EVICT, least=5, most=14))
def test_the_least_recently_used_leaf_goes_first(solution, ops):
    Game(solution, "evicted").play(ops)


def goes(solution, cache, want, given):
    """The whole cache, token by token, in the order of these slots."""
    saw = order(cache)
    text = f"evicted one by one, the tokens in these slots went: {saw}, which is not right"
    if saw != want:
        check.that(False, saw=text, given=given, value=(saw, ages(solution)))


def ages(solution):
    """The orders in which two tokens go after one of them was used: what tells mistakes apart."""
    orders = []
    for use in ("nothing", "match", "match more", "insert"):
        cache = solution.RadixCache(2)
        cache.insert([1], [0])
        cache.insert([2], [1])
        if use == "match":
            cache.match_prefix([1])
        if use == "match more":
            cache.match_prefix([1, 2])
        if use == "insert":
            cache.insert([1], [0])
        orders.append(order(cache))
    return orders


def put(cache, *keys, at=0):
    """Insert keys that share nothing; the words for it, and where they are."""
    words, places = [], []
    for key in keys:
        slots = list(range(at, at + len(key)))
        cache.insert(key, slots)
        words.append(f"insert {key} in {slots}")
        places.append(slots)
        at += len(key)
    return ", ".join(words), places


@rule("R14")
@given(key=KEYS, which=st.integers(0, 2), how=st.sampled_from(["match", "insert", "more"]))
def test_what_is_used_again_goes_last(solution, key, which, how):
    cache = solution.RadixCache(40)
    keys = [[5, *key], [6, *key], [7, *key]]
    words, places = put(cache, *keys)

    used = keys[which]
    if how == "insert":
        cache.insert(used, places[which])
    else:
        used = used if how == "match" else [*used, 9]  # the end of which is not cached
        cache.match_prefix(used)
        how = "match"

    last = places.pop(which)
    want = [slot for place in [*places, last] for slot in reversed(place)]
    goes(solution, cache, want, f"{words}, {how} {used}")


@rule("R14")
@given(key=KEYS, at=st.integers(1, 7), how=st.sampled_from(["match", "insert"]))
def test_what_a_partial_match_leaves_out_stays_as_old_as_it_was(solution, key, at, how):
    at, key = min(at, len(key)), [5, *key]
    cache = solution.RadixCache(40)
    words, (old, *others) = put(cache, key, [6, 6], [7, 7, 7])

    if how == "match":
        cache.match_prefix(key[:at])
    else:
        cache.insert(key[:at], old[:at])

    want = [slot for place in (old[at:], *others, old[:at]) for slot in reversed(place)]
    goes(solution, cache, want, f"{words}, {how} {key[:at]}")


@rule("R14")
@given(key=KEYS, a=KEYS, b=KEYS, again=st.booleans())
def test_a_parent_becomes_a_leaf_when_its_children_go(solution, key, a, b, again):
    cache, one, two = solution.RadixCache(40), [*key, 5, *a], [*key, 6, *b]
    words, (first,) = put(cache, one)
    shared, rest = first[: len(key)], list(range(20, 21 + len(b)))
    cache.insert(two, [*shared, *rest])
    young = [39]
    cache.insert([7], young)
    words += f", insert {two} in {[*shared, *rest]}, insert [7] in [39]"
    places = [first[len(key) :], rest, shared, young]
    if again:
        cache.match_prefix(key)
        words += f", match {key}"
        places = [first[len(key) :], rest, young, shared]
    want, count = [slot for place in places for slot in reversed(place)], len(a) + len(b) + 3

    saw = sorted(int(slot) for slot in cache.evict(count))

    words += f", evict {count}"
    if saw != sorted(want[:count]):
        text = f"evict returned, in ascending order, {saw}, which is not right"
        check.that(False, saw=text, given=words, value=(saw, order(cache), ages(solution)))
    goes(solution, cache, want[count:], words)


@rule("R14")
@given(key=KEYS)
def test_locks_and_sizes_touch_nothing(solution, key):
    cache, keys = solution.RadixCache(40), [[5, *key], [6, *key], [7, *key]]
    words, places = put(cache, *keys)
    matches = [cache.match_prefix(key) for key in keys]
    sizes(cache)
    for match in (matches[2], matches[0], matches[1]):
        cache.inc_lock_ref(match)
    for match in (matches[1], matches[0], matches[2]):
        cache.dec_lock_ref(match)

    want = [slot for place in places for slot in reversed(place)]
    goes(
        solution, cache, want, f"{words}, match them in this order, lock and unlock them in another"
    )


@rule("R5")
@given(key=KEYS)
def test_an_insert_that_is_refused_touches_nothing(solution, key):
    cache, old, young = solution.RadixCache(40), [5, *key], [6, *key]
    words, places = put(cache, old, young)
    wrong = [*places[0], places[1][0]]
    words += f", insert {[*old, 9]} in {wrong}, refused"
    check.raises(ValueError, cache.insert, [*old, 9], wrong, what="insert", given=words)

    goes(solution, cache, [slot for place in places for slot in reversed(place)], words)


@rule("R15")
@given(
    max_examples=60,
    first=several(INSERT, INSERT, MATCH, least=3, most=8),
    then=several(LOCK, LOCK, UNLOCK, INSERT, EVICT, least=3, most=10),
)
def test_a_locked_token_stays(solution, first, then):
    Game(solution, "evicted", "sizes").play(first).play(then)


@rule("R15")
@given(key=KEYS, more=KEYS)
def test_locked_matches_are_found_after_any_eviction(solution, key, more):
    inner, whole, leaf = [5, *key], [5, *key, *more], [6, *key]
    cache = solution.RadixCache(40)
    words, _ = put(cache, whole, leaf)
    for locked in (inner, leaf):
        cache.inc_lock_ref(cache.match_prefix(locked))
    before = sizes(cache)

    cache.evict(40)

    found = [[int(slot) for slot in cache.match_prefix(k).slots] for k in (whole, leaf)]
    want = [list(range(len(inner))), list(range(len(whole), len(whole) + len(leaf)))]
    saw = f"{whole} is found in {found[0]} and {leaf} in {found[1]}, which is not right"
    words += f", match and lock {inner} and {leaf}, evict 40"
    check.that(found == want, saw=saw, given=words, value=(before, found))


@rule("R16")
@given(key=KEYS, other=KEYS, n=st.integers(1, 12))
def test_what_was_evicted_is_found_no_more_and_its_slots_are_free(solution, key, other, n):
    cache, T = solution.RadixCache(20), len(key)
    cache.insert(key, list(range(T)))
    cache.evict(n)
    left = max(0, T - n)
    how = f"insert {key}, evict {n}"
    found = cache.match_prefix(key).slots
    check.equal(found, np.arange(left), what="match.slots", given=how)

    other = [7, *other][: max(1, T - left)]
    slots = list(range(left, T))[: len(other)]
    other = other[: len(slots)]
    cache.insert(other, slots)

    how += f", insert {other} in {slots}"
    saw = cache.match_prefix(other).slots
    check.equal(saw, np.array(slots, np.int64), what="match.slots", given=how)
    check.equal(cache.evictable_size, left + len(other), what="evictable_size", given=how)


@rule("R17")
@given(key=KEYS, more=st.lists(st.integers(0, 2), max_size=4), n=st.integers(1, 6))
def test_a_match_that_lost_a_token_cannot_be_locked(solution, key, more, n):
    whole, n = [*key, *more], min(n, len(key))
    cache = solution.RadixCache(20)
    cache.insert(whole, list(range(len(whole))))
    shorter, match = cache.match_prefix(key[:-n]), cache.match_prefix(key)
    cache.evict(len(more) + n)
    how = f"insert {whole}, match {key}, evict {len(more) + n}"

    words = {"what": "the lock of the match", "names": "match", "given": how}
    refused(cache.inc_lock_ref, match, **words, look=lambda: sizes(cache))

    check.equal(cache.protected_size, 0, what="protected_size", given=f"{how}, lock, refused")
    words = {"what": "its unlock after the refusal", "names": "match", "given": how}
    refused(cache.dec_lock_ref, match, **words, look=lambda: sizes(cache))
    cache.inc_lock_ref(shorter)  # all its tokens are there
    how += f", lock a match of {key[:-n]} from before"
    check.equal(cache.protected_size, len(key) - n, what="protected_size", given=how)


@rule("R17")
@given(key=KEYS, n=st.integers(1, 6), at=st.sampled_from(["other", "the same"]))
def test_nor_when_the_token_was_inserted_again(solution, key, n, at):
    n = min(n, len(key))
    cache = solution.RadixCache(20)
    cache.insert(key, list(range(len(key))))
    match = cache.match_prefix(key)
    cache.evict(n)
    first = 10 if at == "other" else len(key) - n
    cache.insert(key, [*range(len(key) - n), *range(first, first + n)])
    again = cache.match_prefix(key)
    how = f"insert {key}, match it, evict {n}, insert it again in {at} slots"

    words = {"what": "the lock of the old match", "names": "match", "given": how}
    refused(cache.inc_lock_ref, match, **words, look=lambda: sizes(cache))
    cache.inc_lock_ref(again)
    how += ", lock a new match"
    check.equal(cache.protected_size, len(key), what="protected_size", given=how)


class Pool:
    """The slots as a device sees them: each holds what was computed for one prefix.

    Nothing is foretold here: what the cache answers is carried out, and has to make sense.
    """

    def __init__(self, solution, capacity=20):
        self.cache, self.capacity = solution.RadixCache(capacity), capacity
        self.free, self.holds, self.matches = set(range(capacity)), {}, []
        self.done, self.looked_up = [], []

    def play(self, ops):
        for op in ops:
            getattr(self, op[0])(*op[1:])

    def that(self, condition, saw, value=None):
        how = f"RadixCache({self.capacity}): " + ", ".join(self.done)
        check.that(condition, saw=saw, given=how, value=(saw, value, self.looked_up))

    def look_up(self, key):
        match = self.cache.match_prefix(np.array(key, np.int64))
        slots = [int(slot) for slot in match.slots]
        self.looked_up.append(slots)
        for n, slot in enumerate(slots):
            self.that(slot not in self.free, f"the match has slot {slot}, which is free", slots)
            right = self.holds.get(slot) == tuple(key[: n + 1])
            self.that(right, f"slot {slot} does not hold what {key[: n + 1]} needs", slots)
        return match, slots

    def rest(self):
        pass

    def match(self, key):
        self.done.append(f"m{len(self.matches)} = match {key}")
        match, slots = self.look_up(key)
        name = f"m{len(self.matches)}"
        entry = {"name": name, "match": match, "slots": slots, "locks": 0, "whole": True}
        self.matches.append(entry)

    def insert(self, key, own=0):
        self.done.append(f"match and insert {key}")
        _, known = self.look_up(key)
        known = known[:own]
        new = sorted(self.free)[: len(key) - len(known)]
        if len(known) + len(new) < len(key):
            self.done[-1] += ": no room"
            return
        self.free -= set(new)
        for slot, n in zip(new, range(len(known), len(key)), strict=True):
            self.holds[slot] = tuple(key[: n + 1])
        slots = np.array([*known, *new], np.int64)
        self.done[-1] += f" with slots {slots.tolist()}"
        back = self.cache.insert(np.array(key, np.int64), slots)
        for slot in map(int, back):
            mine = slot in new and slot not in self.free
            self.that(mine, f"insert gave back slot {slot}, which was not the caller's", back)
            self.free.add(slot)

    def lock(self, index):
        whole = [entry for entry in self.matches if entry["whole"]]
        if whole:
            entry = whole[index % len(whole)]
            self.done.append(f"lock {entry['name']}")
            self.cache.inc_lock_ref(entry["match"])
            entry["locks"] += 1

    def unlock(self, index):
        locked = [entry for entry in self.matches if entry["locks"]]
        if locked:
            entry = locked[index % len(locked)]
            self.done.append(f"unlock {entry['name']}")
            self.cache.dec_lock_ref(entry["match"])
            entry["locks"] -= 1

    def evict(self, num_tokens):
        self.done.append(f"evict {num_tokens}")
        gone = self.cache.evict(num_tokens)
        for slot in map(int, gone):
            self.that(slot not in self.free, f"evict gave slot {slot}, which is free", gone)
            self.free.add(slot)
            for entry in self.matches:
                if slot in entry["slots"]:
                    saw = f"evict gave slot {slot}, which {entry['name']} holds"
                    self.that(not entry["locks"], saw, gone)
                    entry["whole"] = False

    def end(self):
        for entry in self.matches:
            for _ in range(entry["locks"]):
                self.done.append(f"unlock {entry['name']}")
                self.cache.dec_lock_ref(entry["match"])
                entry["locks"] -= 1
        self.evict(self.capacity)
        lost = sorted(set(range(self.capacity)) - self.free)
        self.that(not lost, f"the slots {lost} never came back", lost)


@rule("R18")
@given(max_examples=60, ops=several(INSERT, INSERT, MATCH, LOCK, UNLOCK, EVICT, least=4, most=16))
def test_every_slot_is_in_one_place(solution, ops):
    pool = Pool(solution)
    pool.play(ops)
    pool.end()
