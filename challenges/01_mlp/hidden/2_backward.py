"""Stage 2: every gradient by hand."""

from copy import deepcopy

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import (
    DTYPES,
    INTEGERS,
    MISFITS,
    SEEDS,
    WIDTHS,
    check_is_float,
    check_layers,
    data,
    named,
    network,
    params_like,
)


@rule("R7")
@given(N=st.integers(1, 6), V=st.integers(1, 6), dtype=DTYPES, integer=INTEGERS, seed=SEEDS)
def test_the_gradient_at_the_top_is_probability_minus_truth(
    solution, reference, N, V, dtype, integer, seed
):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, V)).astype(dtype)
    labels = rng.integers(0, V, size=N).astype(integer)

    saw = solution.cross_entropy_gradient(logits, labels)

    check.close(
        saw,
        reference.cross_entropy_gradient(logits, labels),
        what="gradient",
        n=2 * V,
        given=f"N={N}, V={V}, {np.dtype(dtype)}, labels of dtype {np.dtype(integer)}, seed {seed}",
    )


@rule("R7")
@given(N=st.integers(1, 6), V=st.integers(1, 6), seed=SEEDS)
def test_the_gradient_of_every_row_sums_to_nothing(solution, N, V, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(N, V)) * 4, rng.integers(0, V, size=N)

    saw = solution.cross_entropy_gradient(logits, labels)

    check.array(saw, shape=(N, V), dtype=logits.dtype, what="gradient", given=f"N={N}, V={V}")
    check.close(
        saw.sum(axis=1),
        np.zeros(N),
        what="sums of the rows",
        n=2 * V,
        given=f"N={N}, V={V}, seed {seed}",
    )


@rule("R3")
@given(size=st.sampled_from([1e30, 90.0, 800.0]), dtype=DTYPES)
def test_large_logits_have_an_exact_gradient(solution, size, dtype):
    logits = np.array([[0.0, size], [size, size], [-size, -size], [size, 0.0]], dtype)

    with np.errstate(over="raise", invalid="raise", divide="raise"):
        try:
            saw = solution.cross_entropy_gradient(logits, np.array([0, 1, 0, 0]))
        except FloatingPointError as error:
            check.that(False, saw=f"gradient: {error}", given=f"logits 0 and ±{size:g}")

    want = np.array([[-2, 2], [1, -1], [-1, 1], [0, 0]], dtype) / 8
    check.close(saw, want, what="gradient", n=2, given=f"logits 0 and ±{size:g}, {np.dtype(dtype)}")


@rule("R8")
@given(widths=WIDTHS, N=st.integers(1, 6), dtype=DTYPES, seed=SEEDS)
def test_gradients_are_those_of_the_mean_loss(solution, reference, widths, N, dtype, seed):
    params = network(seed, widths, dtype)
    x, labels = data(seed, N, widths[0], widths[-1], dtype)
    told = f"widths {widths}, N={N}, {np.dtype(dtype)}, seed {seed}"

    loss, saw = solution.loss_and_gradients(params, x, labels)

    want_loss, want = reference.loss_and_gradients(params, x, labels)
    steps = 4 * (N + sum(widths)) * len(widths)
    check.close(
        np.asarray(loss, dtype), np.asarray(want_loss, dtype), what="loss", n=steps, given=told
    )
    check_layers(check, saw, want, what="the gradients", given=told, n=steps)


@rule("R8")
@given(widths=WIDTHS, N=st.integers(1, 4), seed=SEEDS)
def test_a_small_move_changes_the_loss_as_the_gradient_says(solution, widths, N, seed):
    params = network(seed, widths)
    x, labels = data(seed, N, widths[0], widths[-1])
    move = network(seed + 5_000, widths)
    told = f"widths {widths}, N={N}, seed {seed}, central difference of 1e-5"

    def loss_at(h):
        moved = [{k: a[k] + h * b[k] for k in a} for a, b in zip(params, move, strict=True)]
        return solution.cross_entropy(solution.forward(moved, x), labels)

    _, gradients = solution.loss_and_gradients(params, x, labels)

    check_layers(
        check, gradients, params_like(gradients, params), what="gradients", given=told, n=1
    )
    slope = sum(
        float((a[k] * b[k]).sum()) for a, b in zip(gradients, move, strict=True) for k in ("w", "b")
    )
    want = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    # The difference itself is off by rounding over 2e-5 and by the curvature: n stands for both.
    check.close(slope, want, what="slope", n=10_000_000, scale=max(1.0, abs(want)), given=told)


@rule("R8")
@given(seed=SEEDS, max_examples=10)
def test_every_call_sees_its_arguments_anew(solution, reference, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 10, 3, 2)
    told = f"the same list of layers, widths (3, 4, 2), N=5, seed {seed}"

    for what, rows in (
        ("a first batch", slice(5)),
        ("a second batch", slice(5, 10)),
        ("the second batch after params were overwritten in place", slice(5, 10)),
    ):
        if "overwritten" in what:
            for array in named(params).values():
                array[...] = 0.5 - array
        _, saw = solution.loss_and_gradients(params, x[rows], labels[rows])
        _, want = reference.loss_and_gradients(params, x[rows], labels[rows])
        check_layers(check, saw, want, what=f"the gradients of {what}", given=told, n=100)


@rule("R8")
@given(dtype=DTYPES, seed=SEEDS, max_examples=10)
def test_gradients_do_not_depend_on_memory_order(solution, dtype, seed):
    params = [
        {k: np.repeat(v.T, 2, axis=-1)[..., ::2].T for k, v in layer.items()}
        for layer in network(seed, (3, 4, 4, 2), dtype)
    ]
    x, labels = data(seed, 5, 3, 2, dtype)
    views = x[::-1].T.copy().T[::-1], np.repeat(labels, 3)[::3]

    loss, saw = solution.loss_and_gradients(params, *views)

    told = f"params, x and labels that are strided views, widths (3, 4, 4, 2), N=5, seed {seed}"
    check_layers(check, saw, params_like(saw, params), what="the gradients", given=told, n=1)
    plain = [{k: v.copy("C") for k, v in layer.items()} for layer in params]
    want_loss, want = solution.loss_and_gradients(plain, x, labels)
    check.close(
        np.asarray(loss, dtype), np.asarray(want_loss, dtype), what="loss", n=200, given=told
    )
    check_layers(check, saw, want, what="the gradients", n=200, given=told)


@rule("R9")
@given(N=st.integers(1, 4), seed=SEEDS)
def test_units_that_are_off_pass_nothing(solution, N, seed):
    params = network(seed, (3, 4, 4, 2))
    x, labels = data(seed, N, 3, 2)
    params[1]["w"][:, 1], params[1]["b"][1] = 0.0, -1.0  # off for every example
    params[1]["w"][:, 2], params[1]["b"][2] = 0.0, 0.0  # exactly at 0
    told = f"widths (3, 4, 4, 2), N={N}, units 1 and 2 of the second hidden layer off, seed {seed}"

    _, saw = solution.loss_and_gradients(params, x, labels)

    check_layers(check, saw, params_like(saw, params), what="the gradients", given=told, n=1)
    for unit, how in ((1, "below 0"), (2, "at 0")):
        check.close(
            saw[1]["w"][:, unit].copy(),
            np.zeros(4),
            given=told,
            what=f"gradient of the weights into the unit {how}",
        )
        check.close(
            saw[2]["w"][unit].copy(),
            np.zeros(2),
            given=told,
            what=f"gradient of the weights out of the unit {how}",
        )


@rule("R9")
@given(small=st.sampled_from([1e-4, 1e-9, 1e-30]), seed=SEEDS)
def test_units_that_are_barely_on_pass_everything(solution, reference, small, seed):
    params = network(seed, (3, 6, 2))
    x, labels = data(seed, 4, 3, 2)
    params[0] = {name: small * value for name, value in params[0].items()}

    _, saw = solution.loss_and_gradients(params, x, labels)

    _, want = reference.loss_and_gradients(params, x, labels)
    told = f"widths (3, 6, 2), a first layer {small:g} times as large, N=4, seed {seed}"
    check_layers(check, saw, want, what="the gradients", n=100, given=told)


@rule("R9")
@given(seed=SEEDS)
def test_a_layer_is_masked_by_its_own_units(solution, reference, seed):
    params = network(seed, (4, 5, 5, 5, 3))  # equal widths: a mask of another layer fits
    x, labels = data(seed, 6, 4, 3)

    _, saw = solution.loss_and_gradients(params, x, labels)

    _, want = reference.loss_and_gradients(params, x, labels)
    check_layers(
        check,
        saw,
        want,
        what="the gradients",
        n=200,
        given=f"three hidden layers of width 5, N=6, seed {seed}",
    )


@rule("R10")
@given(N=st.integers(1, 5), times=st.integers(2, 4), seed=SEEDS)
def test_examples_that_are_repeated_change_nothing(solution, N, times, seed):
    params = network(seed, (3, 5, 4))
    x, labels = data(seed, N, 3, 4)
    told = f"every one of {N} examples {times} times, seed {seed}"

    loss, gradients = solution.loss_and_gradients(params, x, labels)
    like = params_like(gradients, params)
    check_layers(check, gradients, like, what="the gradients", given=told, n=1)
    again, saw = solution.loss_and_gradients(params, np.tile(x, (times, 1)), np.tile(labels, times))

    check.close(again, float(loss), what="loss", n=100, given=told)
    check_layers(check, saw, gradients, what="the gradients", n=200, given=told)


@rule("R11")
@given(widths=WIDTHS, N=st.integers(1, 4), seed=SEEDS)
def test_all_products_come_from_the_function_that_was_passed_in(
    solution, reference, widths, N, seed
):
    params = network(seed, widths)
    for layer in params:
        layer["b"][:] = 0  # a bias may be a row of the product, or be added to it
    x, labels = data(seed, N, widths[0], widths[-1])
    told = f"a matmul that halves its results, widths {widths}, biases 0, N={N}, seed {seed}"

    def half(a, b):
        axes = np.ndim(a), np.ndim(b)
        check.that(axes == (2, 2), saw=f"matmul got arrays of {axes} axes, not 2 each", given=told)
        return 0.5 * np.matmul(a, b)

    loss, saw = solution.loss_and_gradients(params, x, labels, matmul=half)

    want_loss, want = reference.loss_and_gradients(params, x, labels, matmul=half)
    check.close(loss, want_loss, what="loss", n=400, given=told)
    check_layers(check, saw, params_like(saw, params), what="the gradients", n=1, given=told)
    for index, layer in enumerate(want):
        check.close(saw[index]["w"], layer["w"], what=f"w of layer {index}", n=400, given=told)


@rule("R4")
@given(dtype=DTYPES)
def test_gradients_keep_the_dtype(solution, dtype):
    params = network(2, (3, 4, 2), dtype)
    x, labels = data(2, 3, 3, 2, dtype)
    told = f"widths (3, 4, 2), N=3, {np.dtype(dtype)}"

    loss, saw = solution.loss_and_gradients(params, x, labels)

    check_is_float(check, loss, given=told)
    check_layers(check, saw, params_like(saw, params), what="the gradients", given=told, n=1)


@rule("R5")
@given(seed=SEEDS)
def test_the_backward_pass_changes_nothing(solution, seed):
    params = network(seed, (3, 4, 4, 2))
    x, labels = data(seed, 5, 3, 2)
    logits = np.random.default_rng(seed).normal(size=(5, 2))

    with check.unchanged(
        given=f"widths (3, 4, 4, 2), N=5, seed {seed}",
        x=x,
        labels=labels,
        logits=logits,
        **named(params),
    ):
        solution.loss_and_gradients(params, x, labels)
        solution.cross_entropy_gradient(logits, labels)


@rule("R5")
@given(seed=SEEDS, max_examples=10)
def test_gradients_outlive_the_next_call(solution, seed):
    params = network(seed, (3, 4, 4, 2))
    x, labels = data(seed, 10, 3, 2)
    logits = np.random.default_rng(seed).normal(size=(10, 2))
    told = f"two batches of 5, widths (3, 4, 4, 2), seed {seed}"
    after = "of the first batch, looked at after the second,"

    top = solution.cross_entropy_gradient(logits[:5], labels[:5])
    _, saw = solution.loss_and_gradients(params, x[:5], labels[:5])

    check.array(top, shape=(5, 2), dtype=logits.dtype, what="gradient", given=told)
    check_layers(check, saw, params_like(saw, params), what="the gradients", given=told, n=1)
    kept_top, kept = top.copy(), deepcopy(saw)
    solution.cross_entropy_gradient(logits[5:], labels[5:])
    solution.loss_and_gradients(params, x[5:], labels[5:])
    check.equal(top, kept_top, what=f"gradient {after}", given=told, moved=True)
    check_layers(check, saw, kept, what=f"the gradients {after}", given=told, n=1)


@rule("R6")
@given(labels=MISFITS)
def test_labels_that_do_not_fit_have_no_gradient(solution, labels):
    params = network(1, (4, 3))
    told = f"labels {labels}, N=V=3"

    check.raises(
        ValueError,
        solution.cross_entropy_gradient,
        np.zeros((3, 3)),
        np.array(labels),
        names="labels",
        what="cross_entropy_gradient",
        given=told,
    )
    check.raises(
        ValueError,
        solution.loss_and_gradients,
        params,
        np.ones((3, 4)),
        np.array(labels),
        names="labels",
        what="loss_and_gradients",
        given=told,
    )


@rule("R6")
def test_a_batch_that_does_not_fit_is_refused(solution):
    params = network(1, (3, 4, 2))

    for layers, x, labels, name, told in (
        ([], np.ones((2, 3)), np.array([0, 1]), "params", "no layer"),
        (params, np.ones((2, 5)), np.array([0, 1]), "x", "x of width 5 for 3 inputs"),
        (params, np.ones(3), np.array([0]), "x", "x of shape (3,)"),
        (params, np.ones((0, 3)), np.zeros(0, np.int64), "labels", "N=0"),
    ):
        check.raises(
            ValueError,
            solution.loss_and_gradients,
            layers,
            x,
            labels,
            names=name,
            what="loss_and_gradients",
            given=told,
        )
    check.raises(
        ValueError,
        solution.cross_entropy_gradient,
        np.zeros((0, 3)),
        np.zeros(0, np.int64),
        names="labels",
        what="cross_entropy_gradient",
        given="N=0",
    )


@rule("R12")
def test_a_batch_takes_three_products_a_layer(count):
    def products(impl, params, x, labels):
        calls = []

        def counting(a, b):
            calls.append(1)
            return np.matmul(a, b)

        impl.loss_and_gradients(params, x, labels, matmul=counting)
        return len(calls)

    def inputs(rng):
        seed = int(rng.integers(1_000))
        return network(seed, (6,) * 9), *data(seed, 256, 6, 6)

    count(products, inputs=inputs)


@rule("R13")
def test_a_batch_beats_its_examples_one_by_one(race, reference):
    def inputs(rng):
        params = reference.init_params(rng, (32, 64, 64, 10), np.float32)  # logits near 1
        return params, *data(int(rng.integers(1_000_000)), 64, 32, 10, np.float32)

    def verify(result, params, x, labels):
        want_loss, want = reference.loss_and_gradients(params, x, labels)
        losses = (np.asarray(loss, x.dtype) for loss in (result[0], want_loss))
        check.close(*losses, what="loss", n=2_000, given="a timed call")
        check_layers(check, result[1], want, what="the gradients", n=2_000, given="a timed call")

    race(lambda impl, *args: impl.loss_and_gradients(*args), inputs=inputs, verify=verify)
