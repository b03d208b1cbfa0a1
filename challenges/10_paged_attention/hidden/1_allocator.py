"""Stage 1: a pool of blocks that counts the references to each."""

from pytest_llmgrind import check, given, rule, st

from .common import Said

POOL = st.sampled_from([4, 1, 2, 3, 7])
# What a drawn call means depends on the calls before it: two numbers pick among what there is.
# Always as many, so that each example goes far; a failure is shown with most of them left out.
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["nothing", "allocate", "touch", "free", "free twice"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=10,
    max_size=10,
)


class Pool(Said):
    """A BlockAllocator beside a plain list of counts, which says what is right."""

    def __init__(self, solution, P):
        super().__init__(solution, "BlockAllocator", P)
        self.counts = [0] * P

    @property
    def held(self):
        return [b for b, count in enumerate(self.counts) if count]

    def allocate(self, n):
        """n different blocks of the pool that nobody held."""
        ids = list(self.do("allocate", n))
        self.calls[-1] += f" -> {ids}"
        self.that(len(ids) == n, f"{len(ids)} blocks came back", ids)
        inside = all(0 <= b < len(self.counts) for b in ids)
        self.that(inside, "not all of them are blocks of the pool", ids)
        self.that(len(set(ids)) == n, "one block was handed out twice", ids)
        self.that(not set(ids) & set(self.held), "a block was handed out that is in use", ids)
        for b in ids:
            self.counts[b] = 1
        return ids

    def add(self, name, step, listed, shown=""):
        """touch (step 1) or free (step -1)."""
        self.do(name, listed, shown=shown)
        for b in listed:
            self.counts[b] += step

    def state(self):
        return [self.see("ref_count", b) for b in range(len(self.counts))]

    def check(self):
        """Every reference, and the number of free blocks, are those of the plain list."""
        self.equal(self.state(), self.counts, "[ref_count(b) for each b]")
        self.equal(self.see("num_free_blocks"), self.counts.count(0), "num_free_blocks")


@rule("R1")
@given(P=POOL, pieces=st.lists(st.integers(0, 3), max_size=5))
def test_blocks_that_are_handed_out_are_different_and_were_free(solution, P, pieces):
    pool = Pool(solution, P)

    for n in [*pieces, None, *pieces]:
        if n is None:
            pool.add("free", -1, pool.held)  # the same blocks once more
            continue
        new = pool.allocate(min(n, P - len(pool.held)))
        saw = [pool.see("ref_count", b) for b in new]
        pool.equal(saw, [1] * len(new), "ref_count of the new blocks")


@rule("R2")
@given(max_examples=20, P=POOL, first=st.integers(0, 7))
def test_every_block_of_the_pool_can_be_handed_out(solution, P, first):
    pool, first = Pool(solution, P), min(first, P)
    pool.equal(pool.see("num_free_blocks"), P, "num_free_blocks")

    pool.add("touch", 1, pool.allocate(first))
    pool.equal(pool.see("num_free_blocks"), P - first, "num_free_blocks")
    pool.allocate(P - first)

    pool.equal(pool.see("num_free_blocks"), 0, "num_free_blocks")


@rule("R2")
@given(max_examples=20, P=POOL, n=st.integers(1, 7))
def test_freed_blocks_are_handed_out_again(solution, P, n):
    pool = Pool(solution, P)
    back = pool.allocate(P)[:n]

    for _ in range(3):
        pool.add("free", -1, back)
        pool.equal(pool.see("num_free_blocks"), len(back), "num_free_blocks")
        back = pool.allocate(len(back))


@rule("R3")
@given(max_examples=20, P=POOL, times=st.integers(1, 4), at=st.integers(0, 6))
def test_a_block_is_free_when_its_last_reference_is_gone(solution, P, times, at):
    pool = Pool(solution, P)
    block = pool.allocate(P)[at % P]

    for name, step in [("touch", 1)] * times + [("free", -1)] * (times + 1):
        pool.add(name, step, [block])
        pool.check()


@rule("R3")
@given(max_examples=20, more=st.integers(1, 3), less=st.integers(1, 5), alone=st.booleans())
def test_a_block_that_is_listed_twice_counts_twice(solution, more, less, alone):
    pool = Pool(solution, 3)
    a, b, c = pool.allocate(3)
    pool.add("touch", 1, [a])
    less = min(less, more + 2)

    pool.add("touch", 1, [a] * more if alone else [b] + [a] * more)
    pool.add("free", -1, [a] * less if alone else [a] * less + [c])

    pool.check()
    pool.allocate(pool.counts.count(0))


@rule("R3")
def test_a_block_may_have_hundreds_of_references(solution):
    pool = Pool(solution, 2)
    a, _ = pool.allocate(2)

    for name, step in (("touch", 1), ("free", -1)):
        pool.add(name, step, [a] * 300, shown=f"{name}([{a}] * 300)")
        pool.check()


@rule("R4")
@given(max_examples=20, P=POOL, first=st.integers(0, 7), over=st.integers(1, 3))
def test_more_blocks_than_are_free_are_refused_whole(solution, P, first, over):
    pool, first = Pool(solution, P), min(first, P)
    pool.allocate(first)

    pool.refuses(MemoryError, "allocate", P - first + over)

    pool.check()
    pool.allocate(P - first)
    pool.refuses(MemoryError, "allocate", 1)


@rule("R5")
@given(
    name=st.sampled_from(["free", "touch"]),
    bad=st.sampled_from(["a free block", "-1", "num_blocks", "one too often"]),
    good=st.integers(0, 2),
    at_the_end=st.booleans(),
)
def test_a_list_with_one_wrong_block_changes_nothing(solution, name, bad, good, at_the_end):
    pool = Pool(solution, 4)
    unused = min(pool.allocate(4))  # block 3, which lists call -1 as well, stays in use
    pool.add("free", -1, [unused])
    held = pool.held
    wrong = {"a free block": [unused], "-1": [-1], "num_blocks": [4]}
    name = "free" if bad == "one too often" else name
    listed = held[:good] + wrong.get(bad, [held[0], held[0]])
    listed += [] if at_the_end else held[good:]

    pool.refuses(ValueError, name, listed, names="block_ids")

    pool.check()
    pool.allocate(1)


@rule("R6")
@given(P=st.sampled_from([3, 2, 1, 4]), calls=CALLS)
def test_any_sequence_of_calls_leaves_the_counts_of_a_plain_list(solution, P, calls):
    pool = Pool(solution, P)

    for name, i, j in calls:
        held = pool.held
        if name == "allocate" and i > P - len(held):
            pool.refuses(MemoryError, "allocate", i)
        elif name == "allocate":
            pool.allocate(i)
        elif name == "nothing" or not held:
            continue
        elif name == "touch":
            pool.add("touch", 1, [held[i % len(held)], held[j % len(held)]][: 1 + j % 2])
        else:
            listed = [held[i % len(held)]] * (2 if name == "free twice" else 1)
            if pool.counts[listed[0]] < len(listed):
                pool.refuses(ValueError, "free", listed, names="block_ids")
            else:
                pool.add("free", -1, listed)
        pool.check()


@rule("R7")
def test_the_allocator_names_the_argument_that_does_not_fit(solution):
    for n in (0, -1):
        what = {"what": f"BlockAllocator({n})", "names": "num_blocks"}
        check.raises(ValueError, solution.BlockAllocator, n, **what)
    pool = Pool(solution, 2)
    pool.refuses(ValueError, "allocate", -1, names="num_blocks")
    for b in (2, -1):
        pool.refuses(ValueError, "ref_count", b, names="block_id")
    pool.check()


@rule("R8")
def test_an_allocator_keeps_to_itself(solution):
    pool, other = Pool(solution, 3), Pool(solution, 3)
    ids = pool.do("allocate", 2)
    pool.equal(len(ids), 2, "the length of what came back")
    for b in ids:
        pool.counts[b] = 1
    a, b = sorted(ids)

    ids.clear()
    pool.calls.append("the list that came back cleared")
    for name, step in (("touch", 1), ("free", -1)):
        asked = [b, a, b]
        pool.add(name, step, asked)
        pool.equal(asked, [b, a, b], f"the list that {name} got")
        pool.check()
        pool.add(name, step, (a, a))
        pool.check()

    other.calls.append("calls of another allocator")
    other.check()
    pool.add("free", -1, [a, b])
    pool.allocate(3)
    other.check()
