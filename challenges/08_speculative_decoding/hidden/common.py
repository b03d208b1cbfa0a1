"""Models with a cache that note their calls, the greedy text of one alone, and counts of samples.

A count accuses a right solution less than once in 1e11 runs, whatever that does with its random
numbers: n independent rows are off by more than `unlikely` allows with that probability at most
(Chernoff's bound for each cell and side, and the union bound over them).
"""

import math

import numpy as np

from pytest_llmgrind import check, st

ALPHA = 1e-11
PERIOD = 7  # a table's logits depend on the last two tokens and on the position modulo this
SEEDS = st.integers(0, 999)
SIZES = st.sampled_from([5, 2, 3, 11])
MISSES = st.sampled_from([0.3, 0.0, 0.1, 1.0])


def draw(seed, V, miss, T):
    """Tables of a target and of a draft model that differ in a share ``miss`` of contexts."""
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((V, V, PERIOD, V))
    other = rng.standard_normal(target.shape)
    draft = np.where(rng.random(target.shape[:3])[..., None] < miss, other, target)
    words = f"seed {seed}, V={V}, miss={miss}, prompt of {T}"
    return target, draft, rng.integers(0, V, T), words


def sure(table):
    """The table of a model that has no doubt about what the other likes best."""
    return np.where(table == table.max(axis=-1, keepdims=True), 0.0, -np.inf)


def model(source, calls=None):
    """A model with a cache as the spec has it.

    ``source`` is a table, or a function of tokens and positions (n,) that gives logits (n, V).
    Calls are noted: how many tokens it kept, how many it computed, and how many of these for the
    second time.
    """
    held, calls = [], [] if calls is None else calls

    def call(tokens, keep):
        new = np.asarray(tokens)
        if not 0 <= keep <= len(held):
            raise ValueError(f"keep: wanted 0 to {len(held)}, the tokens held, got {keep}")
        if new.shape == (0,):
            raise ValueError("tokens: a model was called with none")
        if new.ndim != 1 or new.dtype.kind not in "iu":
            raise ValueError(f"tokens: wanted integers (T,), got {new.dtype} {new.shape}")
        same = [a == b for a, b in zip(new.tolist(), held[keep:], strict=False)]
        again = [*same, False].index(False)  # computed before, behind the same text
        held[keep:] = new.tolist()
        calls.append((int(keep), len(new), again))
        at = np.arange(keep, len(held))
        if callable(source):
            return source(np.array(held)[at], at)
        text = np.array([0, *held])
        return source[text[at], text[at + 1], at % PERIOD]

    return call


def noted(source):
    """A model, and the list of its calls."""
    calls = []
    return model(source, calls), calls


def far(calls):
    """How many tokens a model's text had at most."""
    return max((keep + n for keep, n, _ in calls), default=0)


def alone(table, prompt, new):
    """The greedy tokens of a model by itself."""
    text = [0, *map(int, prompt)]
    for _ in range(new):
        at = len(text) - 2
        text.append(int(table[text[-2], text[-1], at % PERIOD].argmax()))
    return np.array(text[len(prompt) + 1 :], np.int64)


def steps(target, propose, prompt, new, gamma):
    """Calls of the target that a text takes, if each verifies what ``propose(text, n)`` drafts."""
    text, n = [*map(int, prompt), *alone(target, prompt, new)], len(prompt)
    count = 0
    while n < len(text):
        wish = propose(text[:n], min(gamma, len(text) - n - 1))
        right = np.logical_and.accumulate(wish == text[n : n + len(wish)]).sum()
        n, count = n + int(right) + 1, count + 1
    return count


def in_turn(**sources):
    """A log of all calls, and the models that write it."""
    log = []

    def logged(name, source):
        inner = model(source)

        def call(tokens, keep):
            log.append((name, int(keep), len(tokens)))
            return inner(tokens, keep)

        return call

    return log, *(logged(name, source) for name, source in sources.items())


def ends_with(log, last, *, given):
    """The last call is that of the target which brings the token at position ``last``."""
    name, keep, _ = log[-1]
    text = f"the last of {len(log)} calls was one of the {name} model from position {keep} on, "
    text += f"and position {last} has the end token"
    check.that(name == "target" and keep < last, saw=text, given=given, value=log)


def unlikely(counts, law):
    """The cells of which a right solution gives such a count less than once in 1/ALPHA runs."""
    n, law = counts.sum(), np.asarray(law, np.float64)
    limit = math.log(2 * len(law) / ALPHA)
    return [i for i, p in enumerate(law) if n * kl(counts[i] / n, p) > limit]


def kl(a, b):
    """Relative entropy of two coins."""
    parts = [(a, b), (1 - a, 1 - b)]
    if any(x > 0 and y < 1e-12 for x, y in parts):
        return math.inf
    return sum(x * math.log(x / y) for x, y in parts if x > 0)


def follows(counts, law, names, *, given, value):
    """The counts are those of a sample from the law, as far as a sample can tell."""
    n = counts.sum()
    for i in unlikely(counts, law):
        sd = math.sqrt(n * law[i] * (1 - law[i]))
        off = f"{abs(counts[i] - n * law[i]) / sd:.0f} standard deviations" if sd > 0 else "all"
        many = "too many" if counts[i] > n * law[i] else "too few"
        text = f"{counts[i]:,} of {n:,} {names[i]}, {off} {many}"
        check.that(False, saw=text, given=given, value=value)
