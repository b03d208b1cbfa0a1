"""Stage 3: SGD learns XOR and a spiral."""

from copy import deepcopy

import numpy as np

from pytest_llmgrind import check, given, rule, st

from .common import DTYPES, SEEDS, check_is_float, check_layers, data, named, network, params_like

# N, batch_size, steps. The first is what a failure shows: two wrong orders do not coincide there.
SIZES = st.sampled_from(
    [
        (7, 3, 8),
        (7, 3, 6),
        (6, 2, 7),
        (6, 2, 6),
        (5, 1, 7),
        (5, 4, 3),
        (4, 4, 3),
        (2, 1, 5),
        (1, 1, 3),
        (6, 4, 1),
        (5, 2, 0),
    ]
)


def spiral(N):
    """Two arms of N points each, one and a half turns, within the unit circle."""
    angle = np.sqrt(np.linspace(0.02, 1, N)) * 3 * np.pi
    arm = np.stack([np.cos(angle), np.sin(angle)], axis=1) * angle[:, None] / (3 * np.pi)
    return np.concatenate([arm, -arm]), np.repeat([0, 1], N)


@rule("R14")
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple),
    rate=st.sampled_from([0.0, 0.1, 3.0]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_every_parameter_moves_against_its_own_gradient(solution, widths, rate, dtype, seed):
    params = network(seed, widths, dtype)
    x, labels = data(seed, 5, widths[0], widths[-1], dtype)
    told = f"widths {widths}, learning_rate={rate}, {np.dtype(dtype)}, seed {seed}"

    new, _ = solution.step(params, x, labels, learning_rate=rate)

    _, slopes = solution.loss_and_gradients(params, x, labels)
    check_layers(check, slopes, params_like(slopes, params), what="the gradients", given=told, n=1)
    want = [
        {name: layer[name] - layer[name].dtype.type(rate) * slope[name] for name in layer}
        for layer, slope in zip(params, slopes, strict=True)
    ]
    check_layers(check, new, want, what="the new parameters", n=400, given=told)


@rule("R15")
@given(seed=SEEDS)
def test_the_loss_of_a_step_is_the_one_before_it(solution, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 5, 3, 2)

    _, saw = solution.step(params, x, labels, learning_rate=1.0)

    want = float(solution.cross_entropy(solution.forward(params, x), labels))
    check.close(saw, want, what="loss", n=100, given=f"widths (3, 4, 2), N=5, seed {seed}")


@rule("R15")
@given(seed=SEEDS)
def test_losses_are_those_before_each_update(solution, reference, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 4, 3, 2)
    order = np.random.default_rng(seed).permutation(4)

    _, saw = solution.train(
        params, x, labels, steps=2, batch_size=2, learning_rate=0.5, rng=np.random.default_rng(seed)
    )

    want = []
    for batch in (order[:2], order[2:]):
        params, loss = reference.step(params, x[batch], labels[batch], learning_rate=0.5)
        want.append(loss)
    check.close(
        saw,
        np.array(want),
        what="losses",
        n=1_000,
        given=f"N=4, batch_size=2, 2 steps, seed {seed}",
    )


@rule("R16")
@given(size=SIZES, seed=SEEDS)
def test_batches_follow_one_permutation_an_epoch(solution, reference, size, seed):
    N, batch, steps = size
    params = network(seed, (2, 3, 2))
    x, labels = data(seed, N, 2, 2)
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    told = f"N={N}, batch_size={batch}, {steps} steps, seed {seed}"

    saw, losses = solution.train(
        params, x, labels, steps=steps, batch_size=batch, learning_rate=0.1, rng=rng
    )

    want, want_losses = reference.train(
        params, x, labels, steps=steps, batch_size=batch, learning_rate=0.1, rng=again
    )
    check.close(losses, want_losses, what="losses", n=2_000, given=told)
    check_layers(check, saw, want, what="the trained parameters", n=2_000, given=told)


@rule("R16")
@given(N=st.integers(5, 9), seed=SEEDS)
def test_an_epoch_takes_every_example_once(solution, N, seed):
    params = network(seed, (2, 2))
    x, labels = data(seed, N, 2, 2)

    _, saw = solution.train(
        params, x, labels, steps=N, batch_size=1, learning_rate=0.0, rng=np.random.default_rng(seed)
    )

    check.array(saw, shape=(N,), dtype=np.float64, what="losses", given=f"N={N}, batch_size=1")
    alone = [
        solution.cross_entropy(solution.forward(params, x[n : n + 1]), labels[n : n + 1])
        for n in range(N)
    ]
    check.close(
        np.sort(saw),
        np.sort(np.array(alone)),
        what="sorted losses",
        n=100,
        given=f"one epoch of {N} batches of 1 at learning_rate=0, seed {seed}",
    )


@rule("R16")
@given(size=SIZES, seed=SEEDS)
def test_the_generator_gives_permutations_and_nothing_else(solution, size, seed):
    N, batch, steps = size
    params = network(seed, (2, 3, 2))
    x, labels = data(seed, N, 2, 2)
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)

    solution.train(params, x, labels, steps=steps, batch_size=batch, learning_rate=0.1, rng=rng)

    epochs = -(-steps // -(-N // batch))
    for _ in range(epochs):
        again.permutation(N)
    check.that(
        rng.permutation(20).tolist() == again.permutation(20).tolist(),
        saw="afterwards rng stands elsewhere than after one permutation for each of these epochs",
        given=f"N={N}, batch_size={batch}, {steps} steps: epochs begun: {epochs}, seed {seed}",
    )


@rule("R17")
@given(seed=st.integers(0, 7), max_examples=8)
def test_xor_is_learnt(solution, reference, seed):
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    labels = np.array([0, 1, 1, 0])
    rng = np.random.default_rng(seed)
    told = f"widths (2, 16, 2), 400 steps on all four, learning_rate=0.5, seed {seed}"

    params, losses = solution.train(
        reference.init_params(rng, (2, 16, 2)),
        x,
        labels,
        steps=400,
        batch_size=4,
        learning_rate=0.5,
        rng=rng,
    )

    check.array(losses, shape=(400,), dtype=np.float64, what="losses", given=told)
    right = int((solution.forward(params, x).argmax(axis=1) == labels).sum())
    check.that(right == 4, saw=f"{right} of 4 are right", given=told)
    check.that(
        losses[-1] < 0.05, saw=f"the last loss is {losses[-1]:.3f}, not below 0.05", given=told
    )


@rule("R18")
def test_a_spiral_is_learnt(solution, reference):
    x, labels = spiral(100)
    x, rng = x.astype(np.float32), np.random.default_rng(0)
    told = "two arms of 100 points, widths (2, 64, 64, 2), 1,500 steps of 40, learning_rate=0.3"
    start = reference.init_params(rng, (2, 64, 64, 2), np.float32)

    params, losses = solution.train(
        start, x, labels, steps=1_500, batch_size=40, learning_rate=0.3, rng=rng
    )

    check.array(losses, shape=(1_500,), dtype=np.float64, what="losses", given=told)
    right = int((solution.forward(params, x).argmax(axis=1) == labels).sum())
    check.that(right >= 196, saw=f"{right} of 200 points are right, not 196", given=told)


@rule("R5")
@given(seed=SEEDS)
def test_training_leaves_the_start_as_it_was(solution, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 5, 3, 2)

    with check.unchanged(
        given=f"widths (3, 4, 2), N=5, seed {seed}", x=x, labels=labels, **named(params)
    ):
        solution.step(params, x, labels, learning_rate=0.5)
        solution.train(
            params,
            x,
            labels,
            steps=4,
            batch_size=2,
            learning_rate=0.5,
            rng=np.random.default_rng(seed),
        )


@rule("R5")
@given(rate=st.sampled_from([0.0, 0.5]), seed=SEEDS)
def test_new_parameters_are_arrays_of_their_own(solution, rate, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 5, 3, 2)
    rng = np.random.default_rng(seed)

    new, _ = solution.step(params, x, labels, learning_rate=rate)
    trained, _ = solution.train(
        params, x, labels, steps=0, batch_size=2, learning_rate=rate, rng=rng
    )

    told = f"widths (3, 4, 2), N=5, learning_rate={rate}, seed {seed}"
    for saw, how in ((new, "step"), (trained, "train with steps=0")):
        check_layers(check, saw, params_like(saw, params), what="the result", given=told, n=1)
        check.fresh(saw, what=f"the result of {how}", given=told, **named(params))


@rule("R5")
@given(seed=SEEDS, max_examples=10)
def test_parameters_outlive_the_next_call(solution, seed):
    params = network(seed, (3, 4, 2))
    x, labels = data(seed, 10, 3, 2)
    told = f"two batches of 5, widths (3, 4, 2), seed {seed}"

    def call(batch):
        new, _ = solution.step(params, x[batch], labels[batch], learning_rate=0.5)
        trained, losses = solution.train(
            params,
            x[batch],
            labels[batch],
            steps=3,
            batch_size=2,
            learning_rate=0.5,
            rng=np.random.default_rng(seed),
        )
        check.array(losses, shape=(3,), dtype=np.float64, what="losses", given=told)
        for saw, what in ((new, "the new parameters"), (trained, "the trained parameters")):
            check_layers(check, saw, params_like(saw, params), what=what, given=told, n=1)
        return new, trained, losses

    first = call(slice(5))

    kept = deepcopy(first)
    call(slice(5, 10))
    after = "of the first batch, looked at after the second,"
    for saw, old, what in zip(first[:2], kept[:2], ("new", "trained"), strict=True):
        check_layers(check, saw, old, what=f"the {what} parameters {after}", given=told, n=1)
    check.equal(first[2], kept[2], what=f"losses {after}", given=told, moved=True)


@rule("R4")
@given(dtype=DTYPES, rate=st.sampled_from([0.5, np.float64(0.5)]))
def test_trained_parameters_keep_the_dtype(solution, dtype, rate):
    params = network(2, (3, 4, 2), dtype)
    x, labels = data(2, 6, 3, 2, dtype)
    told = f"widths (3, 4, 2), {np.dtype(dtype)}, learning_rate={rate!r}"

    new, loss = solution.step(params, x, labels, learning_rate=rate)
    trained, losses = solution.train(
        params, x, labels, steps=3, batch_size=2, learning_rate=rate, rng=np.random.default_rng(0)
    )

    check_is_float(check, loss, given=told)
    check.array(losses, shape=(3,), dtype=np.float64, what="losses", given=told)
    for layers in (new, trained):
        for index, layer in enumerate(layers):
            for name in ("w", "b"):
                check.array(
                    layer[name],
                    shape=params[index][name].shape,
                    dtype=dtype,
                    what=f"{name} of layer {index}",
                    given=told,
                )


@rule("R6")
@given(batch=st.sampled_from([0, -1, 6]))
def test_batches_that_cannot_be_filled_are_refused(solution, batch):
    params = network(1, (3, 4, 2))
    x, labels = data(1, 5, 3, 2)

    check.raises(
        ValueError,
        solution.train,
        params,
        x,
        labels,
        steps=2,
        batch_size=batch,
        learning_rate=0.1,
        rng=np.random.default_rng(0),
        names="batch_size",
        what="train",
        given=f"batch_size={batch}, N=5",
    )


@rule("R6")
def test_data_that_do_not_fit_are_refused(solution):
    params = network(1, (3, 4, 2))
    rng = np.random.default_rng(0)

    for layers, x, labels, name, told in (
        ([], np.ones((4, 3)), np.array([0, 1, 0, 1]), "params", "no layer"),
        (params, np.ones((4, 2)), np.array([0, 1, 0, 1]), "x", "x of width 2 for 3 inputs"),
        (params, np.ones((4, 3)), np.array([0, 1, 0]), "labels", "3 labels for 4 examples"),
        (params, np.ones((4, 3)), np.array([0, 1, 0, 1, 0]), "labels", "5 labels for 4 examples"),
        (params, np.ones((4, 3)), np.array([0, 1, 0, 2]), "labels", "label 2 of 2 classes"),
    ):
        for what, call, more in (
            ("step", solution.step, {}),
            ("train", solution.train, {"steps": 1, "batch_size": 4, "rng": rng}),
        ):
            check.raises(
                ValueError,
                call,
                layers,
                x,
                labels,
                learning_rate=0.1,
                names=name,
                what=what,
                given=told,
                **more,
            )
