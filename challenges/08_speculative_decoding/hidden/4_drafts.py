"""Stage 4: drafts without a draft model, and drafts that branch."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import PERIOD, SEEDS, alone, ends_with, far, follows, in_turn, model, noted, steps

GAMMAS = st.sampled_from([3, 1, 2, 6])
P3 = np.array([0.5, 0.4, 0.1])
Q3 = np.array([0.2, 0.3, 0.5])
P5 = np.array([0.30, 0.25, 0.15, 0.10, 0.20])
Q5 = np.array([0.10, 0.15, 0.45, 0.25, 0.05])
# In float32 the first is 1, and what is left without it is still a distribution.
PEAK = np.array([1 - 3e-8, 2e-8, 1e-8, 0.0, 0.0])
# A second child is taken by chance as well, a little less often than the first.
LAWS = [(P5, Q5), (P5, PEAK)]
LAWS += [(np.array([0.4, 0.19, 0.19, 0.22, 0.0]), np.array([0.8, 0.1, 0.1, 0.0, 0.0]))]
ROWS = 5_000
CELLS = 4_000
# Two children of the root, of the first of them two more, and one of the second: in two orders.
LEVELS = np.array([-1, 0, 0, 1, 1, 2])
DEPTHS = np.array([-1, 0, 1, 1, 0, 4])
TREES = st.sampled_from(
    [
        LEVELS,
        DEPTHS,
        np.array([-1]),
        np.array([-1, 0, 1, 2, 3, 4]),
        np.array([-1, 0, 0, 0, 2, 2, 5]),
    ]
)


def lookup(tokens, gamma, most, least):
    """Prompt lookup, word for word as the spec has it."""
    text = list(map(int, tokens))
    for n in range(most, least - 1, -1):
        for start in range(len(text) - n):
            if text[start : start + n] == text[len(text) - n :]:
                return np.array(text[start + n : start + n + gamma], np.int64)
    return np.zeros(0, np.int64)


def lookups(most, least):
    """What a lookup of n-grams of these lengths proposes after a text."""
    return lambda text, n: lookup(text, n, most, least)


@rule("R24")
@given(
    T=st.sampled_from([12, 1, 2, 3, 5, 40]),
    V=st.sampled_from([3, 2, 9]),
    gamma=st.sampled_from([3, 1, 5, 0, 50]),
    sizes=st.sampled_from([(3, 1), (1, 1), (2, 2), (4, 2), (60, 1)]),
    dtype=st.sampled_from([np.int64, np.int32]),
    seed=SEEDS,
)
def test_the_longest_ngram_is_looked_up_where_it_came_first(
    solution, T, V, gamma, sizes, dtype, seed
):
    most, least = sizes
    tokens = np.random.default_rng(seed).integers(0, V, T).astype(dtype)
    how = f"tokens {tokens.tolist()} {np.dtype(dtype)}, gamma={gamma}, "
    how += f"max_ngram={most}, min_ngram={least}"

    with check.unchanged(given=how, tokens=tokens):
        saw = solution.propose_ngram(tokens, gamma=gamma, max_ngram=most, min_ngram=least)

    check.equal(saw, lookup(tokens, gamma, most, least), what="draft", given=how)
    check.fresh(saw, what="draft", given=how, tokens=tokens)


@rule("R24")
def test_one_token_is_enough_for_a_match_unless_more_are_asked_for(solution):
    tokens = np.array([4, 8, 9, 5, 8])
    how = f"tokens {tokens.tolist()}, gamma=2, max_ngram=3"

    saw = [
        solution.propose_ngram(tokens, gamma=2, max_ngram=3, **least)
        for least in ({}, {"min_ngram": 1}, {"min_ngram": 2})
    ]

    same = len(saw[0]) == len(saw[1])
    text = f"{len(saw[0])} tokens were drafted, and {len(saw[1])} with min_ngram=1"
    check.that(same, saw=text, given=how, value=saw)
    check.equal(saw[1], np.array([9, 5], np.int64), what="draft", given=f"{how}, min_ngram=1")
    check.equal(saw[2], np.array([], np.int64), what="draft", given=f"{how}, min_ngram=2")


@rule("R24")
def test_all_of_a_long_text_is_searched(solution):
    tokens = np.append(np.arange(70_000, 70_500), [70_100, 70_101])
    how = "the tokens from 70,000 to 70,499, then 70,100 and 70,101, gamma=4, max_ngram="

    for most in (2, 5):
        saw = solution.propose_ngram(tokens, gamma=4, max_ngram=most)
        check.equal(saw, np.arange(70_102, 70_106), what="draft", given=f"{how}{most}")


@rule("R24")
def test_a_match_may_overlap_the_end_of_the_text(solution):
    for text, want in (([7, 7, 7], [7]), ([1, 2, 1, 2, 1], [2, 1]), ([3, 4, 4, 4, 4], [4])):
        saw = solution.propose_ngram(np.array(text), gamma=9, max_ngram=3)
        how = f"tokens {text}, gamma=9, max_ngram=3"
        check.equal(saw, np.array(want, np.int64), what="draft", given=how)


def repeating(seed):
    """A target's table, a prompt, and the words for both. A V this small makes texts repeat.

    Of an odd seed, two tokens decide about the next.
    """
    rng, V = np.random.default_rng(seed), 3 if seed % 2 else 9
    table = rng.standard_normal((V if seed % 2 else 1, V, 1, V))
    table = np.broadcast_to(table, (V, V, PERIOD, V))
    return table, rng.integers(0, V, 5), f"seed {seed}, V={V}"


@rule("R25")
@given(
    V=st.sampled_from([9, 3, 20]),
    T=st.sampled_from([5, 1, 12]),
    new=st.sampled_from([20, 1, 2, 0, 40]),
    gamma=st.sampled_from([3, 1, 7, 0]),
    sizes=st.sampled_from([(3, 1), (2, 2), (1, 1)]),
    seed=SEEDS,
)
def test_lookup_leaves_the_targets_text_as_it_is(solution, V, T, new, gamma, sizes, seed):
    rng = np.random.default_rng(seed)
    table, prompt = rng.standard_normal((V, V, PERIOD, V)), rng.integers(0, V, T)
    table[:, :, 1:] = table[:, :, :1] if seed % 2 else table[:, :, 1:]
    whole = alone(table, prompt, new)

    for eos_id in (None, int(whole[len(whole) // 2]) if new else 0):
        saw = solution.generate_lookup(
            model(table),
            prompt,
            new,
            gamma=gamma,
            max_ngram=sizes[0],
            min_ngram=sizes[1],
            eos_id=eos_id,
        )
        ends = np.flatnonzero(whole == eos_id) + 1
        how = f"seed {seed}, V={V}, prompt of {T}, {new} new tokens, gamma={gamma}, "
        how += f"max_ngram={sizes[0]}, min_ngram={sizes[1]}, eos_id={eos_id}"
        check.equal(saw, whole[: ends[0]] if len(ends) else whole, what="tokens", given=how)


@rule("R4")
@given(
    new=st.sampled_from([30, 1, 7, 60]),
    gamma=GAMMAS,
    sizes=st.sampled_from([(3, 1), (1, 1), (2, 2), (4, 3)]),
    seed=SEEDS,
)
def test_lookup_drafts_from_all_of_the_text(solution, new, gamma, sizes, seed):
    table, prompt, words = repeating(seed)
    (most, least), (call, calls) = sizes, noted(table)

    saw = solution.generate_lookup(call, prompt, new, gamma=gamma, max_ngram=most, min_ngram=least)

    how = f"{words}, prompt of 5, {new} new tokens, gamma={gamma}, max_ngram={most}, "
    how += f"min_ngram={least}"
    check.equal(saw, alone(table, prompt, new), what="tokens", given=how)
    text = f"the target was called {len(calls)} times"
    fewest = steps(table, lookups(most, least), prompt, new, gamma)
    check.that(len(calls) <= fewest + 1, saw=f"{text}, too often", given=how, value=calls)
    text += ", less often than drafts of such n-grams make possible"
    check.that(len(calls) >= fewest, saw=text, given=how, value=calls)


@rule("R4")
def test_lookup_reaches_back_to_the_start_of_the_text(solution):
    text = np.append(np.arange(300), 0)
    call, calls = noted(lambda x, at: np.eye(300)[(x + 1) % 300])

    saw = solution.generate_lookup(call, text, 40)

    how = "tokens 0 to 299, then 0, of a target that counts on, 40 new tokens"
    check.equal(saw, np.arange(1, 41), what="tokens", given=how)
    words = f"the target was called {len(calls)} times, too often"
    check.that(len(calls) <= 9, saw=words, given=how, value=calls)


@rule("R9")
@given(max_examples=15, gamma=GAMMAS, seed=SEEDS)
def test_lookup_computes_nothing_again_but_what_was_rejected(solution, gamma, seed):
    table, prompt, words = repeating(seed)
    call, calls = noted(table)

    solution.generate_lookup(call, prompt, 30, gamma=gamma)

    how = f"{words}, prompt of 5, 30 new tokens, gamma={gamma}"
    again = sum(again for _, _, again in calls)
    text = f"the target computed {again} positions again that were right"
    check.that(again == 0, saw=text, given=how, value=calls)


@rule("R6")
@given(max_examples=20, new=st.sampled_from([7, 1, 2, 30]), gamma=GAMMAS, seed=SEEDS)
def test_lookup_asks_for_nothing_beyond_the_end(solution, new, gamma, seed):
    table, prompt, words = repeating(seed)
    call, calls = noted(table)

    solution.generate_lookup(call, prompt, new, gamma=gamma)

    how = f"{words}, prompt of 5, {new} new tokens, gamma={gamma}"
    text = f"a call brought the text to {far(calls)} tokens"
    check.that(far(calls) <= 5 + new - 1, saw=text, given=how, value=calls)


@rule("R5")
@given(at=st.integers(0, 20), gamma=GAMMAS, seed=SEEDS)
def test_no_call_follows_an_end_token_after_a_lookup(solution, at, gamma, seed):
    table, prompt, words = repeating(seed)
    whole = alone(table, prompt, 40)
    log, call = in_turn(target=table)
    eos_id = int(whole[at])

    saw = solution.generate_lookup(call, prompt, 40, gamma=gamma, eos_id=eos_id)

    how = f"{words}, prompt of 5, 40 new tokens, gamma={gamma}, eos_id={eos_id}"
    want = whole[: np.flatnonzero(whole == eos_id)[0] + 1]
    check.equal(saw, want, what="tokens", given=how)
    ends_with(log, 5 + len(want) - 1, given=how)


@rule("R4")
def test_lookup_takes_three_tokens_and_drafts_four_unless_told(solution):
    # What comes now has followed 5 6 7, but not 6 7 or 7 at first; in the other text 9 5 6 7.
    one = [6, 7, 0, 1, 8, 7, 3, 5, 6, 7, 2, 3, 4, 8, 9, 5, 6, 7]
    other = [0, 5, 6, 7, 1, 9, 5, 6, 7, 2, 3, 9, 5, 6, 7]
    table = np.zeros((10, 10, PERIOD, 10))
    for a, b, c in ((6, 7, 2), (7, 2, 3), (2, 3, 4), (3, 4, 8), (4, 8, 9), (8, 9, 7), (9, 7, 3)):
        table[a, b, :, c] = 1

    for text in (one, other):
        logs = []
        for kwargs in ({}, {"gamma": 4, "max_ngram": 3, "min_ngram": 1}):
            call, calls = noted(table)
            solution.generate_lookup(call, np.array(text), 8, **kwargs)
            logs.append(calls)
        words = "the target was called as it is not with gamma=4, max_ngram=3, min_ngram=1"
        how = f"tokens {text} that go on by 2 3 4 8 9 7 3, 8 new tokens"
        check.that(logs[0] == logs[1], saw=words, given=how, value=logs[0])


@rule("R7")
def test_lookup_changes_no_argument(solution):
    table, prompt, words = repeating(1)

    with check.unchanged(given=words, prompt=prompt):
        saw = solution.generate_lookup(model(table), prompt, 12)
    check.fresh(saw, what="tokens of generate_lookup", given=words, prompt=prompt)


@rule("R26")
@given(
    lengths=st.lists(st.integers(0, 4), min_size=0, max_size=6),
    V=st.sampled_from([2, 3, 9]),
    seed=SEEDS,
)
def test_candidates_share_the_nodes_of_a_common_prefix(solution, lengths, V, seed):
    rng = np.random.default_rng(seed)
    candidates = [rng.integers(0, V, n) for n in lengths]
    how = f"root 1, candidates {[c.tolist() for c in candidates]}"
    paths = [()]  # each node by the tokens that lead to it
    for candidate in candidates:
        text = tuple(map(int, candidate))
        paths += [text[:n] for n in range(1, len(text) + 1) if text[:n] not in paths]
    want = np.array([1, *(path[-1] for path in paths[1:])], np.int64)

    tokens, parents = solution.build_tree(1, candidates)

    check.equal(tokens, want, what="tokens", given=how)
    want = np.array([-1, *(paths.index(path[:-1]) for path in paths[1:])], np.int64)
    check.equal(parents, want, what="parents", given=how)


def ancestors(parents, node):
    """The nodes from the root down to this one."""
    return [] if node == -1 else [*ancestors(parents, int(parents[node])), node]


@rule("R27")
@given(tree=TREES, cached=st.sampled_from([0, 4, 1]))
def test_a_node_sees_the_cache_and_its_own_path(solution, tree, cached):
    want = np.zeros((len(tree), cached + len(tree)), bool)
    want[:, :cached] = True
    for node in range(len(tree)):
        want[node, [cached + other for other in ancestors(tree, node)]] = True
    how = f"parents {tree.tolist()}, cached={cached}"

    saw = solution.tree_mask(tree, cached=cached)

    check.equal(saw, want, what="mask", given=how)
    if cached == 0:
        check.equal(solution.tree_mask(tree), want, what="mask without cached", given=how)


@rule("R28")
@given(tree=TREES, cached=st.sampled_from([0, 4, 1]))
def test_a_node_stands_where_it_would_stand_in_its_own_text(solution, tree, cached):
    want = np.array([cached + len(ancestors(tree, i)) - 1 for i in range(len(tree))], np.int64)
    how = f"parents {tree.tolist()}, cached={cached}"

    saw = solution.tree_positions(tree, cached=cached)

    check.equal(saw, want, what="positions", given=how)
    if cached == 0:
        check.equal(solution.tree_positions(tree), want, what="positions", given=how)


def grow(rng, tree, root, p_of, q_of, V):
    """p, q (B, N, V) and tokens (B, N): each node's children drawn from q without replacement."""
    B, N = len(root), len(tree)
    tokens = np.zeros((B, N), np.int64)
    tokens[:, 0] = root
    p, q = np.zeros((B, N, V)), np.zeros((B, N, V))
    for node in range(N):
        p[:, node], q[:, node] = p_of(tokens[:, node]), q_of(tokens[:, node])
        # The largest of log q + Gumbel noise, the second largest and so on are such a draw.
        with np.errstate(divide="ignore"):
            keys = np.log(q[:, node]) + rng.gumbel(size=(B, V))
        order = np.argsort(-keys, axis=1)
        for nth, child in enumerate(np.flatnonzero(tree == node)):
            tokens[:, child] = order[:, nth]
    return p, q, tokens


def turned(law):
    """Rows of the law for tokens (B,): the step from a token to the next, modulo V, has it."""
    V = len(law)
    table = law[(np.arange(V) - np.arange(V)[:, None]) % V]
    return lambda tokens: table[tokens]


def form(saw, tokens, tree):
    """verify_tree's results have the form that the spec gives them."""
    depth = max(len(ancestors(tree, node)) for node in range(len(tree))) - 1
    out, accepted = saw
    how = f"{len(tokens)} rows, parents {tree.tolist()}"
    check.array(out, shape=(len(tokens), depth + 1), dtype=np.int64, what="tokens", given=how)
    check.array(accepted, shape=(len(tokens),), dtype=np.int64, what="n_accepted", given=how)
    right = bool(((accepted >= 0) & (accepted <= depth)).all())
    text = f"n_accepted went from {accepted.min()} to {accepted.max()}"
    check.that(right, saw=text, given=how, value=accepted)
    column = np.arange(depth + 1)
    behind = bool((out[column > accepted[:, None]] == -1).all())
    text = "what stands behind a row's last token is not all PLACEHOLDER"
    check.that(behind, saw=text, given=how, value=saw)
    return out, accepted


@rule("R29")
@given(
    tree=TREES,
    B=st.sampled_from([8, 1, 40]),
    V=st.sampled_from([4, 300]),
    dtype=st.sampled_from(["f8", "f4"]),
    seed=SEEDS,
)
def test_a_sure_target_leads_down_its_own_path(solution, tree, B, V, dtype, seed):
    rng, law = np.random.default_rng(seed), np.zeros(V)
    law[-4:] = 0.25
    best = rng.integers(V - 4, V, (4, V))  # [node % 4, token of the node]
    _, q, tokens = grow(rng, tree, rng.integers(0, V, B), *[lambda x: np.tile(law, (B, 1))] * 2, V)
    p = np.eye(V)[best[np.arange(len(tree)) % 4, tokens]].astype(dtype)
    q[:, [node for node in range(len(tree)) if node not in tree]] = 7.0  # any row will do there
    want, n, depth = [], [], max(len(ancestors(tree, node)) for node in range(len(tree)))
    for row, likes in zip(tokens, p.argmax(axis=-1), strict=True):
        node, path = 0, []
        while True:
            path.append(int(likes[node]))
            met = [c for c in np.flatnonzero(tree == node) if row[c] == likes[node]]
            if not met:
                break
            node = int(met[0])
        want.append(path + [-1] * (depth - len(path)))
        n.append(len(path) - 1)
    how = f"seed {seed}, V={V}, {B} rows, parents {tree.tolist()}, p of 0 and 1 in {dtype}, "
    how += "q of 7 for nodes without children"

    saw = solution.verify_tree(
        np.random.default_rng(seed), p, q.astype(dtype), tokens.astype(np.int32), tree
    )

    out, accepted = form(saw, tokens, tree)
    check.equal(out, np.array(want, np.int64), what="tokens", given=how)
    check.equal(accepted, np.array(n, np.int64), what="n_accepted", given=how)


def law_of_children(p, q, count):
    """How often a token is an accepted child, then how often it is none. (2V,)"""
    law = np.zeros(2 * len(p))

    def down(left, drafted, chance, count):
        if count == 0:
            law[len(p) :] += chance * left
            return
        for x in np.flatnonzero(drafted):
            take = min(1.0, left[x] / drafted[x])
            law[x] += chance * drafted[x] * take
            if take < 1:
                over = np.maximum(left - drafted, 0)
                rest = np.where(np.arange(len(p)) == x, 0, drafted)
                lost = chance * drafted[x] * (1 - take)
                down(over / over.sum(), rest / rest.sum(), lost, count - 1)

    down(p, q, 1.0, count)
    return law


@rule("R7")
@given(max_examples=10, tree=TREES, B=st.sampled_from([8, 1]), seed=SEEDS)
def test_trees_change_no_argument(solution, tree, B, seed):
    rng = np.random.default_rng(seed)
    p, q, tokens = grow(rng, tree, rng.integers(0, 5, B), turned(P5), turned(Q5), 5)
    how = f"seed {seed}, {B} rows, parents {tree.tolist()}"
    args = {"p": p, "q": q, "tokens": tokens, "parents": tree.copy()}

    with check.unchanged(given=f"verify_tree, {how}", **args):
        saw = solution.verify_tree(rng, *args.values())
    check.fresh(saw, what="the result of verify_tree", given=how, tokens=tokens)
    candidates = [np.array([1, 2]), np.array([1, 3])]
    with check.unchanged(given="build_tree", candidates=candidates):
        solution.build_tree(0, candidates)
    for name in ("tree_mask", "tree_positions"):
        held = tree.copy()
        with check.unchanged(given=f"{name}, parents {tree.tolist()}", parents=held):
            saw = getattr(solution, name)(held)
        check.fresh(saw, what=f"the result of {name}", given=how, parents=held)


@rule("R30")
@given(  # few enough that all of them are tried
    children=st.sampled_from([2, 3, 1]),
    laws=st.sampled_from(LAWS),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_children_are_tried_in_turn_each_in_its_share(solution, children, laws, dtype):
    rng, tree = np.random.default_rng(children), np.array([-1] + [0] * children)
    p_of, q_of = (lambda x, law=law: np.tile(law, (len(x), 1)) for law in laws)
    *rows, tokens = grow(rng, tree, np.zeros(ROWS, np.int64), p_of, q_of, 5)

    saw = solution.verify_tree(rng, *(row.astype(dtype) for row in rows), tokens, tree)

    out, accepted = form(saw, tokens, tree)
    counts = np.bincount(np.where(accepted == 1, 0, 5) + out[:, 0], minlength=10)
    names = [f"rows {how} token {t}" for how in ("accepted", "replaced by") for t in range(5)]
    words = " and ".join(f"{name}={law.tolist()}" for name, law in zip("pq", laws, strict=True))
    how = f"seed {children}, {ROWS:,} roots, children of each: {children}, {words} in {dtype}"
    follows(counts, law_of_children(*laws, children), names, given=how, value=saw)


@rule("R31")
@given(max_examples=2, tree=st.sampled_from([LEVELS, DEPTHS]), seed=SEEDS)
def test_paths_have_the_joint_distribution_of_the_target(solution, tree, seed):
    rng = np.random.default_rng(seed)
    root = rng.integers(0, 3, CELLS)
    p, q, tokens = grow(rng, tree, root, turned(P3), turned(Q3), 3)

    saw = solution.verify_tree(rng, p, q, tokens, tree)

    out, _ = form(saw, tokens, tree)
    own = rng.choice(3, size=out.shape, p=P3)  # what a row lacks, the target draws itself
    before, went = root, np.zeros_like(out)
    for i in range(out.shape[1]):
        went[:, i] = np.where(out[:, i] < 0, own[:, i], (out[:, i] - before) % 3)
        before = np.where(out[:, i] < 0, before, out[:, i])
    law = np.einsum("a,b,c->abc", P3, P3, P3).ravel()
    names = [f"rows went on by {np.base_repr(27 + i, 3)[1:]}" for i in range(27)]
    how = f"seed {seed}, {CELLS:,} rows, parents {tree.tolist()}, each step in p={P3.tolist()}, "
    how += f"q={Q3.tolist()}"
    follows(np.bincount(went @ (9, 3, 1), minlength=27), law, names, given=how, value=saw)


@rule("R8")
def test_drafts_name_a_bad_argument(solution):
    table, prompt, _ = repeating(0)
    rng, p = np.random.default_rng(0), np.full((1, 2, 4), 0.25)
    tokens = np.zeros((1, 2), np.int64)

    for most, least in ((1, 2), (3, 0), (0, 0)):
        sizes = {"max_ngram": most, "min_ngram": least}
        for call, name, args in (
            (solution.propose_ngram, "propose_ngram", (prompt,)),
            (solution.generate_lookup, "generate_lookup", (model(table), prompt, 3)),
        ):
            what = {"what": name, "names": "min_ngram", "given": str(sizes)}
            check.raises(ValueError, call, *args, gamma=2, **sizes, **what)
    for name, at, gamma in (("prompt", 0, 4), ("gamma", 3, -1)):
        what = {"what": "generate_lookup", "names": name, "given": f"prompt of {at}, gamma={gamma}"}
        args = (model(table), prompt[:at], 3)
        check.raises(ValueError, solution.generate_lookup, *args, gamma=gamma, **what)
    for least in (0, 4):
        what = {
            "what": "generate_lookup",
            "names": "min_ngram",
            "given": f"min_ngram={least}, 0 new",
        }
        args = (model(table), prompt, 0)
        check.raises(ValueError, solution.generate_lookup, *args, min_ngram=least, **what)
    for parents in (
        [0, 0],
        [-1, 1],
        [-1, -1],
        [-1, 2, 0],
        [-1, 0, -1],
        [-1, 0, -2],
        [-1, 0, 2],
        [-2],
    ):
        tree, how = np.array(parents), f"parents {parents}"
        for name in ("tree_mask", "tree_positions"):
            call = getattr(solution, name)
            check.raises(ValueError, call, tree, names="parents", what=name, given=how)
    for parents in ([-1, 1], [-1], [-1, 0, 0]):
        args = (rng, p, p, tokens, np.array(parents))
        what = {"what": "verify_tree", "given": f"tokens (1, 2), parents {parents}"}
        check.raises(ValueError, solution.verify_tree, *args, names="parents", **what)


@rule("R4")
def test_lookup_saves_target_calls(count):
    def inputs(rng):
        text = rng.permutation(40)  # a text that the target goes on copying
        after = np.zeros((40, 40, PERIOD, 40))
        after[:, text, :, np.roll(text, -1)] = 1.0
        return after, np.append(text, text[:3])

    def run(impl, table, prompt):
        call, calls = noted(table)
        saw = impl.generate_lookup(call, prompt, 60, gamma=4)
        how = "a text of 40 tokens that is copied, 60 new tokens, gamma=4"
        check.equal(saw, alone(table, prompt, 60), what="tokens", given=how)
        return len(calls)

    def verify(calls, table, prompt):
        check.that(calls > 0, saw=f"the target was called {calls} times", given="60 new tokens")

    count(run, inputs=inputs, verify=verify)


@rule("R26")
def test_branches_share_their_prefix(count):
    def inputs(rng):
        stem = rng.integers(0, 50, 5)
        return ([np.append(stem, token) for token in range(8)],)

    def run(impl, candidates):
        return len(impl.build_tree(3, candidates)[0])

    def verify(nodes, candidates):
        check.that(nodes >= 14, saw=f"the tree has {nodes} nodes", given="8 candidates of 6 tokens")

    count(run, inputs=inputs, verify=verify)
