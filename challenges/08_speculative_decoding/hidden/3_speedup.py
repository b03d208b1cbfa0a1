"""Stage 3: what a draft is worth, before and after it has run."""

from fractions import Fraction

import numpy as np

from pytest_llmgrind import check, given, rule, st

SEEDS = st.integers(0, 999)
ALPHAS = st.sampled_from([0.8, 0.3, 1 - 1e-9, 1 - 1e-14, 0.0, 0.5, 0.99, 1.0, 1e-3])
GAMMAS = st.sampled_from([4, 0, 1, 2, 7, 20])
COSTS = st.sampled_from([0.1, 0.0, 0.02, 0.5, 1.0, 2.0])


def tokens_of_a_step(alpha, gamma):
    """The mean number of tokens of a step, from the probability of each number, exactly."""
    a = Fraction(alpha)
    shares = [a**k * (1 - a) for k in range(gamma)] + [a**gamma]
    return float(sum((k + 1) * share for k, share in enumerate(shares)))


@rule("R19")
@given(
    shape=st.sampled_from([(), (1,), (4,), (3, 2)]),
    V=st.sampled_from([6, 2, 30]),
    dtype=st.sampled_from([np.float64, np.float32]),
    seed=SEEDS,
)
def test_the_acceptance_rate_is_the_mass_that_p_and_q_share(solution, shape, V, dtype, seed):
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.full(V, 0.5), shape).astype(dtype) for _ in range(2))
    want = 1 - np.abs(p.astype(np.float64) - q).sum(axis=-1) / 2
    how = f"seed {seed}, p and q {p.shape} {np.dtype(dtype)}"

    with check.unchanged(given=how, p=p, q=q):
        saw = solution.acceptance_rate(p, q)

    want = want.astype(dtype) if shape else dtype(want)
    check.close(saw, want, what="rate", given=how, n=V)


@rule("R20")
@given(alpha=ALPHAS, gamma=GAMMAS)
def test_the_tokens_of_a_step_are_expected_exactly(solution, alpha, gamma):
    saw = solution.expected_tokens(alpha, gamma)

    how = f"alpha={alpha!r}, gamma={gamma}"
    check.close(saw, tokens_of_a_step(alpha, gamma), what="tokens", given=how, n=gamma + 1)


@rule("R20")
def test_a_draft_that_is_always_accepted_brings_gamma_plus_one(solution):
    for alpha in (1, 1.0, np.float64(1)):
        for gamma in (0, 1, 5):
            saw = solution.expected_tokens(alpha, gamma)
            check.close(saw, gamma + 1.0, what="tokens", given=f"alpha={alpha!r}, gamma={gamma}")


@rule("R21")
@given(alpha=ALPHAS, gamma=GAMMAS, c=COSTS)
def test_the_speedup_is_tokens_over_cost(solution, alpha, gamma, c):
    want = tokens_of_a_step(alpha, gamma) / (gamma * c + 1)

    saw = solution.speedup(alpha, gamma, c)

    how = f"alpha={alpha!r}, gamma={gamma}, c={c}"
    check.close(saw, want, what="speedup", given=how, n=gamma + 2)


@rule("R22")
@given(
    alpha=st.sampled_from([0.8, 0.61, 0.05, 0.33, 0.93]),
    c=st.sampled_from([0.11, 0.023, 0.41, 0.007, 1.3]),
    most=st.sampled_from([12, 0, 1, 3, 60]),
)
def test_the_best_gamma_has_the_largest_speedup(solution, alpha, c, most):
    worth = [sum(alpha**i for i in range(g + 1)) / (g * c + 1) for g in range(most + 1)]

    saw = solution.best_gamma(alpha, c, most)

    how = f"alpha={alpha}, c={c}, max_gamma={most}"
    check.equal(saw, int(np.argmax(worth)), what="best_gamma", given=how)


@rule("R22")
def test_speedups_that_hardly_differ_are_not_equal(solution):
    # One drafted token brings alpha more tokens and costs c more: it is worth it if alpha > c.
    for alpha, c, want in ((0.5 + 1e-9, 0.5, 1), (0.5 - 1e-9, 0.5, 0)):
        saw = solution.best_gamma(alpha, c, 1)
        check.equal(saw, want, what="best_gamma", given=f"alpha={alpha!r}, c={c}, max_gamma=1")


@rule("R22")
def test_of_equal_speedups_the_smallest_gamma_is_best(solution):
    for alpha, c in ((0.0, 0.0), (0.5, 0.5)):
        saw = solution.best_gamma(alpha, c, 8)
        check.equal(saw, 0, what="best_gamma", given=f"alpha={alpha}, c={c}, max_gamma=8")
    check.equal(solution.best_gamma(1.0, 0.2, 8), 8, what="best_gamma", given="alpha=1.0, c=0.2")


@rule("R23")
@given(
    gamma=st.sampled_from([4, 1, 2, 9]),
    alpha=st.sampled_from([0.6, 0.0, 0.9, 1.0]),
    steps=st.sampled_from([50, 1, 2, 7]),
    seed=SEEDS,
)
def test_alpha_is_accepted_over_tested(solution, gamma, alpha, steps, seed):
    flips = np.random.default_rng(seed).random((steps, gamma)) < alpha
    n = np.logical_and.accumulate(flips, axis=1).sum(axis=1)
    tested = sum(min(int(k) + 1, gamma) for k in n)
    how = f"gamma={gamma}, n_accepted {n.tolist()}"

    with check.unchanged(given=how, n_accepted=n):
        saw = solution.estimate_alpha(n, gamma)

    check.close(saw, int(n.sum()) / tested, what="alpha", given=how)


@rule("R23")
def test_the_estimate_is_that_alpha_of_which_such_steps_are_typical(solution):
    # Of 27 steps with alpha = 2/3 and gamma = 3: 9, 6, 4 and 8 accept 0, 1, 2 and 3 tokens.
    n = np.repeat([0, 1, 2, 3], [9, 6, 4, 8])

    saw = solution.estimate_alpha(n, 3)

    how = "gamma=3, n_accepted 9 times 0, 6 times 1, 4 times 2, 8 times 3"
    check.close(saw, 2 / 3, what="alpha", given=how)


@rule("R23")
@given(kind=st.sampled_from(["int8", "uint8", "int16", "uint64"]), gamma=st.sampled_from([127, 90]))
def test_alpha_is_right_for_counts_of_any_dtype(solution, kind, gamma):
    n = np.array([gamma, 3, gamma, 0, gamma], kind)

    saw = solution.estimate_alpha(n, gamma)

    how = f"gamma={gamma}, n_accepted {n.tolist()} {kind}"
    check.close(saw, (3 * gamma + 3) / (3 * gamma + 5), what="alpha", given=how)


@rule("R8")
def test_the_formulas_name_a_bad_argument(solution):
    none = np.zeros(0, np.int64)
    cases = [
        ("expected_tokens", "alpha", (-0.1, 2)),
        ("expected_tokens", "alpha", (1.1, 2)),
        ("expected_tokens", "alpha", (float("nan"), 2)),
        ("expected_tokens", "gamma", (0.5, -1)),
        ("speedup", "gamma", (0.5, -1, 0.1)),
        ("speedup", "c", (0.5, 2, -0.1)),
        ("speedup", "alpha", (2.0, 2, 0.1)),
        ("estimate_alpha", "n_accepted", (none, 3)),
        ("estimate_alpha", "n_accepted", (np.array([1, 4]), 3)),
        ("estimate_alpha", "n_accepted", (np.array([1, -1]), 3)),
        ("estimate_alpha", "gamma", (np.array([0, 0]), 0)),
    ]

    for call, name, args in cases:
        how = f"arguments {tuple(a.tolist() if isinstance(a, np.ndarray) else a for a in args)}"
        f = getattr(solution, call)
        check.raises(ValueError, f, *args, what=call, names=name, given=how)
