"""Stage 2: sampled text has the target's distribution, whatever the draft model proposes.

What the counts catch is computed in tests/oracles/test_08_speculative_decoding.py.
"""

import itertools
import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    MISSES,
    SEEDS,
    SIZES,
    alone,
    draw,
    ends_with,
    far,
    follows,
    in_turn,
    model,
    noted,
    steps,
    sure,
)

DTYPES = st.sampled_from(["f8", "f4"])
GAMMAS = st.sampled_from([3, 1, 2, 4, 0])
# Tokens that the target likes less, as much and more than the draft model; 0 and 3 are one's alone.
P = np.array([0.30, 0.25, 0.25, 0.00, 0.20])
Q = np.array([0.00, 0.25, 0.10, 0.40, 0.25])
ROWS = 8_000
RUNS = 700
# The same with one draft that is right every other time, so that this share shows.
LAWS = [(P, Q), (np.array([0.5, 0.5, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0, 0.0]))]
# Of three tokens, all with all: the law of three of them has 27 cells.
P3 = np.array([0.6, 0.3, 0.1])
Q3 = np.array([0.2, 0.3, 0.5])
CELLS = 12_000
# Of long texts, and of V tokens: two, and many rare ones. Another temperature moves a share from
# those to these, of the draft model where p and q are equal.
LONG, WIDE = 2_000, 1_000
EQUAL = np.array([0.5, 0.3, *np.full(WIDE - 2, 0.2 / (WIDE - 2))])
LONG_LAWS = [(np.array([0.85, 0.10, 0.05]), np.array([0.5, 0.3, 0.2])), (EQUAL, EQUAL)]
# So many tokens of equal probability in float32 add up to less than 1, in float64 and some of them
# in float32.
SHORT = [25, 50, 61, 100]


def almost_one():
    """A generator whose first number is the largest below 1."""
    bits = np.random.PCG64(0)
    state = bits.state
    # PCG64 multiplies its state by this, adds inc, and gives 64 ones for a state of 64 ones.
    before = pow(0x2360ED051FC65DA44385DF649FCCF645, -1, 2**128)
    state["state"]["state"] = (2**64 - 1 - state["state"]["inc"]) * before % 2**128
    bits.state = state
    return np.random.Generator(bits)


def pick(rng, p):
    """A token of each row of p (..., V)."""
    tokens = (p.cumsum(axis=-1) <= rng.random((*p.shape[:-1], 1))).sum(axis=-1)
    return np.minimum(tokens, p.shape[-1] - 1)


def form(tokens, accepted, draft):
    """verify's results have the form that the spec gives them."""
    B, gamma = draft.shape
    how = f"draft ({B}, {gamma})"
    check.array(tokens, shape=(B, gamma + 1), dtype=np.int64, what="tokens", given=how)
    check.array(accepted, shape=(B,), dtype=np.int64, what="n_accepted", given=how)
    right = bool(((accepted >= 0) & (accepted <= gamma)).all())
    text = f"n_accepted went from {accepted.min()} to {accepted.max()}"
    check.that(right, saw=text, given=how, value=accepted)


def law_of_a_step(p, q):
    """How often a token comes out accepted, then how often it comes out of a rejection. (2V,)"""
    return np.concatenate([np.minimum(p, q), np.maximum(p - q, 0)])


def law_of_a_bonus():
    """Of accepted drafts from 0.2 for each token: that token, and the bonus token. (25,)"""
    taken = np.minimum(Q, 0.2)
    return np.outer(taken / taken.sum(), P).ravel()


def chain(seed, dtype=np.float64):
    """p (CELLS, 3, 3), q and drafts from it where every token depends on the one before it."""
    rng = np.random.default_rng(seed)
    shift = (np.arange(3) - np.arange(3)[:, None]) % 3  # [before, token]
    first = rng.integers(0, 3, CELLS)
    draft, q, before = [], [], first
    for _ in range(2):
        q.append(Q3[shift[before]])
        before = pick(rng, q[-1])
        draft.append(before)
    p = [P3[shift[token]] for token in (first, *draft)]
    p, q = (np.stack(rows, axis=1).astype(dtype) for rows in (p, q))
    return first, p, q, np.stack(draft, axis=1)


def completed(seed, first, tokens):
    """The steps from token to token of each row, the missing ones drawn from the target. (B, 3)"""
    own = np.random.default_rng((seed, 2)).choice(3, size=tokens.shape, p=P3)
    before, out = first, np.zeros_like(tokens)
    for i in range(tokens.shape[1]):
        out[:, i] = np.where(tokens[:, i] < 0, own[:, i], (tokens[:, i] - before) % 3)
        before = np.where(tokens[:, i] < 0, before, tokens[:, i])
    return out


@rule("R10")
@given(
    shape=st.sampled_from([(), (1,), (4,), (3, 2)]),
    V=st.sampled_from([5, 2, 9]),
    dtype=st.sampled_from([np.float64, np.float32]),
    seed=SEEDS,
)
def test_the_residual_is_what_p_has_over_q(solution, shape, V, dtype, seed):
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.ones(V), shape).astype(dtype) for _ in range(2))
    over = np.maximum(p.astype(np.float64) - q, 0)
    want = (over / over.sum(axis=-1, keepdims=True)).astype(dtype)
    how = f"seed {seed}, p and q {p.shape} {np.dtype(dtype)} from a Dirichlet distribution"
    scale = max(1.0, float(1 / over.sum(axis=-1).min()))

    saw = solution.residual(p, q)

    check.close(saw, want, what="residual", given=how, n=V, scale=scale)


@rule("R10")
@given(dtype=st.sampled_from([np.float64, np.float32]), seed=SEEDS)
def test_the_residual_of_equals_is_p_itself(solution, dtype, seed):
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.ones(4), 3).astype(dtype) for _ in range(2))
    q[1] = p[1]
    over = np.maximum(p.astype(np.float64) - q, 0)
    over[1] = p[1]
    want = (over / over.sum(axis=-1, keepdims=True)).astype(dtype)
    how = f"seed {seed}, p and q (3, 4) {np.dtype(dtype)}, the rows 1 equal"

    saw = solution.residual(p, q)

    scale = max(1.0, float(1 / over.sum(axis=-1).min()))
    check.close(saw, want, what="residual", given=how, n=4, scale=scale)


@rule("R10")
@given(
    V=st.sampled_from([5, 2, 40]),
    part=st.sampled_from([1e-6, 1e-9, 1e-12]),
    dtype=st.sampled_from([np.float64, np.float32]),
    seed=SEEDS,
)
def test_a_residual_is_made_to_add_up_to_one_however_small(solution, V, part, dtype, seed):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(V), 3).astype(dtype)
    eps = np.finfo(dtype).eps
    p = (q * (1 + np.maximum(part, 4 * eps) * rng.choice([-1, 1], (3, V)))).astype(dtype)
    p[:, 0], p[:, 1] = q[:, 0] * (1 + 8 * eps), q[:, 1] * (1 - 8 * eps)
    over = np.maximum(p - q, 0).astype(np.float64)
    want = (over / over.sum(axis=-1, keepdims=True)).astype(dtype)
    how = (
        f"seed {seed}, p and q (3, {V}) {np.dtype(dtype)} that differ by {part} of q or by rounding"
    )

    saw = solution.residual(p, q)

    check.close(saw, want, what="residual", given=how, n=V)


@rule("R7")
@given(max_examples=10, shape=st.sampled_from([(3,), (), (2, 2)]), seed=SEEDS)
def test_the_residual_changes_no_argument(solution, shape, seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(4), (2, *shape))

    for other, how in ((q, f"seed {seed}, p and q {p.shape}"), (p.copy(), "p and q equal")):
        with check.unchanged(given=f"residual, {how}", p=p, q=other):
            saw = solution.residual(p, other)
        check.fresh(saw, what="the residual", given=how, p=p, q=other)


@rule("R11")
@given(
    B=st.sampled_from([7, 1, 30]),
    gamma=GAMMAS,
    V=st.sampled_from([5, 2, 300]),
    dtype=DTYPES,
    kind=st.sampled_from(["int32", "int64", "uint16", "uint64"]),
    layout=st.sampled_from(["C", "F"]),
    seed=SEEDS,
)
def test_a_row_is_its_accepted_tokens_and_one_more(
    solution, B, gamma, V, dtype, kind, layout, seed
):
    rng = np.random.default_rng(seed)
    p = np.array(rng.dirichlet(np.ones(V), (B, gamma + 1)), dtype, order=layout)
    q = np.array(rng.dirichlet(np.ones(V), (B, gamma)), dtype, order=layout)
    draft = pick(rng, q)

    saw = solution.verify(np.random.default_rng(seed), p, q, draft.astype(kind))

    tokens, accepted = saw
    form(tokens, accepted, draft)
    how = f"seed {seed}, p {p.shape} {dtype}, {layout} order, draft {kind}"
    column = np.arange(gamma + 1)
    kept = column[:gamma] < accepted[:, None]
    same = bool((tokens[:, :gamma][kept] == draft[kept]).all())
    check.that(same, saw="an accepted token is not the drafted one", given=how, value=saw)
    behind = tokens[column > accepted[:, None]]
    text = "what stands behind a row's last token is not all PLACEHOLDER"
    check.that(bool((behind == -1).all()), saw=text, given=how, value=saw)
    last = tokens[np.arange(B), accepted]
    inside = bool(((last >= 0) & (last < V)).all())
    check.that(inside, saw="a row's last token is no token", given=how, value=saw)


@rule("R12")
@given(B=st.sampled_from([9, 1, 40]), gamma=GAMMAS, V=st.sampled_from([3, 2, 6]), seed=SEEDS)
def test_a_target_that_is_sure_is_followed(solution, B, gamma, V, seed):
    rng = np.random.default_rng(seed)
    best = rng.integers(0, V, (B, gamma + 1))
    p = np.eye(V)[best]
    q = rng.dirichlet(np.ones(V), (B, gamma))
    q[::2] = (q[::2] + 3 * p[::2, :gamma]) / 4  # in every other row the target is often met
    draft = pick(rng, q)
    right = np.logical_and.accumulate(draft == best[:, :gamma], axis=1).sum(axis=1)
    want = np.where(np.arange(gamma + 1) <= right[:, None], best, -1)

    tokens, accepted = solution.verify(np.random.default_rng(seed), p, q, draft)

    how = f"seed {seed}, p {p.shape} of zeros and a one in each row"
    check.equal(tokens, want, what="tokens", given=how)
    check.equal(accepted, right, what="n_accepted", given=how)


@rule("R12")
def test_no_random_number_leads_to_a_token_without_probability(solution):
    for B, n in itertools.product((1, 3), SHORT):
        p, q = np.zeros((B, 1, n + 3), np.float32), np.zeros((B, 0, n + 3), np.float32)
        p[:, :, :n] = 1 / n
        how = f"{B} rows, no draft, p 1/{n} in float32 for {n} tokens and 0 for 3 more, a first "
        how += "random number of 1 - 2**-53"

        tokens, accepted = solution.verify(almost_one(), p, q, np.zeros((B, 0), np.int64))

        form(tokens, accepted, q[:, :, 0])
        text = f"tokens {tokens[:, 0].tolist()} came"
        check.that(bool((tokens < n).all()), saw=text, given=how, value=tokens)


@rule("R13")
@given(B=st.sampled_from([9, 1]), gamma=GAMMAS, dtype=DTYPES, seed=SEEDS)
def test_a_draft_from_the_target_itself_is_accepted(solution, B, gamma, dtype, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(6), (B, gamma + 1)).astype(dtype)
    p[:, gamma] = 0
    p[np.arange(B), gamma, (bonus := rng.integers(0, 6, B))] = 1
    draft = pick(rng, p[:, :gamma])
    want = np.concatenate([draft, bonus[:, None]], axis=1)

    tokens, accepted = solution.verify(np.random.default_rng(seed), p, p[:, :gamma].copy(), draft)

    how = f"seed {seed}, p {p.shape} {dtype} whose last row is sure, q the other rows of p"
    check.equal(accepted, np.full(B, gamma), what="n_accepted", given=how)
    check.equal(tokens, want, what="tokens", given=how)


@rule("R13")
@given(max_examples=4, laws=st.sampled_from(LAWS), dtype=DTYPES, seed=SEEDS)
def test_tokens_are_accepted_and_replaced_in_their_shares(solution, laws, dtype, seed):
    rng, (P, Q) = np.random.default_rng(seed), laws
    draft = rng.choice(5, size=(ROWS, 1), p=Q)
    p = np.tile(P, (ROWS, 2, 1)).astype(dtype)
    q = np.tile(Q, (ROWS, 1, 1)).astype(dtype)

    tokens, accepted = solution.verify(rng, p, q, draft)

    form(tokens, accepted, draft)
    counts = np.bincount(np.where(accepted == 1, 0, 5) + tokens[:, 0], minlength=10)
    names = [f"rows {how} token {t}" for how in ("accepted", "replaced by") for t in range(5)]
    how = f"seed {seed}, {ROWS:,} drafts of one token from q={Q.tolist()}, p={P.tolist()} {dtype}"
    follows(counts, law_of_a_step(P, Q), names, given=how, value=(tokens, accepted))


@rule("R14")
@given(max_examples=2, seed=SEEDS)
def test_the_bonus_token_has_the_last_row_of_p(solution, seed):
    rng = np.random.default_rng(seed)
    draft = rng.choice(5, size=(ROWS, 1), p=Q)
    p = np.stack([np.tile(Q, (ROWS, 1)), np.tile(P, (ROWS, 1))], axis=1)

    tokens, accepted = solution.verify(rng, p, p[:, :1].copy(), draft)

    form(tokens, accepted, draft)
    how = f"seed {seed}, {ROWS:,} drafts of one token, p={[Q.tolist(), P.tolist()]}, q its row 0"
    check.equal(accepted, np.ones(ROWS, np.int64), what="n_accepted", given=how)
    names = [f"bonus tokens were {t}" for t in range(5)]
    counts = np.bincount(tokens[:, 1], minlength=5)
    follows(counts, P, names, given=how, value=tokens)


@rule("R14")
@given(max_examples=2, seed=SEEDS)
def test_the_bonus_token_does_not_depend_on_how_the_draft_was_accepted(solution, seed):
    rng, flat = np.random.default_rng(seed), np.full(5, 0.2)
    draft = rng.choice(5, size=(ROWS, 1), p=flat)
    p = np.stack([np.tile(Q, (ROWS, 1)), np.tile(P, (ROWS, 1))], axis=1)

    tokens, accepted = solution.verify(rng, p, np.tile(flat, (ROWS, 1, 1)), draft)

    form(tokens, accepted, draft)
    how = f"seed {seed}, {ROWS:,} drafts of one token, p={[Q.tolist(), P.tolist()]}, q of 0.2"
    pairs = tokens[accepted == 1] @ (5, 1)
    check.that(len(pairs) > 0, saw="no draft was accepted", given=how, value=tokens)
    names = [f"accepted drafts were {a} with bonus token {b}" for a in range(5) for b in range(5)]
    follows(np.bincount(pairs, minlength=25), law_of_a_bonus(), names, given=how, value=tokens)


@rule("R15")
@given(max_examples=2, dtype=st.sampled_from([np.float64, np.float32]), seed=SEEDS)
def test_rows_have_the_joint_distribution_of_the_target(solution, dtype, seed):
    first, p, q, draft = chain(seed, dtype)

    tokens, accepted = solution.verify(np.random.default_rng((seed, 1)), p, q, draft)

    form(tokens, accepted, draft)
    out = completed(seed, first, tokens)
    counts = np.bincount(out @ (9, 3, 1), minlength=27)
    law = np.einsum("a,b,c->abc", P3, P3, P3).ravel()
    names = [f"rows went on by {np.base_repr(27 + i, 3)[1:]}" for i in range(27)]
    how = f"seed {seed}, {CELLS:,} drafts of two tokens, steps of p={P3.tolist()}, q={Q3.tolist()}"
    follows(counts, law, names, given=how, value=tokens)


@rule("R16")
@given(B=st.sampled_from([6, 1]), gamma=GAMMAS, seed=SEEDS)
def test_verify_takes_its_randomness_from_the_generator(solution, B, gamma, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(50), (B, gamma + 1))
    q = rng.dirichlet(np.ones(50), (B, gamma))
    draft = pick(rng, q)
    how = f"seed {seed}, p {p.shape}"
    one, other = np.random.default_rng(1), np.random.default_rng(1)

    for _ in range(2):
        saw, again = (solution.verify(g, p, q, draft)[0] for g in (one, other))
        check.equal(again, saw, what="tokens with a generator of equal state", given=how)


@rule("R7")
@given(max_examples=10, B=st.sampled_from([6, 1]), gamma=GAMMAS, seed=SEEDS)
def test_verify_changes_no_argument(solution, B, gamma, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), (B, gamma + 1))
    q = rng.dirichlet(np.ones(4), (B, gamma))
    draft = pick(rng, q)
    how = f"seed {seed}, p {p.shape}"

    for held in (p, q, draft):
        held.flags.writeable = False
    with check.unchanged(given=how, p=p, q=q, draft=draft):
        saw = solution.verify(rng, p, q, draft)
    draft.flags.writeable = True
    check.fresh(saw, what="the result of verify", given=how, draft=draft)


@rule("R16")
def test_a_generator_goes_on_from_call_to_call(solution):
    rng = np.random.default_rng(8)
    p = np.full((40, 1, 1000), 1e-3)
    q, draft = np.zeros((40, 0, 1000)), np.zeros((40, 0), np.int64)

    first, second = (solution.verify(rng, p, q, draft)[0] for _ in range(2))

    how = "40 rows of 1,000 equal probabilities, no draft, twice with one generator"
    alike = int((first == second).sum())  # 13 or more have a probability below 1e-26
    text = f"{alike} of 40 tokens came out alike"
    check.that(alike < 13, saw=text, given=how, value=first)
    alike = 40 - len(np.unique(first))
    text = f"{alike} of 40 rows repeat another's token"
    check.that(alike < 25, saw=text, given=how, value=first)


@rule("R8")
def test_verify_names_a_bad_argument(solution):
    rng, p, q = np.random.default_rng(0), np.full((2, 3, 4), 0.25), np.full((2, 2, 4), 0.25)
    draft = np.zeros((2, 2), np.int64)

    for name, args in (
        ("p", (p[:, :2], q, draft)),
        ("p", (p[:1], q, draft)),
        ("p", (p[:, [0, 1, 2, 2]], q, draft)),
        ("q", (p, q[:, :1], draft)),
        ("q", (p, q[:1], draft)),
        ("q", (p, p, draft)),
    ):
        how = f"p {args[0].shape}, q {args[1].shape}, draft {draft.shape}"
        check.raises(ValueError, solution.verify, rng, *args, what="verify", names=name, given=how)


# Generation: logits of a token depend on the one before it by their difference alone, so that the
# differences of a right text are independent draws from one law.


def turning(law, offset=0.0, dtype=np.float64):
    """Logits under which the step to the next token, modulo V, has that law."""
    V = len(law)
    with np.errstate(divide="ignore"):
        logits = (np.log(law) + offset).astype(dtype)
    return lambda tokens, positions: logits[(np.arange(V) - tokens[:, None]) % V]


def moves(prompt, tokens, V):
    return np.diff([prompt[-1], *map(int, tokens)]) % V


def folded(law):
    """The law of tokens 0, 1, and all others."""
    return np.array([law[0], law[1], law[2:].sum()])


@rule("R17")
@given(
    V=SIZES,
    miss=MISSES,
    T=st.sampled_from([4, 1, 9]),
    new=st.sampled_from([12, 1, 2, 23]),
    gamma=GAMMAS,
    seed=SEEDS,
)
def test_models_without_a_doubt_give_the_targets_greedy_text(
    solution, V, miss, T, new, gamma, seed
):
    target, draft, prompt, words = draw(seed, V, miss, T)
    models = model(sure(target)), model(sure(draft))

    saw = solution.generate(np.random.default_rng(0), *models, prompt, new, gamma=gamma)

    how = f"{words}, logits 0 and -inf, {new} new tokens, gamma={gamma}"
    check.equal(saw, alone(target, prompt, new), what="tokens", given=how)


@rule("R17")
@given(max_examples=2, seed=SEEDS)
def test_drafts_are_tested_against_the_law_they_were_drawn_from(solution, seed):
    # Few tokens show it where the draft model is all but right, or all but wrong.
    near, far = ([0.5, 0.5], [0.505, 0.495], 15, 80), ([0.95, 0.05], [0.05, 0.95], 1, 30)
    for p, q, gamma, new in (near, far):
        rng, prompt = np.random.default_rng(seed), np.array([1])
        target, draft = (model(turning(law, 20.0)) for law in (p, q))

        tokens = solution.generate(rng, target, draft, prompt, new, gamma=gamma)

        how = f"seed {seed}, a text of {new} tokens, gamma={gamma}, p={p}, q={q}"
        check.array(tokens, shape=(new,), dtype=np.int64, what="tokens", given=how)
        names = [f"tokens were {t} on from the one before" for t in range(2)]
        steps = moves(prompt, tokens, 2)
        follows(np.bincount(steps, minlength=2), np.array(p), names, given=how, value=tokens)


@rule("R17")
@given(max_examples=2, offset=st.sampled_from([5.0, -3.0, -3000.0]), seed=SEEDS)
def test_a_step_of_generation_has_the_targets_distribution(solution, offset, seed):
    rng, prompt, steps = np.random.default_rng(seed), np.array([1]), []
    target, draft = (model(turning(law, offset)) for law in (P3, Q3))

    for _ in range(RUNS):
        steps.append(moves(prompt, solution.generate(rng, target, draft, prompt, 2, gamma=1), 3))

    steps = np.array(steps)  # (RUNS, 2)
    how = f"seed {seed}, {RUNS:,} texts of 2 tokens, gamma=1, p={P3.tolist()}, q={Q3.tolist()}"
    names = [f"first tokens were {t} on from the one before" for t in range(3)]
    follows(np.bincount(steps[:, 0], minlength=3), P3, names, given=how, value=steps)
    names = [f"second tokens were {t} on from the first" for t in range(3)]
    follows(np.bincount(steps[:, 1], minlength=3), P3, names, given=how, value=steps)


@rule("R17")
@given(max_examples=2, laws=st.sampled_from(LONG_LAWS), seed=SEEDS)
def test_a_long_text_has_the_targets_distribution(solution, laws, seed):
    rng, prompt, (p, q) = np.random.default_rng(seed), np.array([2, 0, 1]), laws
    target, draft = model(turning(p)), model(turning(q, 2.0))

    tokens = solution.generate(rng, target, draft, prompt, LONG, gamma=4)

    how = f"seed {seed}, a text of {LONG:,} tokens, gamma=4, V={len(p):,}, "
    how += f"p={folded(p).round(2).tolist()}, q={folded(q).round(2).tolist()} for tokens 0, 1, more"
    check.array(tokens, shape=(LONG,), dtype=np.int64, what="tokens", given=how)
    steps = np.minimum(moves(prompt, tokens, len(p)), 2)
    ways = ("0", "1", "2 or more")
    names = [f"tokens were {way} on from the one before" for way in ways]
    follows(np.bincount(steps, minlength=3), folded(p), names, given=how, value=tokens)
    pairs = np.bincount(steps[::2] * 3 + steps[1::2], minlength=9)
    names = [f"pairs went on by {a}, then {b}" for a in ways for b in ways]
    law = np.outer(folded(p), folded(p)).ravel()
    follows(pairs, law, names, given=how, value=tokens)


@rule("R18")
@given(
    gamma=GAMMAS,
    T=st.sampled_from([1, 4]),
    new=st.sampled_from([9, 1, 2, 0, 14]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_a_target_that_is_sure_writes_its_greedy_text(solution, gamma, T, new, dtype, seed):
    rng = np.random.default_rng(seed)
    best = rng.integers(0, 5, (5, 7))
    prompt = rng.integers(0, 5, T)
    sure = (8000.0 * np.eye(5)[best]).astype(dtype)  # [before, position % 7, token]
    unsure = (rng.standard_normal((5, 7, 5)) + 2.0 * np.eye(5)[best]).astype(dtype)
    unsure[:, :, 4] = -np.inf
    text = [*map(int, prompt)]
    for _ in range(new):
        text.append(int(best[text[-1], (len(text) - 1) % 7]))

    target, draft = (
        model(lambda x, at, t=t: t[x, at % 7] + 1000 * (at[:, None] % 2)) for t in (sure, unsure)
    )
    saw = solution.generate(np.random.default_rng(seed), target, draft, prompt, new, gamma=gamma)

    how = f"seed {seed}, prompt of {T}, {new} new tokens, gamma={gamma}, logits 0, 8,000 {dtype}, "
    how += "1,000 more at odd positions"
    check.equal(saw, np.array(text[T:], np.int64), what="tokens", given=how)


@rule("R18")
@given(max_examples=4, offset=st.sampled_from([3.0, -9000.0]), dtype=DTYPES, seed=SEEDS)
def test_tokens_of_logit_minus_infinity_never_come(solution, offset, dtype, seed):
    law = np.array([0.5, 0.0, 0.5, 0.0])
    target = model(turning(law, offset, dtype))
    draft = model(turning(np.array([0.1, 0.5, 0.0, 0.4]), 0.0, dtype))
    prompt = np.array([0])

    tokens = solution.generate(np.random.default_rng(seed), target, draft, prompt, 80, gamma=2)

    how = f"seed {seed}, 80 tokens, gamma=2, {dtype}, two of four logits of the target -inf and "
    how += f"two {offset + math.log(0.5):.1f}, one of the draft model -inf"
    check.array(tokens, shape=(80,), dtype=np.int64, what="tokens", given=how)
    wrong = int((moves(prompt, tokens, 4) % 2).sum())
    text = f"{wrong} tokens had a logit of -inf"
    check.that(wrong == 0, saw=text, given=how, value=tokens)


@rule("R18")
def test_minus_infinity_is_a_probability_of_nothing(solution):
    logits = np.log([4.0, 2.0, 2.0, 1.0])
    logits[3] = -np.inf
    target, draft = (model(lambda x, at: np.tile(logits, (len(x), 1))) for _ in range(2))

    tokens = solution.generate(almost_one(), target, draft, np.array([0]), 1, gamma=0)

    how = (
        f"one token, gamma=0, logits {logits.round(2).tolist()}, a first random number of 1-2**-53"
    )
    check.array(tokens, shape=(1,), dtype=np.int64, what="tokens", given=how)
    check.that(tokens[0] != 3, saw="token 3 came, of logit -inf", given=how, value=tokens)


@rule("R4")
@given(gamma=GAMMAS, new=st.sampled_from([21, 1, 4, 10]), seed=SEEDS)
def test_a_draft_model_like_the_target_is_always_accepted(solution, gamma, new, seed):
    table = np.random.default_rng(seed).standard_normal((6, 6))
    target, ones = noted(lambda x, at: table[x])
    draft = model(lambda x, at: table[x])

    saw = solution.generate(
        np.random.default_rng(seed), target, draft, np.array([3, 2]), new, gamma=gamma
    )

    how = f"seed {seed}, {new} new tokens, gamma={gamma}, target and draft model the same"
    check.array(saw, shape=(new,), dtype=np.int64, what="tokens", given=how)
    text = f"the target was called {len(ones)} times"
    most = math.ceil(new / (gamma + 1)) + 1
    check.that(len(ones) <= most, saw=f"{text}, which is too often", given=how, value=ones)


@rule("R4")
@given(V=SIZES, miss=MISSES, new=st.sampled_from([17, 2, 6, 1, 30]), gamma=GAMMAS, seed=SEEDS)
def test_a_call_brings_all_that_is_accepted_of_a_sampled_draft(solution, V, miss, new, gamma, seed):
    target, draft, prompt, words = draw(seed, V, miss, 3)
    call, calls = noted(sure(target))
    rng = np.random.default_rng(0)

    solution.generate(rng, call, model(sure(draft)), prompt, new, gamma=gamma)

    how = f"{words}, logits 0 and -inf, {new} new tokens, gamma={gamma}"
    text = f"the target was called {len(calls)} times"
    most = steps(target, lambda text, n: alone(draft, text, n), prompt, new, gamma) + 1
    check.that(len(calls) <= most, saw=f"{text}, which is too often", given=how, value=calls)


@rule("R6")
@given(new=st.sampled_from([7, 1, 2, 4, 10, 0]), miss=MISSES, gamma=GAMMAS, seed=SEEDS)
def test_sampling_asks_no_model_beyond_the_end(solution, new, miss, gamma, seed):
    target, draft, prompt, words = draw(seed, 5, miss, 3)
    (one, ones), (two, twos) = noted(sure(target)), noted(sure(draft))

    solution.generate(np.random.default_rng(0), one, two, prompt, new, gamma=gamma)

    how = f"{words}, logits 0 and -inf, {new} new tokens, gamma={gamma}"
    for name, calls in (("target", ones), ("draft", twos)):
        text = f"a call of the {name} model brought its text to {far(calls)} tokens"
        check.that(far(calls) <= max(3 + new - 1, 3), saw=text, given=how, value=calls)


@rule("R6")
@given(gamma=GAMMAS, new=st.sampled_from([12, 5]), seed=SEEDS)
def test_a_sampled_draft_has_at_most_gamma_tokens(solution, gamma, new, seed):
    target, _, prompt, words = draw(seed, 5, 0.0, 3)
    call, calls = noted(sure(target))
    rng = np.random.default_rng(0)

    solution.generate(rng, call, model(sure(-target)), prompt, new, gamma=gamma)

    how = f"{words}, logits 0 and -inf, draft model likes what the target likes least, "
    how += f"{new} new tokens, gamma={gamma}"
    for index, (keep, n, _) in enumerate(calls):
        ahead = keep + n - 3 - index
        text = f"call {index} of the target had {ahead} tokens after the first {3 + index}"
        check.that(ahead <= gamma, saw=text, given=how, value=calls)


@rule("R5")
@given(gamma=GAMMAS, at=st.integers(0, 6), seed=SEEDS)
def test_sampling_stops_with_the_first_end_token(solution, gamma, at, seed):
    after = np.random.default_rng(seed).permutation(7)
    logits = np.where(np.eye(7)[after] > 0, 0.0, -np.inf)
    text = [3]
    for _ in range(12):
        text.append(int(after[text[-1]]))
    whole, eos_id = np.array(text[1:], np.int64), int(text[1 + at])
    target, draft = (model(lambda x, _: logits[x]) for _ in range(2))

    saw = solution.generate(
        np.random.default_rng(0), target, draft, np.array([3]), 12, gamma=gamma, eos_id=eos_id
    )

    want = whole[: np.flatnonzero(whole == eos_id)[0] + 1]
    how = f"seed {seed}, one possible text after token 3, gamma={gamma}, eos_id={eos_id}"
    check.equal(saw, want, what="tokens", given=how)


@rule("R5")
@given(miss=MISSES, at=st.integers(0, 11), gamma=GAMMAS, seed=SEEDS)
def test_no_call_follows_a_sampled_end_token(solution, miss, at, gamma, seed):
    target, draft, prompt, words = draw(seed, 5, miss, 3)
    whole = alone(target, prompt, 24)
    log, *models = in_turn(target=sure(target), draft=sure(draft))
    rng, eos_id = np.random.default_rng(0), int(whole[at])

    saw = solution.generate(rng, *models, prompt, 24, gamma=gamma, eos_id=eos_id)

    how = f"{words}, logits 0 and -inf, 24 new tokens, gamma={gamma}, eos_id={eos_id}"
    want = whole[: np.flatnonzero(whole == eos_id)[0] + 1]
    check.equal(saw, want, what="tokens", given=how)
    ends_with(log, 3 + len(want) - 1, given=how)


@rule("R16")
@given(max_examples=3, gamma=st.sampled_from([0, 1, 3]), seed=SEEDS)
def test_no_random_number_is_used_twice(solution, gamma, seed):
    target = model(turning(np.full(1000, 1e-3)))
    draft = model(turning(np.eye(1, 1000)[0]))  # what it drafts is rejected nearly always
    prompt = np.array([0])

    tokens = solution.generate(np.random.default_rng(seed), target, draft, prompt, 60, gamma=gamma)

    how = f"seed {seed}, 60 tokens, each any of 1,000, gamma={gamma}, drafts of no worth"
    check.array(tokens, shape=(60,), dtype=np.int64, what="tokens", given=how)
    alike = 60 - len(np.unique(moves(prompt, tokens, 1000)))  # 20 have a probability below 1e-13
    text = f"{alike} of 60 tokens were as far on from the one before as another was"
    check.that(alike < 20, saw=text, given=how, value=tokens)


@rule("R16")
def test_generation_takes_its_randomness_from_the_generator(solution):
    table = np.random.default_rng(2).standard_normal((2, 9, 9))
    prompt = np.array([4, 4])

    def run(rng):
        target, draft = (model(lambda x, at, t=t: t[x]) for t in table)
        return solution.generate(rng, target, draft, prompt, 40)

    rng = np.random.default_rng(5)
    saw, later = run(rng), run(rng)
    again = run(np.random.default_rng(5))

    how = "generator of seed 5, 40 new tokens"
    check.equal(again, saw, what="tokens with a generator of equal state", given=how)
    alike = bool((later == saw).all())
    text = "the next call with the same generator gave the same tokens"
    check.that(not alike, saw=text, given=how, value=later)


@rule("R7")
def test_generation_changes_no_argument(solution):
    table = np.random.default_rng(2).standard_normal((2, 9, 9))
    target, draft = (model(lambda x, at, t=t: t[x]) for t in table)
    prompt = np.array([4, 4])

    with check.unchanged(given="generate", prompt=prompt):
        saw = solution.generate(np.random.default_rng(5), target, draft, prompt, 20)
    check.fresh(saw, what="tokens of generate", prompt=prompt)


@rule("R8")
def test_generation_names_a_bad_argument(solution):
    table = np.zeros((4, 4))
    target, draft = (model(lambda x, at: table[x]) for _ in range(2))
    rng = np.random.default_rng(0)

    def generate(prompt, gamma, new):
        return solution.generate(rng, target, draft, prompt, new, gamma=gamma)

    for new in (3, 0):
        what = {"what": "generate", "given": f"an empty prompt, {new} new tokens"}
        check.raises(ValueError, generate, np.zeros(0, int), 2, new, names="prompt", **what)
        what["given"] = f"gamma=-1, {new} new tokens"
        check.raises(ValueError, generate, np.array([1]), -1, new, names="gamma", **what)


@rule("R6")
def test_a_sampled_draft_has_four_tokens_unless_gamma_is_given(solution):
    logs = ([], [])

    for calls, kwargs in zip(logs, ({}, {"gamma": 4}), strict=True):
        target, draft = model(turning(P3), calls), model(turning(Q3))
        solution.generate(np.random.default_rng(0), target, draft, np.array([1]), 30, **kwargs)

    text = "without gamma, the target was called as it is not with gamma=4"
    how = f"30 new tokens, p={P3.tolist()}, q={Q3.tolist()}"
    check.that(logs[0] == logs[1], saw=text, given=how, value=logs[0])


@rule("R9")
@given(max_examples=15, gamma=GAMMAS, T=st.sampled_from([30, 1]), seed=SEEDS)
def test_only_what_was_rejected_is_sampled_again(solution, gamma, T, seed):
    rng = np.random.default_rng(seed)
    tables, (ones, twos) = rng.standard_normal((2, 6, 6)), ([], [])
    target, draft = (
        model(lambda x, at, t=t: t[x], calls) for t, calls in zip(tables, (ones, twos), strict=True)
    )

    solution.generate(rng, target, draft, rng.integers(0, 6, T), 20, gamma=gamma)

    how = f"seed {seed}, prompt of {T}, 20 new tokens, gamma={gamma}"
    for name, calls in (("target", ones), ("draft", twos)):
        again = sum(again for _, _, again in calls)
        text = f"the {name} model computed {again} positions again that were right"
        check.that(again == 0, saw=text, given=how, value=calls)


def same_model_twice(impl, table, prompt):
    ones, twos = [], []
    target, draft = (model(lambda x, at: table[x], calls) for calls in (ones, twos))
    rng = np.random.default_rng(len(prompt))
    saw = impl.generate(rng, target, draft, prompt, 60, gamma=4)
    check.that(len(saw) == 60, saw=f"{len(saw)} tokens came back", given="60 new tokens, gamma=4")
    return ones, twos


def inputs(rng):
    return rng.standard_normal((8, 8)), rng.integers(0, 8, 96)


def verify(count, table, prompt):
    check.that(count > 0, saw=f"the count is {count}", given="60 new tokens, gamma=4")


@rule("R4")
def test_sampling_saves_target_calls(count):
    count(lambda impl, *args: len(same_model_twice(impl, *args)[0]), inputs=inputs, verify=verify)


@rule("R9")
def test_sampling_computes_no_position_twice(count):
    def positions(impl, *args):
        return sum(n for calls in same_model_twice(impl, *args) for _, n, _ in calls)

    count(positions, inputs=inputs, verify=verify)
