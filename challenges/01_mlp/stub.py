"""A multilayer perceptron with softmax cross-entropy, its gradients by hand, and minibatch SGD.

The task is spec.md. Parameters and inputs of one call share a dtype, float32 or float64. No
argument is modified, and any of them may be a view, contiguous or not. What is returned shares no
memory with an argument or with the result of another call. ``params`` is a list of L layers; layer
i is {"w": (in, out), "b": (out,)}.

Dimension key: N examples, C width of an input, F width of a hidden layer, V classes, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

Layer = dict[str, np.ndarray]
Params = list[Layer]
MatMul = Callable[[np.ndarray, np.ndarray], np.ndarray]


def init_params(
    rng: np.random.Generator, widths: tuple[int, ...], dtype: type = np.float64
) -> Params:
    """Random layers from widths[0] inputs to widths[-1] classes; biases are zero."""
    return [
        {
            "w": (rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)).astype(dtype),
            "b": np.zeros(fan_out, dtype),
        }
        for fan_in, fan_out in pairwise(widths)
    ]


def forward(params: Params, x: np.ndarray) -> np.ndarray:
    """Logits of each example: ReLU after every layer but the last.

    params: L layers, L at least 1. x: (N, C), N may be 0.
    Returns: (N, V), dtype of x.
    Raises: ValueError naming params (no layer) or x (not two axes, or a width that the first
    layer does not take).

    >>> layers = [{"w": np.array([[1.0, -1.0]]), "b": np.array([0.0, 0.0])},
    ...           {"w": np.array([[1.0], [10.0]]), "b": np.array([0.5])}]
    >>> forward(layers, np.array([[2.0], [-3.0]])).tolist()
    [[2.5], [30.5]]
    """
    # TODO stage 1: logits.
    raise NotImplementedError("01_mlp, stage 1")


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean loss of a batch.

    logits: (N, V), N at least 1, any numbers whose differences, added up over the batch, are
    finite. labels: (N,) from 0 to V − 1, of any integer dtype, signed or not.
    Returns: the mean over the examples of −log softmax(logits)[label], a Python float, in nats.
    Raises: ValueError naming labels (wrong shape, not integers, out of range, N = 0).

    >>> round(cross_entropy(np.array([[0.0, 0.0], [0.0, 1.0986122886681098]]), np.array([0, 1])), 4)
    0.4904
    """
    # TODO stage 1: the loss, for logits of any size.
    raise NotImplementedError("01_mlp, stage 1")


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of cross_entropy with respect to the logits.

    logits, labels: as in cross_entropy.
    Returns: (N, V), dtype of logits.
    Raises: as cross_entropy.

    >>> cross_entropy_gradient(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1])).tolist()
    [[-0.25, 0.25], [0.25, -0.25]]
    """
    # TODO stage 2: the gradient at the top.
    raise NotImplementedError("01_mlp, stage 2")


def loss_and_gradients(
    params: Params, x: np.ndarray, labels: np.ndarray, *, matmul: MatMul = np.matmul
) -> tuple[float, Params]:
    """The mean loss of a batch, and its gradient with respect to every parameter.

    params, x, labels: as in forward and cross_entropy, N at least 1. matmul: what multiplies two
    matrices of two axes each; every matrix product of this call is taken from it.
    Returns: the loss, and a list of L dictionaries {"w": …, "b": …} with the shapes and the dtype
    of params.
    Raises: as forward and cross_entropy.

    >>> layers = [{"w": np.array([[1.0, 1.0]]), "b": np.array([0.0, 0.0])}]
    >>> loss, gradients = loss_and_gradients(layers, np.array([[3.0]]), np.array([0]))
    >>> round(loss, 4), gradients[0]["w"].tolist(), gradients[0]["b"].tolist()
    (0.6931, [[-1.5, 1.5]], [-0.5, 0.5])
    """
    # TODO stage 2: the gradient of every weight and bias.
    raise NotImplementedError("01_mlp, stage 2")


def step(
    params: Params, x: np.ndarray, labels: np.ndarray, *, learning_rate: float
) -> tuple[Params, float]:
    """One step of gradient descent on a batch.

    learning_rate: a number of Python's or NumPy's; params keep their dtype either way.
    Returns: new parameters (new arrays, same shapes and dtype), and the loss before the step.
    Raises: as loss_and_gradients.

    >>> layers = [{"w": np.array([[1.0, 1.0]]), "b": np.array([0.0, 0.0])}]
    >>> new, loss = step(layers, np.array([[3.0]]), np.array([0]), learning_rate=2.0)
    >>> new[0]["w"].tolist(), new[0]["b"].tolist(), round(loss, 4)
    ([[4.0, -2.0]], [1.0, -1.0], 0.6931)
    """
    # TODO stage 3: one update.
    raise NotImplementedError("01_mlp, stage 3")


def train(
    params: Params,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> tuple[Params, np.ndarray]:
    """Minibatch stochastic gradient descent.

    An epoch begins with order = rng.permutation(N) and takes its examples in that order,
    batch_size at a time; what is left at the end of an epoch is a smaller batch. steps counts
    batches; training may end inside an epoch, and an epoch without a batch does not begin. rng is
    used for nothing else.

    x: (N, C), labels: (N,), N at least 1. learning_rate: as in step.
    Returns: the trained parameters (new arrays, also where steps is 0), and (steps,) float64, the
    loss of each batch before its step.
    Raises: as loss_and_gradients; ValueError naming labels where there are not N of them, and
    batch_size where it is below 1 or above N.

    >>> layers = [{"w": np.array([[1.0, 1.0]]), "b": np.array([0.0, 0.0])}]
    >>> x, labels, rng = np.array([[3.0]]), np.array([0]), np.random.default_rng(0)
    >>> new, losses = train(layers, x, labels, steps=2, batch_size=1, learning_rate=2.0, rng=rng)
    >>> losses.round(4).tolist()
    [0.6931, 0.0]
    """
    # TODO stage 3: epochs of shuffled batches.
    raise NotImplementedError("01_mlp, stage 3")
