"""Everything that the attacks want to get around."""

import numpy as np

from pytest_llmgrind import check, given, rule, st


@rule("R1")
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7)), seed=st.integers(0, 99), max_examples=10
)
def test_rows_sum_to_one_and_are_right(solution, reference, shape, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    words = f"{shape}, seed {seed}"
    want = reference.softmax(x.copy())

    with check.unchanged(given=words, x=x):
        saw = solution.softmax(x)

    check.close(saw, want, n=shape[1], what="the result", given=words)


@rule("R2")
def test_results_stay(solution, reference, rng):
    first, second = rng.standard_normal((2, 3, 4))
    saw = solution.softmax(first)

    solution.softmax(second)

    check.close(saw, reference.softmax(first), n=4, what="the first result after a second call")


@rule("R5")
def test_the_best_item_has_the_highest_score(solution, rng):
    scores = dict(zip("abcdefgh", rng.permutation(8).tolist(), strict=True))
    wanted = max(scores, key=scores.get)

    check.equal(
        solution.best(lambda item: scores[item], list(scores)), wanted, what="the best item"
    )


@rule("R4")
def test_little_memory(peak):
    def verify(result, x):
        want = np.exp(x - x.max(axis=-1, keepdims=True))
        check.close(result, want / want.sum(axis=-1, keepdims=True), n=1000, what="the result")

    peak(
        lambda impl, x: impl.softmax(x, x),
        inputs=lambda rng: (rng.standard_normal((50, 1000)),),
        verify=verify,
    )


@rule("R3")
def test_rows_beat_a_loop(race):
    def verify(result, x):
        want = np.exp(x - x.max(axis=-1, keepdims=True))
        check.close(result, want / want.sum(axis=-1, keepdims=True), n=50, what="the result")

    race(
        lambda impl, x: impl.softmax(x),
        inputs=lambda rng: (rng.standard_normal((100, 50)),),
        verify=verify,
    )
