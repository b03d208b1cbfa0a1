"""Stage 4: sequences that share blocks until one of them writes."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import Said, blocks_of

SIZE = st.sampled_from([4, 1, 2, 3, 5])
# What a drawn call means depends on the calls before it: a number picks among the sequences.
# Always as many, so that each example goes far; a failure is shown with most of them left out.
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["nothing", "append", "fork", "free", "append", "fork", "add"]),
        st.integers(0, 3),
        st.sampled_from([1, 2, 0, 4, 9]),
    ),
    min_size=10,
    max_size=10,
)


class Family(Said):
    """A BlockManager in which sequence 0 has so many tokens, and is forked into 1, 2, …"""

    def __init__(self, solution, P, size, tokens, children=0):
        super().__init__(solution, "BlockManager", P, size)
        self.do("add", 0)
        self.append(0, tokens)
        for child in range(1, children + 1):
            self.do("fork", 0, child)

    def append(self, seq_id, n):
        slots, copies = self.do("append", seq_id, n)
        check.array(slots, shape=(n,), dtype=np.int64, what="slots", given=self.how)
        return slots, [tuple(pair) for pair in copies]

    def tries(self, seq_id, n):
        """Whether append finds its blocks."""
        try:
            self.it.append(seq_id, n)
        except MemoryError:
            return False
        return True

    def table(self, seq_id):
        return list(self.see("block_table", seq_id))

    def state(self):
        return [self.see("num_free_blocks"), self.table(0)]

    def check(self, free, tables):
        """The number of free blocks, and the (tokens, table) of each sequence."""
        self.equal(self.see("num_free_blocks"), free, "num_free_blocks")
        for s, (tokens, table) in tables.items():
            self.equal(self.see("num_tokens", s), tokens, f"num_tokens({s})")
            self.equal(self.table(s), table, f"block_table({s})")


class Block:
    """Tokens that lie in one block. Who shares a block has the same object."""

    def __init__(self, tokens=()):
        self.tokens = list(tokens)


class Model:
    """Tables of blocks. One is in use while a table lists it: no references are counted."""

    def __init__(self, P, size):
        self.P, self.size, self.tables, self.new = P, size, {}, 0

    def free_blocks(self):
        return self.P - len({block for table in self.tables.values() for block in table})

    def need(self, seq_id, n):
        """Whether the last block has to be copied, and the number of blocks behind it."""
        table, tokens = self.tables[seq_id], self.tokens(seq_id)
        others = {block for s, t in self.tables.items() if s != seq_id for block in t}
        copy = n > 0 and len(tokens) % self.size > 0 and table[-1] in others
        return copy, blocks_of(len(tokens) + n, self.size) - len(table)

    def append(self, seq_id, n):
        """The new tokens, each a number that no other token has."""
        table, (copy, _) = self.tables[seq_id], self.need(seq_id, n)
        if copy:
            table[-1] = Block(table[-1].tokens)
        for token in range(self.new, self.new + n):
            if not table or len(table[-1].tokens) == self.size:
                table.append(Block())
            table[-1].tokens.append(token)
        self.new += n
        return list(range(self.new - n, self.new))

    def tokens(self, seq_id):
        return [token for block in self.tables[seq_id] for token in block.tokens]


@rule("R25")
@given(size=SIZE, tokens=st.integers(0, 11), children=st.integers(1, 3))
def test_a_fork_has_the_tokens_and_the_blocks_of_its_parent(solution, size, tokens, children):
    manager = Family(solution, blocks_of(tokens, size) + 1, size, tokens)
    table = manager.table(0)
    manager.check(1, {0: (tokens, table)})

    for child in range(1, children + 1):
        manager.do("fork", child - 1, child)

    manager.check(1, dict.fromkeys(range(children + 1), (tokens, table)))


@rule("R26")
@given(
    size=st.sampled_from([4, 2, 3, 5]),
    full=st.integers(0, 2),
    part=st.integers(1, 4),
    children=st.integers(1, 3),
    writer=st.integers(0, 3),
    n=st.sampled_from([1, 2, 5, 9]),
)
def test_a_shared_last_block_is_copied_before_it_is_written(
    solution, size, full, part, children, writer, n
):
    part, writer = min(part, size - 1), writer % (children + 1)
    tokens = full * size + part
    P, need = full + 2 + blocks_of(n, size), blocks_of(tokens + n, size)
    manager = Family(solution, P, size, tokens, children + 1)
    old = manager.table(0)
    manager.do("free", children + 1)
    manager.check(P - full - 1, {0: (tokens, old)})

    slots, copies = manager.append(writer, n)

    table = manager.table(writer)
    saw = f"the table of sequence {writer} was {old}, and is {table} for {tokens + n} tokens"
    manager.that(len(table) == need, saw, table)
    manager.that(table[:full] == old[:full], saw, table)
    same = f"sequence {writer} writes to block {old[-1]}, which others have as well"
    manager.that(old[-1] not in table, same, table)
    manager.equal(copies, [(old[-1], table[full])], "copies")
    positions = np.arange(tokens, tokens + n)
    want = np.array(table)[positions // size] * size + positions % size
    manager.equal(slots, want, f"slots, where the table is {table},")
    others = set(range(children + 1)) - {writer}
    manager.check(P - need - 1, dict.fromkeys(others, (tokens, old)))


@rule("R27")
@given(size=SIZE, full=st.integers(0, 2), n=st.sampled_from([1, 2, 5]), writer=st.integers(0, 1))
def test_a_full_block_is_never_copied(solution, size, full, n, writer):
    tokens, P = full * size, full + blocks_of(n, size) + 1
    manager = Family(solution, P, size, tokens, 1)
    old = manager.table(0)

    _, copies = manager.append(writer, n)

    manager.equal(copies, [], "copies")
    manager.equal(manager.table(writer)[:full], old, f"the old part of block_table({writer})")
    manager.check(1, {1 - writer: (tokens, old)})


@rule("R27")
@given(
    size=st.sampled_from([4, 3, 5]),
    full=st.sampled_from([0, 1, 2]),
    part=st.integers(1, 3),
    children=st.integers(0, 3),
    leave=st.sampled_from(["append", "free"]),
    last=st.integers(0, 3),
)
def test_the_last_owner_of_a_block_writes_in_place(
    solution, size, full, part, children, leave, last
):
    part, last = min(part, size - 1), last % (children + 1)
    tokens = full * size + part
    manager = Family(solution, full + children + 2, size, tokens, children)
    old = manager.table(0)
    for s in set(range(children + 1)) - {last}:
        if leave == "free":
            manager.do("free", s)
        else:
            _, copies = manager.append(s, 1)
            manager.equal(len(copies), 1, "the number of copies")

    slots, copies = manager.append(last, 1)

    manager.equal(copies, [], "copies")
    manager.equal(slots, np.array([old[-1] * size + part]), f"slots, where the table was {old},")
    manager.check(children + 1 if leave == "free" else 1, {last: (tokens + 1, old)})


@rule("R27")
@given(max_examples=15, size=SIZE, tokens=st.integers(0, 6), children=st.integers(0, 2))
def test_nothing_is_copied_for_no_tokens(solution, size, tokens, children):
    manager = Family(solution, blocks_of(tokens, size) + 1, size, tokens, children)
    old = manager.table(0)

    _, copies = manager.append(0, 0)

    manager.equal(copies, [], "copies")
    manager.check(1, dict.fromkeys(range(children + 1), (tokens, old)))


@rule("R12")
@given(size=SIZE, tokens=st.integers(0, 11), order=st.permutations([0, 1, 2]))
def test_shared_blocks_are_free_when_the_last_sequence_is_gone(solution, size, tokens, order):
    P = blocks_of(tokens, size) + 2
    manager = Family(solution, P, size, tokens, 2)
    manager.check(2, {})
    _, copies = manager.append(1, 1)
    tables = {s: manager.table(s) for s in order}

    for s in order:
        manager.do("free", s)
        del tables[s]
        used = {block for table in tables.values() for block in table}
        free = manager.see("num_free_blocks")
        saw = f"{len(used)} blocks stand in tables and {free} are free, of {P}"
        manager.that(free == P - len(used), saw, [free, copies])
        for other, table in tables.items():
            manager.equal(manager.table(other), table, f"block_table({other})")


@rule("R4")
@given(
    size=st.sampled_from([4, 2, 3, 5]),
    full=st.integers(0, 2),
    part=st.integers(1, 4),
    spare=st.integers(0, 2),
    writer=st.integers(0, 1),
)
def test_a_copy_that_does_not_fit_changes_nothing(solution, size, full, part, spare, writer):
    part = min(part, size - 1)
    tokens = full * size + part
    manager = Family(solution, full + 1 + spare, size, tokens, 1)
    old = manager.table(0)
    n = size - part + spare * size  # they fill the last block and those that are free

    manager.refuses(MemoryError, "append", writer, n)

    manager.check(spare, {0: (tokens, old), 1: (tokens, old)})
    manager.do("free", 1 - writer)
    _, copies = manager.append(writer, n)
    manager.equal(copies, [], "copies")
    manager.equal(manager.see("num_free_blocks"), 0, "num_free_blocks")


@rule("R13")
@given(size=SIZE, tokens=st.integers(0, 9), spare=st.integers(0, 2), children=st.integers(0, 2))
def test_can_append_counts_the_copy(solution, size, tokens, spare, children):
    P = max(1, blocks_of(tokens, size) + spare)
    shared = children > 0 and tokens % size > 0
    room = (P - shared) * size - tokens  # the empty slots of a shared block are not for it

    for n in sorted({0, 1, max(room, 0), max(room + 1, 1), max(room, 0) + size}):
        manager = Family(solution, P, size, tokens, children)
        can = manager.see("can_append", 0, n)
        free = manager.see("num_free_blocks")
        manager.equal(free, P - blocks_of(tokens, size), "num_free_blocks afterwards")
        done = manager.tries(0, n)
        saw = f"can_append(0, {n}) said {can}, where append {'is done' if done else 'is refused'}"
        manager.that(can == (n == 0 or n <= room), saw, [n, can, done])


@rule("R28")
@given(P=st.sampled_from([6, 3, 9]), size=st.sampled_from([4, 3, 2]), calls=CALLS)
def test_under_any_calls_each_sequence_reads_its_own_tokens(solution, P, size, calls):
    manager, model = Family(solution, P, size, 0), Model(P, size)
    memory, new = np.full(P * size, -1), 1  # a token for each slot, as copies and slots say
    model.tables[0] = []

    for name, i, n in [("append", 0, max(1, size - 2)), *calls, *[("free", 0, 0)] * 8]:
        live = list(model.tables)
        seq_id = live[i % len(live)] if live else None
        if name == "add":
            manager.do("add", new)
            model.tables[new], new = [], new + 1
        elif name == "nothing" or seq_id is None:
            continue
        elif name == "fork":
            manager.do("fork", seq_id, new)
            model.tables[new], new = list(model.tables[seq_id]), new + 1
        elif name == "free":
            manager.do("free", seq_id)
            del model.tables[seq_id]
        elif sum(model.need(seq_id, n)) > model.free_blocks():
            manager.refuses(MemoryError, "append", seq_id, n)
        else:
            write(memory, manager, model, seq_id, n)
        read_all(memory, manager, model)


def write(memory, manager, model, seq_id, n):
    """Carry out what append asks for, on one number for each slot."""
    slots, copies = manager.append(seq_id, n)
    copy, size = model.need(seq_id, n)[0], model.size
    saw = f"copies {copies}, where the last block {'has' if copy else 'need not'} to be copied"
    manager.that(len(copies) == copy, saw, copies)
    inside = all(0 <= s < len(memory) for s in slots.tolist())
    inside = inside and all(0 <= b < model.P for pair in copies for b in pair)
    saw = f"slots {slots.tolist()} and copies {copies}, of {model.P} blocks"
    manager.that(inside, saw, slots)
    for source, destination in copies:
        block = memory[source * size : (source + 1) * size].copy()
        memory[destination * size : (destination + 1) * size] = block
    memory[slots] = model.append(seq_id, n)


def read_all(memory, manager, model):
    """Each sequence finds its tokens through its table, and no block is lost or free in use."""
    used = set()
    for seq_id in model.tables:
        want, table = model.tokens(seq_id), manager.table(seq_id)
        saw = f"{len(want)} tokens of sequence {seq_id} have the table {table}"
        manager.that(len(table) == blocks_of(len(want), model.size), saw, table)
        manager.that(all(0 <= b < model.P for b in table), saw, table)
        slots = [b * model.size + k for b in table for k in range(model.size)][: len(want)]
        found = memory[slots].tolist()
        saw = f"through its table {table} sequence {seq_id} reads other tokens than it was given"
        manager.that(found == want, saw, [table, found])
        used |= set(table)
    free = manager.see("num_free_blocks")
    saw = f"{len(used)} blocks stand in tables and {free} are free, of {model.P}"
    manager.that(free == model.free_blocks(), saw, [free, len(used)])


@rule("R28")
@given(max_examples=30, size=st.sampled_from([3, 1, 4]), calls=CALLS, seed=st.integers(0, 999))
def test_attention_after_any_calls_is_attention_in_one_piece(solution, size, calls, seed):
    rng = np.random.default_rng(seed)
    manager, new = Family(solution, 99, size, 0), 1
    key_cache, value_cache = np.full((2, 99, size, 1, 4), np.nan)
    rows = {0: np.zeros((2, 0, 1, 4))}  # the model: keys and values of a sequence in one piece

    for name, i, n in [("append", 0, 2), *calls]:
        seq_id = list(rows)[i % len(rows)]
        if name == "fork":
            manager.do("fork", seq_id, new)
            rows[new], new = rows[seq_id], new + 1
        elif name == "free" and len(rows) > 1:
            manager.do("free", seq_id)
            del rows[seq_id]
        elif name == "append":
            tokens = rng.standard_normal((2, n, 1, 4))
            slots, copies = manager.append(seq_id, n)
            solution.copy_blocks(key_cache, value_cache, copies)
            solution.reshape_and_cache(*tokens, key_cache, value_cache, slots)
            rows[seq_id] = np.concatenate([rows[seq_id], tokens], axis=1)

    lengths = np.array([row.shape[1] for row in rows.values()])
    tables = np.full((len(rows), blocks_of(lengths.max(), size)), -1)
    for row, seq_id, tokens in zip(tables, rows, lengths.tolist(), strict=True):
        table = manager.table(seq_id)
        saw = f"{tokens} tokens of sequence {seq_id} have the table {table}"
        manager.that(len(table) == blocks_of(tokens, size), saw, table)
        row[: len(table)] = table
    query = rng.standard_normal((len(rows), 2, 4))

    saw = solution.paged_attention(query, key_cache, value_cache, tables, lengths)

    want = np.zeros(query.shape)
    for b, (keys, values) in enumerate(rows.values()):
        scores = query[b] @ keys[:, 0].T / 2  # one key head of width 4
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        want[b] = weights / weights.sum(axis=1, keepdims=True) @ values[:, 0]
    how = f"{manager.how}, numbers of seed {seed}, at the end one query each"
    check.close(saw, want, what=f"output of sequences {list(rows)}", given=how, n=60)


@rule("R29")
@given(
    view=st.sampled_from(["interleaved", "heads first", "whole"]),
    size=SIZE,
    P=st.sampled_from([5, 2, 8]),
    n=st.integers(0, 4),
    seed=st.integers(0, 999),
)
def test_whole_blocks_are_copied_and_no_other_changes(solution, view, size, P, n, seed):
    rng = np.random.default_rng(seed)
    shape = {"interleaved": (P, 2, size, 2, 3), "heads first": (2, P, 2, size, 3)}
    both = rng.standard_normal(shape.get(view, (2, P, size, 2, 3)))
    axes = {"interleaved": (0, 1), "heads first": (2, 3)}
    key_cache, value_cache = both.swapaxes(*axes[view]) if view in axes else both
    order = rng.permutation(P).tolist()
    copies = [(order[-1 - j // 2], order[j]) for j in range(min(n, P // 2))]
    want = [key_cache.copy(), value_cache.copy()]
    for source, destination in copies:
        want[0][destination], want[1][destination] = key_cache[source], value_cache[source]
    asked = list(copies)

    solution.copy_blocks(key_cache, value_cache, asked)

    how = f"{P} blocks of {size}, copies {copies}, {view}"
    check.equal(asked, copies, what="the argument copies", given=how)
    check.equal(key_cache, want[0], what="key_cache", given=how, moved=True)
    check.equal(value_cache, want[1], what="value_cache", given=how, moved=True)


@rule("R7")
def test_arguments_of_stage_4_that_do_not_fit_are_named(solution):
    manager = Family(solution, 4, 4, 6, 1)
    table = manager.table(0)
    manager.refuses(ValueError, "fork", 9, 2, names="parent_id")
    manager.refuses(ValueError, "fork", 0, 1, names="child_id")
    manager.refuses(ValueError, "fork", 0, 0, names="child_id")
    manager.refuses(ValueError, "block_table", 2, names="seq_id")
    manager.do("add", 3)
    manager.refuses(ValueError, "fork", 0, 3, names="child_id")
    manager.check(2, {0: (6, table), 1: (6, table), 3: (0, [])})
    manager.do("free", 0)
    manager.do("free", 1)
    manager.check(4, {})

    caches = np.random.default_rng(0).standard_normal((2, 3, 4, 1, 2))
    for copies in ([(0, 3)], [(3, 0)], [(-1, 0)], [(0, -1)], [(0, 1), (2, 3)]):
        how = f"3 blocks, copies {copies}"
        what = {"what": "copy_blocks", "names": "copies", "given": how}
        with check.unchanged(given=how, key_cache=caches[0], value_cache=caches[1]):
            check.raises(ValueError, solution.copy_blocks, caches[0], caches[1], copies, **what)


@rule("R8")
def test_a_fork_has_a_table_of_its_own(solution):
    manager = Family(solution, 6, 4, 6, 1)
    table = manager.see("block_table", 1)
    kept = list(table)

    table.append(5)
    manager.calls.append("block_table(1) extended by the caller")
    manager.append(0, 7)

    manager.equal(manager.table(1), kept, "block_table(1)")
    manager.equal(manager.see("num_tokens", 1), 6, "num_tokens(1)")


@rule("R8")
def test_copies_that_were_returned_stay_as_they_were(solution):
    manager = Family(solution, 6, 4, 6, 2)
    _, copies = manager.do("append", 0, 1)
    kept = [tuple(pair) for pair in copies]
    manager.equal(len(kept), 1, "the number of copies")

    manager.append(1, 1)
    manager.append(2, 1)

    saw = [tuple(pair) for pair in copies]
    manager.equal(saw, kept, "the copies of append(0, 1), looked at again,")


@rule("R30")
def test_samples_share_the_blocks_of_their_prompt(count):
    def run(impl):
        manager = impl.BlockManager(256, 16)
        manager.add(0)
        manager.append(0, 100)
        for sample in range(1, 8):
            manager.fork(0, sample)
        for _ in range(12):
            for sample in range(8):
                manager.append(sample, 1)
        return 256 - manager.num_free_blocks

    def verify(blocks):
        saw = f"8 samples of 112 tokens lie in {blocks} blocks of 16"
        check.that(blocks >= 14, saw=saw)

    count(run, verify=verify)
