"""Stage 2: block tables that grow with their sequences."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import Said, blocks_of

SIZE = st.sampled_from([4, 1, 2, 3, 5, 16])
PIECES = st.lists(st.sampled_from([1, 3, 0, 2, 4, 5, 9]), min_size=1, max_size=5)
# What a drawn call means depends on the calls before it: a number picks among the sequences.
# Always as many, so that each example goes far; a failure is shown with most of them left out.
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["nothing", "append", "add", "free", "append"]),
        st.integers(0, 3),
        st.integers(0, 9),
    ),
    min_size=10,
    max_size=10,
)


class Tables(Said):
    """A BlockManager beside a number of tokens for each sequence, which says what is right."""

    def __init__(self, solution, P, size, tokens=()):
        super().__init__(solution, "BlockManager", P, size)
        self.P, self.size, self.lengths = P, size, {}
        for seq_id, n in enumerate(tokens):
            self.add(seq_id)
            self.append(seq_id, n)

    def add(self, seq_id):
        self.do("add", seq_id)
        self.lengths[seq_id] = 0

    def append(self, seq_id, n):
        slots, copies = self.do("append", seq_id, n)
        self.lengths[seq_id] += n
        return slots, copies

    def tries(self, seq_id, n):
        """Whether append finds its blocks."""
        try:
            self.it.append(seq_id, n)
        except MemoryError:
            return False
        return True

    def free(self, seq_id):
        self.do("free", seq_id)
        del self.lengths[seq_id]

    def table(self, seq_id):
        return list(self.see("block_table", seq_id))

    def state(self):
        return [self.see("num_free_blocks"), [self.table(s) for s in self.lengths]]

    def check(self):
        """Tables and free blocks together are the pool; no block stands in two places."""
        owner = {}
        for seq_id, tokens in self.lengths.items():
            table = self.table(seq_id)
            self.equal(self.see("num_tokens", seq_id), tokens, f"num_tokens({seq_id})")
            saw = f"{tokens} tokens of sequence {seq_id} have the table {table}"
            self.that(len(table) == blocks_of(tokens, self.size), saw, table)
            self.that(all(0 <= b < self.P for b in table), saw, table)
            for block in table:
                saw = f"block {block} stands in the tables of {owner.get(block)} and of {seq_id}"
                self.that(block not in owner, saw, [block, table])
                owner[block] = seq_id
        free = self.see("num_free_blocks")
        saw = f"{len(owner)} blocks stand in tables and {free} are free, of {self.P}"
        self.that(free == self.P - len(owner), saw, free)


@rule("R9")
@given(
    size=SIZE,
    pieces=st.just([6, 3]) | PIECES,
    seq_id=st.sampled_from([1, 7, -3, 10**9]),
    others=st.sampled_from([1, 0, 5]),
)
def test_new_tokens_get_the_slots_of_their_positions(solution, size, pieces, seq_id, others):
    # Sequence 0 grows in between, so that the blocks of the other do not lie in a row.
    P = blocks_of(sum(pieces), size) + blocks_of(others * len(pieces), size)
    manager = Tables(solution, max(P, 1), size, [0])
    manager.add(seq_id)
    held = 0

    for n in pieces:
        manager.append(0, others)
        slots, copies = manager.append(seq_id, n)
        manager.equal(list(copies), [], "copies")
        positions = np.arange(held, held + n)
        held += n
        table = manager.table(seq_id)
        few = f"{held} tokens of sequence {seq_id} have the table {table}"
        manager.that(len(table) * size >= held, few, table)
        want = np.array(table, np.int64)[positions // size] * size + positions % size
        manager.equal(slots, want, f"slots of {n} tokens, where the table is {table},")
        manager.equal(manager.see("num_tokens", seq_id), held, f"num_tokens({seq_id})")


@rule("R10")
@given(size=SIZE, pieces=st.just([5, 2, 1, 4]) | PIECES)
def test_a_table_grows_at_its_end_and_no_earlier_than_needed(solution, size, pieces):
    P = blocks_of(sum(pieces), size) + 2
    manager = Tables(solution, P, size, [0])
    before, held = [], 0

    for n in pieces:
        manager.append(0, n)
        held += n
        table, need = manager.table(0), blocks_of(held, size)
        manager.that(len(table) == need, f"{held} tokens have the table {table}", table)
        manager.equal(table[: len(before)], before, f"the old part of the table {table}")
        manager.equal(manager.see("num_free_blocks"), P - need, "num_free_blocks")
        before = table


def grow(manager, order):
    """A sequence grows by the block that each of the others had. -> seq_id, slots, its blocks

    Nothing else is free then, so the order of its blocks is up to the test.
    """
    own, *others = sorted(manager.lengths, key=lambda s: order * manager.table(s)[0])
    blocks = manager.table(own)
    for other in others:
        blocks += manager.table(other)
        manager.free(other)
        slots, _ = manager.append(own, manager.size)
        yield own, slots, blocks


@rule("R10")
@given(max_examples=6, size=st.sampled_from([4, 1, 3]), order=st.sampled_from([1, -1]))
def test_a_table_is_in_the_order_in_which_it_grew(solution, size, order):
    manager = Tables(solution, 4, size, [1] * 4)

    for seq_id, _, blocks in grow(manager, order):
        manager.equal(manager.table(seq_id), blocks, f"block_table({seq_id})")


@rule("R9")
@given(max_examples=6, size=st.sampled_from([4, 1, 3]), order=st.sampled_from([1, -1]))
def test_slots_follow_the_table_whatever_its_order(solution, size, order):
    manager = Tables(solution, 4, size, [1] * 4)

    for seq_id, slots, _ in grow(manager, order):
        table = manager.table(seq_id)
        held = (len(table) - 1) * size + 1
        positions = np.arange(held - size, held)
        want = np.array(table, np.int64)[positions // size] * size + positions % size
        manager.equal(slots, want, f"slots of {size} tokens, where the table is {table},")


@rule("R11")
@given(P=st.sampled_from([4, 2, 6]), size=st.sampled_from([2, 1, 3]), calls=CALLS)
def test_no_sequence_of_calls_loses_a_block_or_gives_it_twice(solution, P, size, calls):
    manager, new = Tables(solution, P, size, [size]), 2
    manager.free(0)
    manager.check()
    manager.add(1)

    for name, i, n in calls:
        lengths = manager.lengths
        seq_id = list(lengths)[i % len(lengths)] if lengths else None
        if name == "add":
            manager.add(new)
            new += 1
        elif name == "nothing" or seq_id is None:
            continue
        elif name == "free":
            manager.free(seq_id)
        else:
            after = lengths | {seq_id: lengths[seq_id] + n}
            if sum(blocks_of(tokens, size) for tokens in after.values()) > P:
                manager.refuses(MemoryError, "append", seq_id, n)
            else:
                manager.append(seq_id, n)
        manager.check()


@rule("R12")
@given(size=SIZE, tokens=st.lists(st.integers(0, 9), min_size=2, max_size=4), at=st.integers(0, 3))
def test_a_freed_sequence_is_forgotten_and_its_blocks_are_free(solution, size, tokens, at):
    P = max(1, sum(blocks_of(n, size) for n in tokens))
    manager, at = Tables(solution, P, size, tokens), at % len(tokens)
    tables = {s: manager.table(s) for s in range(len(tokens))}
    free = manager.see("num_free_blocks") + len(tables.pop(at))

    manager.free(at)

    manager.equal(manager.see("num_free_blocks"), free, "num_free_blocks")
    for s, table in tables.items():
        manager.equal(manager.table(s), table, f"block_table({s})")
    for name in ("block_table", "num_tokens", "free"):
        manager.refuses(ValueError, name, at, names="seq_id")
    manager.add(at)
    manager.equal(manager.see("num_tokens", at), 0, f"num_tokens({at})")
    manager.equal(manager.table(at), [], f"block_table({at})")
    manager.append(at, tokens[at])
    manager.check()


@rule("R4")
@given(size=SIZE, first=st.integers(0, 9), other=st.integers(1, 9), over=st.integers(1, 9))
def test_an_append_that_does_not_fit_changes_nothing(solution, size, first, other, over):
    P = blocks_of(first, size) + blocks_of(other, size) + 1
    manager = Tables(solution, P, size, [first, other])
    tables = [manager.table(0), manager.table(1)]
    room = (len(tables[0]) + 1) * size - first  # what its last block and the free one hold

    manager.refuses(MemoryError, "append", 0, room + over)

    manager.equal(manager.see("num_free_blocks"), 1, "num_free_blocks")
    for s, table in enumerate(tables):
        manager.equal(manager.table(s), table, f"block_table({s})")
    manager.check()
    slots, _ = manager.append(0, room)
    check.array(slots, shape=(room,), dtype=np.int64, what="slots", given=manager.how)
    manager.check()


@rule("R13")
@given(size=SIZE, first=st.integers(0, 9), spare=st.integers(0, 2))
def test_can_append_says_what_append_will_do(solution, size, first, spare):
    P = max(1, blocks_of(first, size) + spare)
    room = P * size - first

    for n in sorted({0, 1, room - 1, room, room + 1, room + size} - {-1}):
        manager = Tables(solution, P, size, [first])
        can = manager.see("can_append", 0, n)
        manager.check()
        done = manager.tries(0, n)
        saw = f"can_append(0, {n}) said {can}, where append {'is done' if done else 'is refused'}"
        manager.that(can == (n <= room), saw, [n, can, done])


@rule("R7")
def test_the_manager_names_the_argument_that_does_not_fit(solution):
    for args, name in (((0, 4), "num_blocks"), ((4, 0), "block_size"), ((4, -1), "block_size")):
        what = {"what": f"BlockManager{args}", "names": name}
        check.raises(ValueError, solution.BlockManager, *args, **what)
    manager = Tables(solution, 4, 4, [3, 0])
    for name in ("num_tokens", "block_table", "free"):
        manager.refuses(ValueError, name, 2, names="seq_id")
    manager.refuses(ValueError, "add", 0, names="seq_id")
    manager.refuses(ValueError, "add", 1, names="seq_id")
    for name in ("append", "can_append"):
        manager.refuses(ValueError, name, 2, 2, names="seq_id")
        manager.refuses(ValueError, name, 0, -1, names="num_tokens")
    manager.check()


@rule("R8")
def test_a_manager_keeps_to_itself(solution):
    manager, other = Tables(solution, 4, 4, [6]), Tables(solution, 4, 4)
    table = manager.see("block_table", 0)
    kept = list(table)

    table.clear()
    manager.calls.append("block_table(0) cleared by the caller")
    slots, copies = manager.append(0, 1)
    check.array(slots, shape=(1,), dtype=np.int64, what="slots", given=manager.how)
    first = slots.tolist()
    copies.append((0, 1))
    manager.calls.append("its copies extended by the caller")
    mine = copies
    _, copies = manager.append(0, 1)

    manager.equal(manager.table(0), kept, "block_table(0)")
    manager.equal(list(copies), [], "copies")
    manager.equal(list(mine), [(0, 1)], "the copies of the first append, looked at again,")
    manager.equal(slots.tolist(), first, "the slots of the first append, looked at again,")
    manager.check()
    other.calls.append("calls of another manager")
    other.check()
    other.refuses(ValueError, "num_tokens", 0, names="seq_id")


@rule("R14")
def test_few_slots_are_wasted(count):
    def inputs(rng):
        return (rng.integers(1, 200, 16).tolist(),)

    def run(impl, lengths):
        manager = impl.BlockManager(1024, 8)
        for seq_id, tokens in enumerate(lengths):
            manager.add(seq_id)
            for piece in (tokens // 2, tokens - tokens // 2 - tokens // 4, tokens // 4):
                manager.append(seq_id, piece)
        return (1024 - manager.num_free_blocks) * 8 - sum(lengths)

    def verify(wasted, lengths):
        check.that(wasted >= 0, saw=f"{sum(lengths)} tokens lie in {wasted} fewer slots")

    count(run, inputs=inputs, verify=verify)
