"""Stage 4: beam search over a model that keeps a state for the rows of its last call."""

import itertools
import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

SEEDS = st.integers(0, 999)
# A failure is shown with the first of these that fails: with one beam or one prompt, much looks
# alike.
VOCABULARY = st.sampled_from([5, 4, 7, 3, 12])
BEAMS = st.sampled_from([3, 2, 4, 1, 6])
TOKENS = st.sampled_from([5, 4, 3, 7, 2, 1])
N = 200  # additions behind a score: some ten of a state, V of a softmax, times the tokens


class Model:
    """The model of the spec, which notes what it was asked.

    ``asked`` holds one list of histories for each call: the tokens of each row, and its prompt
    ahead of them. ``bias`` is added to the logits.
    """

    def __init__(self, seed, V, B, *, bias=None, dtype=np.float64):
        rng = np.random.default_rng(seed)
        self.A, self.E, self.O = (rng.normal(0, 1, s) for s in ((8, 8), (V, 8), (8, V)))
        self.state = rng.normal(0, 1, (B, 8))
        self.bias = np.zeros(V) if bias is None else np.array(bias)
        self.dtype = dtype
        self.histories = [(prompt,) for prompt in range(B)]
        self.asked, self.returned = [], []
        self.words = f"model {seed}, V={V}, {B} prompts"
        self.logits = self._logits()

    def _logits(self):
        return (self.state @ self.O + self.bias).astype(self.dtype)  # (N, V)

    def step(self, tokens, parents):
        tokens, parents = np.array(tokens), np.array(parents)
        call = f"{self.words}: call {len(self.asked)} of step"
        for name, array in (("tokens", tokens), ("parents", parents)):
            whole = array.ndim == 1 and array.dtype.kind in "iu" and len(array) > 0
            told = f"{name} came as {array.dtype} {array.shape}"
            check.that(whole and len(array) == len(tokens), saw=told, given=call)
        rows, V = len(self.state), len(self.E)
        told = f"parents are from {parents.min()} to {parents.max()}, of {rows} rows"
        check.that(parents.min() >= 0 and parents.max() < rows, saw=told, given=call, value=parents)
        told = f"tokens are from {tokens.min()} to {tokens.max()}"
        check.that(tokens.min() >= 0 and tokens.max() < V, saw=told, given=call, value=tokens)
        self.state = np.tanh(self.state[parents] @ self.A + self.E[tokens])
        self.histories = [
            (*self.histories[parent], token)
            for parent, token in zip(parents.tolist(), tokens.tolist(), strict=True)
        ]
        self.asked.append(self.histories)
        logits = self._logits()
        self.returned.append((logits, logits.copy()))
        return logits

    def log_probs(self, prompt, tokens):
        """The log-probability of each of the tokens after the prompt; for a model of its own."""
        found, logits, parent = [], self.logits[prompt : prompt + 1], prompt
        for token in tokens:
            row = logits[0].astype(np.float64)
            found.append(row[token] - row.max() - np.log(np.exp(row - row.max()).sum()))
            logits, parent = self.step(np.array([token]), np.array([parent])), 0
        return found


def hypotheses(saw, B, num_beams, words):
    """What was returned as (tokens as a list, score), after a look at its form."""
    check.that(len(saw) == B, saw=f"{len(saw)} lists came back", given=words)
    found = []
    for prompt, beams in enumerate(saw):
        told = f"prompt {prompt} has {len(beams)} hypotheses"
        check.that(len(beams) <= num_beams, saw=told, given=words)
        rows = []
        for rank, (tokens, score) in enumerate(beams):
            what = f"hypothesis {rank} of prompt {prompt}"
            check.array(tokens, shape=(len(tokens),), dtype=np.int64, what=what, given=words)
            number = isinstance(score, (float, np.floating)) and math.isfinite(score)
            check.that(number, saw=f"the score of {what} is {score}", given=words)
            rows.append((tokens.tolist(), float(score)))
        found.append(rows)
    return found


def compare(saw, want, num_beams, words, *, steps=("", "")):
    """The same tokens in the same order, with the same scores, and after as many steps."""
    saw = hypotheses(saw, len(want), num_beams, words)
    right = hypotheses(want, len(want), num_beams, words)
    what = "tokens" if steps == ("", "") else "calls and tokens"
    for prompt, pair in enumerate(zip(saw, right, strict=True)):
        tokens, others = (
            f"{n} " * bool(n) + " | ".join(" ".join(map(str, t)) for t, _ in beams)
            for n, beams in zip(steps, pair, strict=True)
        )
        check.equal(tokens, others, what=f"{what} of prompt {prompt}", given=words)
    scores, others = (np.array([s for b in part for _, s in b]) for part in (saw, right))
    check.close(scores, others, what="scores", given=words, n=N)


@rule("R24")
@given(V=VOCABULARY, num_beams=BEAMS, new=TOKENS, seed=SEEDS)
def test_without_an_end_the_best_beams_run_to_the_last_token(
    solution, reference, V, num_beams, new, seed
):
    ours, theirs = Model(seed, V, 1), Model(seed, V, 1)
    settings = {"num_beams": num_beams, "max_new_tokens": new}
    words = f"{ours.words}, {settings}"
    want = reference.beam_search(theirs.step, theirs.logits, **settings)

    saw = solution.beam_search(ours.step, ours.logits, **settings)

    compare(saw, want, num_beams, words)


@rule("R24")
@given(
    V=VOCABULARY,
    num_beams=BEAMS,
    new=st.sampled_from([6, 5, 8, 3, 1]),
    eos_id=st.integers(0, 2),
    seed=SEEDS,
)
def test_finished_beams_leave_and_others_take_their_place(
    solution, reference, V, num_beams, new, eos_id, seed
):
    ours, theirs = Model(seed, V, 1), Model(seed, V, 1)
    settings = {"num_beams": num_beams, "max_new_tokens": new, "eos_id": eos_id}
    words = f"{ours.words}, {settings}"
    want = reference.beam_search(theirs.step, theirs.logits, **settings)

    saw = solution.beam_search(ours.step, ours.logits, **settings)

    compare(saw, want, num_beams, words)


@rule("R24")
@given(max_examples=15, V=st.sampled_from([3, 2, 4]), new=st.integers(1, 3), seed=SEEDS)
def test_beams_enough_for_all_find_every_sequence(solution, V, new, seed):
    ours, num_beams = Model(seed, V, 1), V**new
    words = f"{ours.words}, num_beams {num_beams}, max_new_tokens {new}, eos_id 0"
    free = itertools.product(range(1, V), repeat=new)
    ended = [(*p, 0) for n in range(new) for p in itertools.product(range(1, V), repeat=n)]
    want = sorted(map(list, [*free, *ended]))

    saw = solution.beam_search(
        ours.step, ours.logits, num_beams=num_beams, max_new_tokens=new, eos_id=0
    )

    (found,) = hypotheses(saw, 1, num_beams, words)
    check.equal(sorted(tokens for tokens, _ in found), want, what="sorted tokens", given=words)
    scores = np.array([score for _, score in found])
    falls = bool((np.diff(scores) <= 0).all())
    check.that(falls, saw="scores are not in falling order", given=words, value=scores)


@rule("R24")
@given(max_examples=20, V=VOCABULARY, new=TOKENS, eos_id=st.sampled_from([0, 1, None]), seed=SEEDS)
def test_one_beam_is_greedy(solution, V, new, eos_id, seed):
    ours, alone = Model(seed, V, 1), Model(seed, V, 1)
    words = f"{ours.words}, num_beams 1, max_new_tokens {new}, eos_id {eos_id}"
    logits, want = alone.logits, []
    while len(want) < new and (not want or want[-1] != eos_id):
        want.append(int(logits[0].argmax()))
        logits = alone.step(np.array(want[-1:]), np.array([0]))

    saw = solution.beam_search(
        ours.step, ours.logits, num_beams=1, max_new_tokens=new, eos_id=eos_id
    )

    ((found, _),) = hypotheses(saw, 1, 1, words)[0]
    check.equal(found, want, what="tokens", given=words)


@rule("R24")
@given(max_examples=15, V=st.sampled_from([3, 2, 4, 7]), num_beams=BEAMS, new=TOKENS)
def test_of_equal_sums_the_better_beam_then_the_lower_id_comes_first(
    solution, reference, V, num_beams, new
):
    def step(tokens, parents):
        return np.zeros((len(tokens), V))

    # The mean of two equal numbers is that number, that of three is rounded.
    length_penalty = 1.0 if new <= 2 else 0.0
    for eos_id in (None, V - 1, 0):
        settings = {"num_beams": num_beams, "max_new_tokens": new, "eos_id": eos_id}
        settings["length_penalty"] = length_penalty
        words = f"all logits 0, V={V}, {settings}"
        want = reference.beam_search(step, np.zeros((1, V)), **settings)

        saw = solution.beam_search(step, np.zeros((1, V)), **settings)

        compare(saw, want, num_beams, words)


@rule("R24")
@given(max_examples=20, V=st.sampled_from([5, 4, 3]), num_beams=BEAMS, new=TOKENS, seed=SEEDS)
def test_what_is_ruled_out_is_in_no_hypothesis(solution, reference, V, num_beams, new, seed):
    bias = np.zeros(V)
    bias[[0, -1]] = -np.inf
    ours, theirs = Model(seed, V, 1, bias=bias), Model(seed, V, 1, bias=bias)
    settings = {"num_beams": num_beams, "max_new_tokens": new, "eos_id": 1}
    words = f"{ours.words}, ids 0 and {V - 1} at -inf in every step, {settings}"
    want = reference.beam_search(theirs.step, theirs.logits, **settings)

    saw = solution.beam_search(ours.step, ours.logits, **settings)

    compare(saw, want, num_beams, words)


@rule("R24")
@given(max_examples=10, V=st.sampled_from([5, 4, 7]), num_beams=BEAMS, new=TOKENS, seed=SEEDS)
def test_an_eos_id_outside_the_vocabulary_ends_nothing(
    solution, reference, V, num_beams, new, seed
):
    theirs, settings = Model(seed, V, 1), {"num_beams": num_beams, "max_new_tokens": new}
    want = reference.beam_search(theirs.step, theirs.logits, **settings)
    for eos_id in (V, -1, -V):
        ours = Model(seed, V, 1)
        saw = solution.beam_search(ours.step, ours.logits, eos_id=eos_id, **settings)
        compare(saw, want, num_beams, f"{ours.words}, {settings}, eos_id {eos_id}")


PENALTIES = st.sampled_from([1.0, 0.0, 2.0, 0.5, -1.0])


@rule("R25")
@given(V=VOCABULARY, num_beams=BEAMS, new=TOKENS, length_penalty=PENALTIES, seed=SEEDS)
def test_a_score_is_the_mean_of_its_log_probabilities(
    solution, V, num_beams, new, length_penalty, seed
):
    ours = Model(seed, V, 1)
    settings = {"num_beams": num_beams, "max_new_tokens": new, "length_penalty": length_penalty}
    words = f"{ours.words}, {settings}, eos_id 0"

    saw = solution.beam_search(ours.step, ours.logits, eos_id=0, **settings)

    found = hypotheses(saw, 1, num_beams, words)[0]
    told = "no hypothesis came back"
    check.that(found, saw=told, given=words)
    for rank, (tokens, score) in enumerate(found):
        want = sum(Model(seed, V, 1).log_probs(0, tokens)) / len(tokens) ** length_penalty
        how = f"{words}, tokens {tokens}"
        check.close(score, want, what=f"score of hypothesis {rank}", given=how, n=N)


@rule("R25")
@given(V=VOCABULARY, num_beams=BEAMS, new=TOKENS, length_penalty=PENALTIES, seed=SEEDS)
def test_the_length_penalty_decides_which_are_best(
    solution, reference, V, num_beams, new, length_penalty, seed
):
    ours, theirs = Model(seed, V, 1), Model(seed, V, 1)
    settings = {"num_beams": num_beams, "max_new_tokens": new, "length_penalty": length_penalty}
    settings |= {"eos_id": 0, "early_stopping": "never"}
    words = f"{ours.words}, {settings}"
    want = reference.beam_search(theirs.step, theirs.logits, **settings)

    saw = solution.beam_search(ours.step, ours.logits, **settings)

    compare(saw, want, num_beams, words)


@rule("R25")
@given(max_examples=10, new=st.sampled_from([12, 6]), seed=SEEDS)
def test_float32_logits_are_summed_in_float64(solution, new, seed):
    table = np.random.default_rng(seed).normal(0, 3, (7, 6)).astype(np.float32)
    words = f"logits after token j default_rng({seed}).normal(0, 3, (7, 6))[j], at first those of "
    words += f"j = 6, as float32, num_beams 3, max_new_tokens {new}, length_penalty 0"

    saw = solution.beam_search(
        lambda tokens, parents: table[tokens],
        table[6:],
        num_beams=3,
        max_new_tokens=new,
        length_penalty=0.0,
    )

    wide = table.astype(np.float64)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    for rank, (tokens, score) in enumerate(hypotheses(saw, 1, 3, words)[0]):
        want = float(wide[[6, *tokens[:-1]], tokens].sum())
        check.close(score, want, what=f"score of hypothesis {rank}", given=words, n=N)


@rule("R26")
@given(
    max_examples=60,
    V=st.sampled_from([5, 4, 7]),
    num_beams=st.sampled_from([3, 2, 4, 1]),
    new=st.sampled_from([8, 5, 12]),
    length_penalty=PENALTIES,
    early_stopping=st.sampled_from([False, True]),
    bias=st.sampled_from([1.0, 0.0, 2.0]),
    seed=SEEDS,
)
def test_the_search_is_over_when_early_stopping_says_so(
    solution, reference, V, num_beams, new, length_penalty, early_stopping, bias, seed
):
    settings = {"num_beams": num_beams, "max_new_tokens": new, "length_penalty": length_penalty}
    settings |= {"eos_id": 0, "early_stopping": early_stopping}
    theirs, want = searched(reference, seed, V, bias, settings)

    ours, saw = searched(solution, seed, V, bias, settings)

    words = f"{ours.words}, logit 0 + {bias}, {settings}"
    steps = tuple(f"{len(model.asked)} calls of step:" for model in (ours, theirs))
    compare(saw, want, num_beams, words, steps=steps)


@rule("R26")
@given(
    max_examples=40,
    V=st.sampled_from([5, 4, 7]),
    num_beams=st.sampled_from([3, 2, 4]),
    new=st.sampled_from([10, 8, 12]),
    length_penalty=st.sampled_from([1.0, 0.5, 2.0, 0.0, -1.0]),
    seed=SEEDS,
)
def test_never_goes_on_as_long_as_a_running_beam_may_win(
    solution, reference, V, num_beams, new, length_penalty, seed
):
    settings = {"num_beams": num_beams, "max_new_tokens": new, "length_penalty": length_penalty}
    settings["eos_id"] = 0
    steps = [
        len(searched(reference, seed, V, 1.0, settings | {"early_stopping": how})[0].asked)
        for how in (True, False, "never")
    ]
    if length_penalty > 0 and len(set(steps)) < 3:  # else two of the three look alike
        return
    settings["early_stopping"] = "never"
    seeds = range(seed, seed + 4)  # one search is the same under many a wrong bound
    want = [searched(reference, s, V, 1.0, settings) for s in seeds]

    saw = [searched(solution, s, V, 1.0, settings) for s in seeds]

    words = f"models {seed} to {seeds[-1]}, {V=}, 1 prompt each, logit 0 + 1.0, {settings}"
    calls, others = ([len(model.asked) for model, _ in part] for part in (saw, want))
    check.equal(calls, others, what="calls of step by model", given=words)
    for (model, ours), (_, theirs) in zip(saw, want, strict=True):
        compare(ours, theirs, num_beams, f"{model.words}, logit 0 + 1.0, {settings}")


@rule("R26")
@given(
    max_examples=10,
    V=st.sampled_from([3, 2, 5]),
    new=st.sampled_from([5, 2]),
    how=st.sampled_from([(False, 1.0), (False, 0.0), ("never", 0.0), (True, 1.0)]),
)
def test_a_running_beam_that_is_only_level_does_not_go_on(solution, V, new, how):
    asked = []

    def step(tokens, parents):
        asked.append(len(tokens))
        return np.zeros((len(tokens), V))

    settings = {"num_beams": 1, "max_new_tokens": new, "eos_id": 0}
    settings |= dict(zip(("early_stopping", "length_penalty"), how, strict=True))
    saw = solution.beam_search(step, np.zeros((1, V)), **settings)

    words = f"all logits 0, V={V}, {settings}"
    told = f"step was called {len(asked)} times after eos was first among equals"
    check.that(not asked, saw=told, given=words, value=len(asked))
    compare(saw, [[(np.zeros(1, np.int64), -math.log(V))]], 1, words)


def searched(module, seed, V, bias, settings):
    """A search for one prompt, and the model that it asked; ``bias`` is on eos."""
    model = Model(seed, V, 1, bias=np.eye(V)[0] * bias)
    return model, module.beam_search(model.step, model.logits, **settings)


@rule("R27")
@given(
    V=st.sampled_from([5, 4, 7]),
    B=st.sampled_from([1, 3, 2]),
    num_beams=st.sampled_from([3, 2, 4]),
    eos_id=st.sampled_from([None, 0, 1]),
    seed=SEEDS,
)
def test_the_model_is_asked_about_the_running_beams(
    solution, reference, V, B, num_beams, eos_id, seed
):
    ours, theirs = Model(seed, V, B), Model(seed, V, B)
    settings = {"num_beams": num_beams, "max_new_tokens": 6, "eos_id": eos_id}
    words = f"{ours.words}, {settings}"
    reference.beam_search(theirs.step, theirs.logits, **settings)

    solution.beam_search(ours.step, ours.logits, **settings)

    for call, (saw, want) in enumerate(zip(ours.asked, theirs.asked, strict=False)):
        what = f"sorted rows (prompt, tokens) of call {call} of step"
        check.equal(sorted(map(list, saw)), sorted(map(list, want)), what=what, given=words)


@rule("R28")
@given(
    max_examples=25,
    B=st.sampled_from([3, 2, 1, 5]),
    num_beams=st.sampled_from([3, 2, 4]),
    early_stopping=st.sampled_from([True, False]),
    seed=SEEDS,
)
def test_one_call_a_token_serves_all_prompts_that_search(
    solution, reference, B, num_beams, early_stopping, seed
):
    bias = np.eye(5)[0] * 2
    ours, theirs = Model(seed, 5, B, bias=bias), Model(seed, 5, B, bias=bias)
    settings = {"num_beams": num_beams, "max_new_tokens": 9, "eos_id": 0}
    settings["early_stopping"] = early_stopping
    words = f"{ours.words}, logit 0 + 2, {settings}"
    reference.beam_search(theirs.step, theirs.logits, **settings)

    solution.beam_search(ours.step, ours.logits, **settings)

    saw, want = (
        " | ".join(" ".join(str(row[0]) for row in sorted(call)) for call in model.asked)
        for model in (ours, theirs)
    )
    check.equal(saw, want, what="the prompts of the rows of each call", given=words)


@rule("R28")
def test_finished_prompts_take_no_rows(count):
    """Seven prompts of which every beam ends after three tokens; the eighth never ends."""
    V = 6

    def run(impl):
        rows, length, prompt = 0, 0, np.arange(8)

        def step(tokens, parents):
            nonlocal rows, length, prompt
            prompt, rows, length = prompt[parents], rows + len(tokens), length + 1
            logits = np.tile(np.linspace(0, 1, V), (len(tokens), 1)) + 0.1 * tokens[:, None]
            logits[:, 0] = np.where((prompt < 7) & (length >= 2), 50.0, -50.0)
            return logits

        first = np.tile(np.linspace(0, 1, V), (8, 1))
        first[:, 0] = -50.0
        impl.beam_search(step, first, num_beams=4, max_new_tokens=24, eos_id=0)
        return rows

    count(run)


@rule("R30")
@given(
    V=st.sampled_from([5, 4, 7]),
    B=st.sampled_from([3, 2, 4]),
    num_beams=BEAMS,
    new=st.sampled_from([6, 4, 1]),
    early_stopping=st.sampled_from([False, True]),
    seed=SEEDS,
)
def test_a_prompt_gets_in_a_batch_what_it_gets_alone(
    solution, reference, V, B, num_beams, new, early_stopping, seed
):
    bias = np.eye(V)[0]
    ours = Model(seed, V, B, bias=bias)
    settings = {"num_beams": num_beams, "max_new_tokens": new, "eos_id": 0}
    settings["early_stopping"] = early_stopping
    words = f"{ours.words}, logit 0 + 1, {settings}"
    want = []
    for prompt in range(B):
        alone = Model(seed, V, B, bias=bias)
        alone.state = alone.state[prompt : prompt + 1]
        logits = alone.logits[prompt : prompt + 1]
        want += reference.beam_search(alone.step, logits, **settings)

    saw = solution.beam_search(ours.step, ours.logits, **settings)

    compare(saw, want, num_beams, words)


@rule("R11")
@given(max_examples=10, B=st.sampled_from([2, 1]), eos_id=st.sampled_from([None, 0]), seed=SEEDS)
def test_beam_search_leaves_the_logits_as_they_are(solution, B, eos_id, seed):
    ours = Model(seed, 5, B)
    words = f"{ours.words}, num_beams 3, max_new_tokens 5, eos_id {eos_id}"

    with check.unchanged(given=words, logits=ours.logits):
        solution.beam_search(ours.step, ours.logits, num_beams=3, max_new_tokens=5, eos_id=eos_id)

    for call, (now, before) in enumerate(ours.returned):
        what = f"what call {call} of step returned"
        check.equal(now, before, what=what, given=words, moved=True)


@rule("R12")
def test_settings_of_a_search_out_of_range_are_named(solution):
    ours = Model(0, 4, 2)
    good = {"num_beams": 2, "max_new_tokens": 3, "eos_id": 0}
    for names, value in (
        ("num_beams", 0),
        ("num_beams", -1),
        ("max_new_tokens", 0),
        ("max_new_tokens", -2),
        ("early_stopping", "always"),
        ("early_stopping", None),
    ):
        settings = good | {names: value}
        how = {"what": "beam_search", "names": names, "given": f"{ours.words}, {settings}"}
        check.raises(ValueError, solution.beam_search, ours.step, ours.logits, **settings, **how)


@rule("R12")
def test_logits_that_hold_no_distribution_are_named(solution):
    good = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    for row in ([np.nan, 1.0, 0.0], [np.inf, 1.0, 0.0], [-np.inf] * 3):
        bad = np.array([good[0], row])
        for first, later in ((bad, good), (good, bad)):

            def step(tokens, parents, later=later):
                return np.resize(later, (len(tokens), 3))

            words = f"logits {first.tolist()}, rows of step {later.tolist()}"
            how = {"what": "beam_search", "names": "logits", "given": words}
            settings = {"num_beams": 2, "max_new_tokens": 3}
            check.raises(ValueError, solution.beam_search, step, first, **settings, **how)
