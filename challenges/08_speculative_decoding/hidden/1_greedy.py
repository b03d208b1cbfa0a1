"""Stage 1: drafted tokens are verified together, and the text is the target's greedy text."""

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import MISSES, SEEDS, SIZES, alone, draw, ends_with, far, in_turn, model, noted, steps

WORDS = st.sampled_from([7, 3, 300])
GAMMAS = st.sampled_from([3, 1, 2, 4, 7, 0])


def drafts_of(table):
    """What a draft model of that table proposes after a text."""
    return lambda text, n: alone(table, text, n)


@rule("R1")
@given(V=WORDS, gamma=GAMMAS, right=st.integers(0, 7), seed=SEEDS)
def test_a_draft_is_kept_up_to_its_first_mistake(solution, V, gamma, right, seed):
    rng = np.random.default_rng(seed)
    gamma, right = max(gamma, 1), min(right, max(gamma, 1) - 1)
    logits = rng.standard_normal((gamma + 1, V))
    best = logits.argmax(axis=-1)
    draft = best[:-1].copy()
    draft[right] = (draft[right] + 1) % V  # what follows the mistake is right again

    saw = solution.verify_greedy(logits, draft)

    how = f"seed {seed}, V={V}, draft of {gamma} whose token {right} alone is not the target's"
    check.equal(saw, best[: right + 1].astype(np.int64), what="tokens", given=how)


@rule("R1")
@given(V=WORDS, gamma=GAMMAS, dtype=st.sampled_from(["f8", "f4"]), seed=SEEDS)
def test_a_draft_without_a_mistake_brings_a_bonus_token(solution, V, gamma, dtype, seed):
    logits = np.random.default_rng(seed).standard_normal((gamma + 1, V)).astype(dtype)
    best = logits.argmax(axis=-1)

    for kind in (np.int64, np.int32):
        saw = solution.verify_greedy(logits, best[:-1].astype(kind))
        how = f"seed {seed}, V={V}, draft of {gamma} tokens {np.dtype(kind)}, all the target's"
        check.equal(saw, best.astype(np.int64), what="tokens", given=how)


@rule("R2")
def test_of_equal_logits_the_target_takes_the_lowest_id(solution):
    logits = np.array([[0.0, 2.0, 2.0], [1.0, 0.0, 1.0], [3.0, 3.0, 3.0]])

    for draft, want in (([1, 0], [1, 0, 0]), ([2, 0], [1]), ([1, 2], [1, 0])):
        saw = solution.verify_greedy(logits, np.array(draft))
        how = f"logits {logits.tolist()}, draft {draft}"
        check.equal(saw, np.array(want, np.int64), what="tokens", given=how)


@rule("R2")
@given(max_examples=15, V=WORDS, seed=SEEDS)
def test_logits_that_hardly_differ_are_not_equal(solution, V, seed):
    rng = np.random.default_rng(seed)
    best = rng.integers(0, V, 3)
    logits = 20 + np.spacing(20.0) * 2 * np.eye(V)[best]

    saw = solution.verify_greedy(logits, best[:2])

    how = f"seed {seed}, V={V}, logits of 20, one in each row larger by 7e-15, drafted where it is"
    check.equal(saw, best.astype(np.int64), what="tokens", given=how)


@rule("R2")
@given(max_examples=15, gamma=GAMMAS, seed=SEEDS)
def test_ties_are_broken_alike_in_generation(solution, gamma, seed):
    target, draft, prompt, words = draw(seed, 4, 0.3, 3)
    target, draft = target.round(), draft.round()

    saw = solution.generate_greedy(model(target), model(draft), prompt, 9, gamma=gamma)

    how = f"{words}, logits rounded to integers, 9 new tokens, gamma={gamma}"
    check.equal(saw, alone(target, prompt, 9), what="tokens", given=how)


@rule("R3")
@given(
    V=SIZES,
    miss=MISSES,
    T=st.sampled_from([4, 1, 2, 9]),
    new=st.sampled_from([12, 1, 2, 5, 0, 23]),
    gamma=GAMMAS,
    dtype=st.sampled_from(["int64", "int32"]),
    seed=SEEDS,
)
def test_the_text_is_the_targets_own(solution, V, miss, T, new, gamma, dtype, seed):
    target, draft, prompt, words = draw(seed, V, miss, T)

    saw = solution.generate_greedy(
        model(target), model(draft), prompt.astype(dtype), new, gamma=gamma
    )

    how = f"{words} as {dtype}, {new} new tokens, gamma={gamma}"
    check.equal(saw, alone(target, prompt, new), what="tokens", given=how)


def counting(V, mistaken):
    """Logits of the next token, modulo V, for the one after it at every third position."""

    def logits_of(tokens, positions):
        logits = np.zeros((len(tokens), V), np.float32)
        ahead = 1 + (mistaken & (positions % 3 == 2))
        logits[np.arange(len(tokens)), (tokens + ahead) % V] = 1
        return logits

    return logits_of


@rule("R3")
def test_no_token_is_too_large(solution):
    for V, T in ((300, 2), (70_000, 3)):
        target, draft = (model(counting(V, mistaken=k)) for k in (False, True))
        prompt = np.arange(V - 50 - T, V - 50)

        saw = solution.generate_greedy(target, draft, prompt, 60)

        how = f"V={V:,}, after each token the next, from {V - 50:,} on over 0 to 9, 60 new tokens"
        check.equal(saw, np.arange(V - 50, V + 10) % V, what="tokens", given=how)


@rule("R4")
@given(V=SIZES, miss=MISSES, new=st.sampled_from([17, 2, 6, 1, 30]), gamma=GAMMAS, seed=SEEDS)
def test_a_call_of_the_target_brings_all_it_can(solution, V, miss, new, gamma, seed):
    target, draft, prompt, words = draw(seed, V, miss, 3)
    call, calls = noted(target)

    solution.generate_greedy(call, model(draft), prompt, new, gamma=gamma)

    how = f"{words}, {new} new tokens, gamma={gamma}"
    text = f"the target was called {len(calls)} times"
    most = steps(target, drafts_of(draft), prompt, new, gamma) + 1
    check.that(len(calls) <= most, saw=f"{text}, which is too often", given=how, value=calls)
    check.that(len(calls) > 0, saw=f"{text} for {new} tokens", given=how, value=calls)


@rule("R4")
def test_large_ids_are_drafted_as_they_are(solution):
    call, calls = noted(counting(70_000, mistaken=False))
    draft, prompt = model(counting(70_000, mistaken=False)), np.arange(69_960, 69_963)

    solution.generate_greedy(call, draft, prompt, 60)

    how = "V=70,000, after each token the next, from 69,960 on over 0, 60 new tokens"
    text = f"the target was called {len(calls)} times, which is too often"
    check.that(len(calls) <= 13, saw=text, given=how, value=calls)


@rule("R5")
@given(miss=MISSES, at=st.integers(0, 11), gamma=GAMMAS, T=st.integers(1, 4), seed=SEEDS)
def test_nothing_follows_the_first_end_token(solution, miss, at, gamma, T, seed):
    target, draft, prompt, words = draw(seed, 5, miss, T)
    whole = alone(target, prompt, 12)

    for eos_id in (int(whole[at]), int(prompt[-1]), None, 5):
        saw = solution.generate_greedy(
            model(target), model(draft), prompt, 12, gamma=gamma, eos_id=eos_id
        )
        ends = np.flatnonzero(whole == eos_id) + 1
        how = f"{words}, 12 new tokens, gamma={gamma}, eos_id={eos_id}"
        check.equal(saw, whole[: ends[0]] if len(ends) else whole, what="tokens", given=how)


@rule("R5")
@given(miss=MISSES, at=st.integers(0, 11), gamma=GAMMAS, seed=SEEDS)
def test_no_call_follows_the_first_end_token(solution, miss, at, gamma, seed):
    target, draft, prompt, words = draw(seed, 5, miss, 3)
    eos_id = int(alone(target, prompt, 12)[at])
    log, *models = in_turn(target=target, draft=draft)

    saw = solution.generate_greedy(*models, prompt, 24, gamma=gamma, eos_id=eos_id)

    how = f"{words}, 24 new tokens, gamma={gamma}, eos_id={eos_id}"
    ends_with(log, 3 + len(saw) - 1, given=how)


@rule("R6")
@given(V=SIZES, miss=MISSES, new=st.sampled_from([7, 1, 2, 4, 10, 0]), gamma=GAMMAS, seed=SEEDS)
def test_no_model_is_asked_beyond_the_end(solution, V, miss, new, gamma, seed):
    target, draft, prompt, words = draw(seed, V, miss, 3)
    how = f"{words}, {new} new tokens, gamma={gamma}"
    (one, ones), (two, twos) = noted(target), noted(draft)

    solution.generate_greedy(one, two, prompt, new, gamma=gamma)

    for name, calls in (("target", ones), ("draft", twos)):
        text = f"a call of the {name} model brought its text to {far(calls)} tokens"
        check.that(far(calls) <= max(3 + new - 1, 3), saw=text, given=how, value=calls)


@rule("R6")
@given(gamma=GAMMAS, new=st.sampled_from([12, 5]), seed=SEEDS)
def test_a_draft_has_at_most_gamma_tokens(solution, gamma, new, seed):
    target, draft, prompt, words = draw(seed, 5, 0.0, 3)
    call, calls = noted(target)

    # A draft model that likes least what the target likes most is never right.
    solution.generate_greedy(call, model(-draft), prompt, new, gamma=gamma)

    how = f"{words}, draft model with the negative logits, {new} new tokens, gamma={gamma}"
    for index, (keep, n, _) in enumerate(calls):
        ahead = keep + n - 3 - index
        text = f"call {index} of the target had {ahead} tokens after the first {3 + index}"
        check.that(ahead <= gamma, saw=text, given=how, value=calls)


@rule("R6")
def test_a_draft_has_four_tokens_unless_gamma_is_given(solution):
    target, draft, prompt, words = draw(3, 5, 0.3, 3)
    logs = []

    for kwargs in ({}, {"gamma": 4}):
        call, calls = noted(target)
        solution.generate_greedy(call, model(draft), prompt, 30, **kwargs)
        logs.append(calls)

    text = "without gamma, the target was called as it is not with gamma=4"
    how = f"{words}, 30 new tokens"
    check.that(logs[0] == logs[1], saw=text, given=how, value=logs[0])


@rule("R7")
def test_greedy_calls_change_no_argument(solution):
    target, draft, prompt, words = draw(5, 5, 0.3, 4)
    logits = target[0, 1, :3]
    tokens = logits.argmax(axis=-1)[:2]
    tokens[1] = (tokens[1] + 1) % 5

    with check.unchanged(given="verify_greedy", logits=logits, draft=tokens):
        saw = solution.verify_greedy(logits, tokens)
    check.fresh(saw, what="tokens of verify_greedy", draft=tokens)
    with check.unchanged(given=f"generate_greedy, {words}", prompt=prompt):
        saw = solution.generate_greedy(model(target), model(draft), prompt, 8)
    check.fresh(saw, what="tokens of generate_greedy", prompt=prompt)


@rule("R8")
def test_greedy_calls_name_a_bad_argument(solution):
    target, draft, prompt, words = draw(6, 5, 0.3, 4)
    logits = np.zeros((3, 5))

    def generate(prompt, gamma, new):
        return solution.generate_greedy(model(target), model(draft), prompt, new, gamma=gamma)

    for n in (1, 3):
        what = {"what": "verify_greedy", "given": f"logits (3, 5), draft of {n}"}
        check.raises(
            ValueError, solution.verify_greedy, logits, np.zeros(n, int), names="logits", **what
        )
    for new in (3, 0):
        what = {"what": "generate_greedy", "given": f"an empty prompt, {new} new tokens"}
        check.raises(ValueError, generate, prompt[:0], 2, new, names="prompt", **what)
        what["given"] = f"{words}, gamma=-1, {new} new tokens"
        check.raises(ValueError, generate, prompt, -1, new, names="gamma", **what)


def inputs(rng):
    target, draft, prompt, words = draw(int(rng.integers(1000)), 8, 0.0, 96)
    return target, draft, prompt, words


def verify(count, target, draft, prompt, words):
    check.that(count > 0, saw=f"the count is {count}", given=words)


def run(impl, target, draft, prompt, words):
    """The calls of both models, once the tokens are known to be right."""
    (one, ones), (two, twos) = noted(target), noted(draft)
    saw = impl.generate_greedy(one, two, prompt, 60, gamma=4)
    how = f"{words}, 60 new tokens, gamma=4"
    check.equal(saw, alone(target, prompt, 60), what="tokens", given=how)
    return ones, twos


@rule("R4")
def test_draft_and_verify_saves_target_calls(count):
    count(lambda impl, *args: len(run(impl, *args)[0]), inputs=inputs, verify=verify)


@rule("R9")
def test_no_position_is_computed_twice(count):
    def positions(impl, *args):
        return sum(n for calls in run(impl, *args) for _, n, _ in calls)

    count(positions, inputs=inputs, verify=verify)


@rule("R9")
@given(max_examples=15, miss=MISSES, gamma=GAMMAS, seed=SEEDS)
def test_only_what_was_rejected_is_computed_again(solution, miss, gamma, seed):
    target, draft, prompt, words = draw(seed, 5, miss, 40)
    (one, ones), (two, twos) = noted(target), noted(draft)

    solution.generate_greedy(one, two, prompt, 20, gamma=gamma)

    how = f"{words}, 20 new tokens, gamma={gamma}"
    for name, calls in (("target", ones), ("draft", twos)):
        again = sum(again for _, _, again in calls)
        text = f"the {name} model computed {again} positions again that were right"
        check.that(again == 0, saw=text, given=how, value=calls)
