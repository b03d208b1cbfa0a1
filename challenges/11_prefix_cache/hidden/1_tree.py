"""Stage 1: what is cached is found, and slots have one owner."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .model import INSERT, INSERT_NEW, KEYS, MATCH, Game, refused, several


def tokens_and_slots(key, slots):
    return np.array(key, np.int64), np.array(slots, np.int64)


@rule("R1")
@given(max_examples=60, ops=several(INSERT_NEW, MATCH, MATCH))
def test_a_match_is_the_longest_cached_prefix(solution, ops):
    Game(solution, "match").play(ops)


@rule("R1")
@given(key=KEYS)
def test_nothing_is_found_where_nothing_fits(solution, key):
    cache, none = solution.RadixCache(20), np.zeros(0, np.int64)
    found, how = cache.match_prefix(key).slots, f"an empty cache, match {key}"
    check.equal(found, none, what="match.slots", given=how)

    cache.insert([9, *key], list(range(len(key) + 1)))

    for probe in (key, []):
        how = f"insert {[9, *key]}, match {probe}"
        check.equal(cache.match_prefix(probe).slots, none, what="match.slots", given=how)


@rule("R1")
def test_a_prompt_of_a_thousand_pieces_is_found(solution):
    T = 1_200
    key, slots = np.arange(T) * 107 % 128_256, np.arange(T)[::-1].copy()
    cache = solution.RadixCache(T)
    cache.insert(key, slots)

    for n in range(T - 1, 0, -1):
        cache.match_prefix(key[:n])

    how = f"a prompt of {T} tokens, matched at every length from {T - 1} down to 1, then whole"
    check.equal(cache.match_prefix(key).slots, slots, what="match.slots", given=how)


@rule("R1")
@given(key=KEYS, other=KEYS)
def test_tokens_and_slots_may_be_lists_or_any_integer_arrays(solution, key, other):
    want = np.arange(len(key))[::-1] + 3
    read_only = np.array(key)
    read_only.flags.writeable = False
    strided = np.repeat(np.array(key, np.int64), 2)[::2]
    large = np.array(key) + 128_000
    forms = {
        "list": (key, want.tolist()),
        "tuple": (tuple(key), tuple(want.tolist())),
        "int32 array": (np.array(key, np.int32), want.astype(np.int32)),
        "read-only array": (read_only, want),
        "every second element of an array": (strided, np.repeat(want, 2)[::2]),
        "array of ids from 128000": (large, want),
    }
    for form, (tokens, slots) in forms.items():
        cache = solution.RadixCache(40)
        cache.insert(np.array([*other, 7]), np.arange(20, 21 + len(other)))
        known = cache.match_prefix(tokens).slots
        cache.insert(tokens, [*known, *slots[len(known) :]])
        how = f"insert {[*other, 7]}, then {key} as {form}"
        right = np.append(known, want[len(known) :])
        check.equal(cache.match_prefix(tokens).slots, right, what="match.slots", given=how)


@rule("R1")
@given(key=KEYS, bits=st.sampled_from([8, 16]))
def test_token_ids_that_agree_in_their_low_bits_are_not_the_same(solution, key, bits):
    cache, other = solution.RadixCache(20), [token + 2**bits for token in key]
    cache.insert([9, *key], list(range(len(key) + 1)))

    how = f"insert {[9, *key]}, match {[9, *other]}"
    # The second tells whether it is the size of the ids or that nothing is compared.
    found = [cache.match_prefix([9, *k]).slots.tolist() for k in (other, [7] * len(key))]
    saw = f"match.slots is {found[0]}, which is not right"
    check.that(found[0] == [0], saw=saw, given=how, value=found)


@rule("R2")
@given(max_examples=60, ops=several(INSERT, INSERT, MATCH))
def test_a_cached_token_keeps_its_slot(solution, ops):
    game = Game(solution).play(ops)
    for key in sorted(game.model.entries):
        want = np.array([entry.slot for entry in game.model.path(key)], np.int64)
        how = f"{game.given}, then match {list(key)}"
        saw = game.cache.match_prefix(np.array(key, np.int64)).slots
        check.equal(saw, want, what="match.slots", given=how)


@rule("R2")
def test_the_last_slots_of_a_large_pool_are_kept(solution):
    cache, want = solution.RadixCache(70_000), np.arange(69_999, 69_995, -1)
    key = [1, 2, 3, 4]
    cache.insert(key, want)

    how = f"RadixCache(70000), insert {key} in {want.tolist()}"
    check.equal(cache.match_prefix(key).slots, want, what="match.slots", given=how)


@rule("R2")
def test_nothing_can_be_inserted(solution):
    cache, none = solution.RadixCache(4), np.zeros(0, np.int64)
    for how in ("an empty cache, insert [] in []", "insert [1] in [3], insert [] in []"):
        check.equal(cache.insert([], []), none, what="the slots that insert returned", given=how)
        cache.insert([1], [3])
    check.equal(cache.evictable_size, 1, what="evictable_size", given=how)


@rule("R2")
def test_a_cache_without_slots_stays_empty(solution):
    cache, none = solution.RadixCache(0), np.zeros(0, np.int64)
    how = "RadixCache(0)"
    check.equal(cache.insert([], []), none, what="the slots that insert returned", given=how)
    check.equal(cache.match_prefix([1]).slots, none, what="match.slots", given=how)


@rule("R3")
@given(max_examples=60, ops=several(INSERT, INSERT, MATCH))
def test_insert_returns_the_slots_that_it_did_not_need(solution, ops):
    Game(solution, "superfluous").play(ops)


@rule("R3")
@given(key=KEYS, more=KEYS)
def test_slots_of_the_cache_itself_are_not_returned(solution, key, more):
    cache, whole = solution.RadixCache(40), [*key, *more]
    cache.insert(*tokens_and_slots(key, range(5, 5 + len(key))))
    own = cache.match_prefix(key).slots

    saw = cache.insert(whole, np.append(own, np.arange(20, 20 + len(more))))

    how = f"insert {key}, match it, insert {whole} with the slots of the match and new ones"
    none = np.zeros(0, np.int64)
    check.equal(saw, none, what="the slots that insert returned", given=how)


@rule("R4")
@given(key=KEYS)
def test_no_argument_is_changed_or_kept(solution, key):
    cache = solution.RadixCache(20)
    tokens, slots = tokens_and_slots(key, range(4, 4 + len(key)))
    how = f"insert {key} with slots {slots.tolist()}"

    with check.unchanged(given=how, tokens=tokens, slots=slots):
        cache.insert(tokens, slots)
        cache.insert(tokens, slots)
        cache.match_prefix(tokens)
    lists = tokens.tolist(), slots.tolist()
    cache.insert(*lists)
    cache.match_prefix(lists[0])
    same = lists == (tokens.tolist(), slots.tolist())
    saw = f"insert and match left the lists {lists[0]} and {lists[1]}"
    check.that(same, saw=saw, given=f"{how}, again as lists", value=lists)

    tokens[:], slots[:] = 9, 9
    want = np.arange(4, 4 + len(key))
    how += ", then overwrite both arrays"
    check.equal(cache.match_prefix(key).slots, want, what="match.slots", given=how)


@rule("R4")
@given(key=KEYS)
def test_what_was_returned_belongs_to_the_caller(solution, key):
    cache, want = solution.RadixCache(20), np.arange(4, 4 + len(key))
    cache.insert(*tokens_and_slots([*key, 7], range(4, 5 + len(key))))
    first = cache.match_prefix(key).slots

    if first.flags.writeable:  # whatever the solution lets its caller write to
        first[:] = 0
    how = f"insert {[*key, 7]}, match {key}, overwrite match.slots"
    check.equal(cache.match_prefix(key).slots, want, what="match.slots", given=how)

    cache.insert(*tokens_and_slots([*key, 8], [*want.tolist(), 19]))
    how += f", insert {[*key, 8]}"
    check.equal(cache.match_prefix(key).slots, want, what="match.slots", given=how)


WRONG = {
    "one slot too few": lambda slots: slots[:-1],
    "one slot too many": lambda slots: [*slots, 19],
    "a slot equal to the capacity": lambda slots: [*slots[:-1], 20],
    "a slot of -1": lambda slots: [*slots[:-1], -1],
    "two new tokens in one slot": lambda slots: [*slots[:-1], slots[-2]],
    "a cached and a new token in one slot": lambda slots: [slots[-1], *slots[1:]],
    "a new token in a slot of another token": lambda slots: [*slots[:-1], 17],
    "cached tokens in each other's slots": lambda slots: [slots[1], slots[0], *slots[2:]],
}


def two_prompts(solution):
    cache = solution.RadixCache(20)
    cache.insert([5, 6], [16, 17])
    cache.insert([3, 4, 3], [0, 1, 2])
    return cache


def let_through(solution):
    """The kinds of wrong slots that insert takes."""
    kinds = []
    for kind, wrong in WRONG.items():
        try:
            two_prompts(solution).insert([3, 4, 9, 9], wrong([0, 1, 8, 9]))
        except Exception:
            continue
        kinds.append(kind)
    return kinds


@rule("R5")
@given(tail=KEYS, kind=st.sampled_from(sorted(WRONG)))
def test_slots_that_cannot_be_taken_are_refused(solution, tail, kind):
    cache, key = two_prompts(solution), [3, 4, 9, *tail]
    slots = WRONG[kind]([0, 1, *range(7, 8 + len(tail))])
    how = "insert [5, 6] in [16, 17] and [3, 4, 3] in [0, 1, 2]"

    words = {"what": f"insert of {key} in {slots}, {kind},", "names": "slots", "given": how}
    refused(cache.insert, key, slots, **words, look=lambda: let_through(solution))

    how += f", {key} with {kind}, refused"
    check.equal(cache.evictable_size, 5, what="evictable_size", given=how)
    check.equal(cache.match_prefix(key).slots, np.array([0, 1]), what="match.slots", given=how)
    check.equal(cache.insert([8], [8]), np.zeros(0, np.int64), what="insert of 8", given=how)


@rule("R6")
@given(key=KEYS, other=KEYS)
def test_caches_in_use_at_once_do_not_meet(solution, key, other):
    one, two = solution.RadixCache(20), solution.RadixCache(30)
    one.insert(key, list(range(len(key))))
    two.insert(other, list(range(10, 10 + len(other))))
    third = solution.RadixCache(20)

    how = f"insert {key} in one, {other} in the next, and nothing in a third"
    for cache, mine, at in ((one, key, 0), (two, other, 10), (third, [], 0)):
        check.equal(cache.evictable_size, len(mine), what="evictable_size", given=how)
        want = np.arange(at, at + len(mine))
        check.equal(cache.match_prefix(mine).slots, want, what="match.slots", given=how)


@rule("R7")
def test_lookup_grows_with_the_prompt(scaling):
    def inputs(rng, T):
        return rng.integers(0, 128_256, T), rng.permutation(T)

    def run(impl, key, slots):
        cache = impl.RadixCache(len(key))
        cache.insert(key, slots)
        return cache.match_prefix(key).slots

    def verify(found, key, slots):
        check.equal(found, slots, what="match.slots", given=f"a prompt of {len(key)} tokens")

    scaling(run, sizes=(512, 1024, 2048), inputs=inputs, verify=verify)


@rule("R8")
def test_lookup_does_not_grow_with_the_cache(scaling):
    T = 8

    def inputs(rng, n):
        keys = rng.integers(0, 128_256, (n, T))
        keys[:, 0], keys[:, 2] = rng.permutation(n), rng.permutation(n)
        keys[: n // 2, :2] = keys[0, :2]  # half of them share two tokens, no others any
        return keys, rng.permutation(n * T).reshape(n, T)

    def run(impl, keys, slots):
        cache = impl.RadixCache(slots.size)
        for key, row in zip(keys, slots, strict=True):
            cache.insert(key, row)
        return [np.array(cache.match_prefix(key).slots) for key in keys]

    def verify(found, keys, slots):
        want = slots.copy()
        want[: len(keys) // 2, :2] = slots[0, :2]
        for i, (saw, mine) in enumerate(zip(found, want, strict=True)):
            check.equal(saw, mine, what=f"match.slots of prompt {i} of {len(keys)}")

    scaling(run, sizes=(64, 128, 256), inputs=inputs, verify=verify)


@rule("R9")
def test_cached_tokens_take_few_bytes(peak):
    n, T = 4, 512

    def inputs(rng):
        return rng.integers(0, 128_256, (n, T)), rng.permutation(n * T).reshape(n, T)

    def run(impl, keys, slots):
        cache = impl.RadixCache(n * T)
        for key, row in zip(keys, slots, strict=True):
            cache.insert(key, row)
        return [cache.match_prefix(key).slots for key in keys]

    def verify(found, keys, slots):
        for number, (saw, row) in enumerate(zip(found, slots, strict=True)):
            how = f"prompt {number} of {n} with {T} tokens each"
            check.equal(saw, row, what="match.slots", given=how)

    peak(run, inputs=inputs, verify=verify)
