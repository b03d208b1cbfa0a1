"""Stage 1: logits and a stable loss."""

import math

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import DTYPES, INTEGERS, MISFITS, SEEDS, WIDTHS, check_is_float, data, named, network


@rule("R1")
@given(widths=WIDTHS, N=st.integers(0, 5), dtype=DTYPES, seed=SEEDS)
def test_hidden_layers_are_rectified_and_the_last_is_not(
    solution, reference, widths, N, dtype, seed
):
    params = network(seed, widths, dtype)
    x, _ = data(seed, N, widths[0], widths[-1], dtype)

    saw = solution.forward(params, x)

    check.close(
        saw,
        reference.forward(params, x),
        what="logits",
        n=2 * sum(widths),
        given=f"widths {widths}, N={N}, {np.dtype(dtype)}, seed {seed}",
    )


@rule("R1")
@given(N=st.integers(2, 6), seed=SEEDS)
def test_examples_do_not_see_each_other(solution, N, seed):
    params = network(seed, (3, 5, 2))
    x, _ = data(seed, N, 3, 2)

    saw = solution.forward(params, x)

    check.array(saw, shape=(N, 2), dtype=x.dtype, what="logits", given=f"N={N}")
    alone = np.concatenate([solution.forward(params, x[n : n + 1]) for n in range(N)])
    check.close(
        saw, alone, what="logits", n=16, given=f"a batch of {N} against its rows, seed {seed}"
    )


@rule("R1")
@given(strided=st.booleans(), seed=SEEDS)
def test_memory_order_does_not_matter(solution, strided, seed):
    params = network(seed, (3, 4, 2))
    wide, _ = data(seed, 3, 10, 2)
    x = wide[:, ::2].T if strided else np.asfortranarray(wide[:, :5].T)  # (5, 3)

    saw = solution.forward(params, x)

    how = "a transposed, strided view" if strided else "an array in Fortran order"
    told = f"{how} of shape (5, 3), seed {seed}"
    check.array(saw, shape=(5, 2), dtype=x.dtype, what="logits", given=told)
    want = solution.forward(params, x.copy("C"))
    check.close(saw, want, what="logits", n=16, given=told)


@rule("R2")
@given(N=st.integers(1, 6), V=st.integers(1, 6), seed=SEEDS, dtype=INTEGERS)
def test_the_loss_is_the_mean_surprise(solution, N, V, seed, dtype):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(V, N)).T  # (N, V), in Fortran order
    labels = rng.integers(0, V, size=N).astype(dtype)

    saw = solution.cross_entropy(logits, labels)

    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    want = math.fsum(math.log(math.fsum(map(math.exp, z))) - z[label] for z, label in rows) / N
    check.close(
        saw,
        want,
        what="loss",
        n=4 * (N + V),
        given=f"N={N}, V={V}, labels of dtype {np.dtype(dtype)}, seed {seed}",
    )


@rule("R2")
@given(dtype=INTEGERS, most=st.sampled_from([300, 250]), seed=SEEDS, max_examples=20)
def test_labels_of_any_integer_dtype_mean_the_same(solution, dtype, most, seed):
    V = min(np.iinfo(dtype).max + 1, most)
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.normal(size=(100, V)), rng.integers(0, V, size=100)
    labels[:2] = 0, V - 1

    saw = solution.cross_entropy(logits, labels.astype(dtype))

    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    want = math.fsum(math.log(math.fsum(map(math.exp, z))) - z[label] for z, label in rows) / 100
    told = f"N=100, V={V}, labels of dtype {np.dtype(dtype)}, seed {seed}"
    check.close(saw, want, what="loss", n=4 * (100 + V), given=told)


@rule("R2")
@given(V=st.integers(1, 300), N=st.integers(1, 4))
def test_equal_logits_cost_the_logarithm_of_the_classes(solution, V, N):
    logits = np.full((N, V), 1.25)

    saw = solution.cross_entropy(logits, np.arange(N) % V)

    check.close(saw, math.log(V), what="loss", n=V, given=f"{V} equal logits, N={N}")


@rule("R3")
@given(size=st.sampled_from([1e30, 90.0, 800.0, 1e4]), dtype=DTYPES, right=st.booleans())
def test_large_logits_have_an_exact_loss(solution, size, dtype, right):
    logits = np.array([[0.0, size], [-size, 0.0]], dtype)
    labels = np.array([1, 1]) if right else np.array([0, 0])

    with np.errstate(over="raise", invalid="raise", divide="raise"):
        try:
            saw = solution.cross_entropy(logits, labels)
        except FloatingPointError as error:
            check.that(False, saw=f"loss: {error}", given=f"logits 0 and ±{size:g}")

    want = 0.0 if right else float(dtype(size))
    check.close(
        saw,
        want,
        what="loss",
        n=2,
        scale=max(1.0, want),
        given=f"logits 0 and ±{size:g}, {np.dtype(dtype)}",
    )


@rule("R3")
@given(shift=st.sampled_from([-1e12, -300.0, 300.0, 1e12]), seed=SEEDS)
def test_a_row_may_be_shifted(solution, shift, seed):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-8, 8, size=(3, 4)) / 4  # shifting such numbers rounds nothing
    labels = rng.integers(0, 4, size=3)

    saw = solution.cross_entropy(logits + np.array([[shift], [0.0], [-shift]]), labels)

    check.close(
        saw,
        float(solution.cross_entropy(logits, labels)),
        what="loss",
        n=16,
        given=f"rows shifted by {shift:g}, 0 and {-shift:g}, seed {seed}",
    )


@rule("R4")
@given(dtype=DTYPES, N=st.integers(0, 3))
def test_logits_keep_the_dtype(solution, dtype, N):
    params = network(1, (3, 4, 2), dtype)
    x, _ = data(1, N, 3, 2, dtype)

    saw = solution.forward(params, x)

    check.array(saw, shape=(N, 2), dtype=dtype, what="logits", given=f"N={N}, {np.dtype(dtype)}")


@rule("R4")
@given(dtype=DTYPES)
def test_a_loss_is_a_python_float(solution, dtype):
    logits = np.array([[0.5, -1.0]], dtype)

    saw = solution.cross_entropy(logits, np.array([1]))

    check_is_float(check, saw, given=f"logits of dtype {np.dtype(dtype)}")
    want = math.log1p(math.exp(1.5))
    check.close(
        np.asarray(saw, dtype),
        np.asarray(want, dtype),
        what="loss",
        n=8,
        given=f"logits of dtype {np.dtype(dtype)}",
    )


@rule("R5")
@given(seed=SEEDS)
def test_the_forward_pass_changes_nothing(solution, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 5, 3, 2)
    logits = np.random.default_rng(seed).normal(size=(5, 2))

    with check.unchanged(
        given=f"widths (3, 4, 2), N=5, seed {seed}",
        x=x,
        logits=logits,
        labels=labels,
        **named(params),
    ):
        solution.forward(params, x)
        solution.cross_entropy(logits, labels)


@rule("R5")
@given(seed=SEEDS, max_examples=10)
def test_logits_outlive_the_next_call(solution, seed):
    params = network(seed, (3, 4, 2))
    x, _ = data(seed, 10, 3, 2)

    saw = solution.forward(params, x[:5])

    told = f"two batches of 5, widths (3, 4, 2), seed {seed}"
    check.array(saw, shape=(5, 2), dtype=x.dtype, what="logits", given=told)
    kept = saw.copy()
    solution.forward(params, x[5:])
    what = "logits of the first batch, looked at after the second,"
    check.equal(saw, kept, what=what, given=told, moved=True)


@rule("R6")
def test_inputs_that_do_not_fit_are_refused(solution):
    params = network(1, (3, 4, 2))

    check.raises(
        ValueError,
        solution.forward,
        [],
        np.ones((2, 3)),
        names="params",
        what="forward",
        given="no layer",
    )
    for shape in ((2, 4), (3,), (1, 2, 3)):
        check.raises(
            ValueError,
            solution.forward,
            params,
            np.ones(shape),
            names="x",
            what="forward",
            given=f"x of shape {shape} for a first layer of 3 inputs",
        )


@rule("R6")
@given(labels=MISFITS)
def test_labels_that_do_not_fit_are_refused(solution, labels):
    check.raises(
        ValueError,
        solution.cross_entropy,
        np.zeros((3, 3)),
        np.array(labels),
        names="labels",
        what="cross_entropy",
        given=f"labels {labels}, N=V=3",
    )


@rule("R6")
def test_a_batch_of_nothing_has_no_mean(solution):
    check.raises(
        ValueError,
        solution.cross_entropy,
        np.zeros((0, 3)),
        np.zeros(0, np.int64),
        names="labels",
        what="cross_entropy",
        given="N=0",
    )
