"""A multilayer perceptron with softmax cross-entropy, its gradients by hand, and minibatch SGD.

Backpropagation: Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating
errors", Nature 323, equations 4 to 7. Initialisation: He et al. 2015, arXiv 1502.01852, eq. 10.
Differs from them in the loss (cross-entropy of a softmax) and the activation (ReLU).

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
    """Logits of each row of x. (N, C) -> (N, V)"""
    return _activations(params, x, np.matmul)[-1]


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the examples of −log softmax(logits)[label]. (N, V), (N,) -> float"""
    _check_labels(labels, logits.shape)
    log_probs = _log_softmax(logits)  # (N, V)
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of cross_entropy with respect to the logits. (N, V), (N,) -> (N, V)"""
    _check_labels(labels, logits.shape)
    # dL/dz = (softmax(z) − onehot(label)) / N
    gradient = np.exp(_log_softmax(logits))  # (N, V)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / len(labels)


def loss_and_gradients(
    params: Params, x: np.ndarray, labels: np.ndarray, *, matmul: MatMul = np.matmul
) -> tuple[float, Params]:
    """The mean loss of a batch, and its gradient with respect to every parameter."""
    activations = _activations(params, x, matmul)
    loss = cross_entropy(activations[-1], labels)
    delta = cross_entropy_gradient(activations[-1], labels)  # (N, V)
    gradients: Params = []
    for index in reversed(range(len(params))):
        # dL/dW = aᵀ·δ and dL/db = Σ δ over the examples, a being what went into the layer
        gradients.append({"w": matmul(activations[index].T, delta), "b": delta.sum(axis=0)})
        if index:  # the gradient of the data itself is not asked for
            # δ' = δ·Wᵀ where the unit was on; a > 0 exactly where its pre-activation was
            delta = matmul(delta, params[index]["w"].T) * (activations[index] > 0)  # (N, F)
    return loss, gradients[::-1]


def step(
    params: Params, x: np.ndarray, labels: np.ndarray, *, learning_rate: float
) -> tuple[Params, float]:
    """One step of gradient descent: new parameters, and the loss before the step."""
    loss, gradients = loss_and_gradients(params, x, labels)
    new = [
        {name: layer[name] - layer[name].dtype.type(learning_rate) * slope[name] for name in layer}
        for layer, slope in zip(params, gradients, strict=True)
    ]
    return new, loss


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
    """Minibatch SGD: the trained parameters and the loss of each step, (steps,) float64."""
    if not 0 < batch_size <= len(x):
        raise ValueError(f"batch_size: wanted 1 to {len(x)}, got {batch_size}")
    if labels.shape != (len(x),):  # too many labels would never be noticed
        raise ValueError(f"labels: wanted {len(x)} integers, got shape {labels.shape}")
    params = [{name: value.copy() for name, value in layer.items()} for layer in params]
    losses = np.empty(steps)
    order = np.empty(0, np.int64)
    for index in range(steps):
        if len(order) == 0:  # a new epoch
            order = rng.permutation(len(x))
        batch, order = order[:batch_size], order[batch_size:]
        params, losses[index] = step(params, x[batch], labels[batch], learning_rate=learning_rate)
    return params, losses


def _activations(params: Params, x: np.ndarray, matmul: MatMul) -> list[np.ndarray]:
    """x, the output of every hidden layer, and the logits: L + 1 arrays."""
    if not params:
        raise ValueError("params: wanted one layer or more, got none")
    if x.ndim != 2 or x.shape[1] != len(params[0]["w"]):
        raise ValueError(f"x: wanted shape (N, {len(params[0]['w'])}), got {x.shape}")
    activations = [x]
    for index, layer in enumerate(params):
        z = matmul(activations[-1], layer["w"]) + layer["b"]  # (N, F)
        activations.append(z if index == len(params) - 1 else np.maximum(z, 0))
    return activations


def _log_softmax(z: np.ndarray) -> np.ndarray:
    """log softmax over the last axis; the largest logit is taken off, which changes nothing."""
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _check_labels(labels: np.ndarray, shape: tuple[int, ...]) -> None:
    N, V = shape
    if labels.shape != (N,) or N == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: wanted {max(N, 1)} integers, got {labels.dtype} {labels.shape}")
    if labels.min() < 0 or labels.max() >= V:
        raise ValueError(f"labels: wanted 0 to {V - 1}, got {labels.min()} to {labels.max()}")
