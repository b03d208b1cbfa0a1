"""The naive way: one example at a time."""

from __future__ import annotations

import numpy as np


def loss_and_gradients(params, x, labels, *, matmul=np.matmul):
    """The mean loss of a batch and its gradients, summed up example by example."""
    total = 0.0
    sums = [{name: np.zeros_like(value) for name, value in layer.items()} for layer in params]
    for row, label in zip(x, labels, strict=True):
        activations = [row[None]]
        for index, layer in enumerate(params):
            z = matmul(activations[-1], layer["w"]) + layer["b"]
            activations.append(z if index == len(params) - 1 else np.maximum(z, 0))
        z = activations[-1] - activations[-1].max()
        log_probs = z - np.log(np.exp(z).sum())
        total -= float(log_probs[0, label])
        delta = np.exp(log_probs)
        delta[0, label] -= 1
        for index in reversed(range(len(params))):
            sums[index]["w"] += matmul(activations[index].T, delta)
            sums[index]["b"] += delta[0]
            if index:
                delta = matmul(delta, params[index]["w"].T) * (activations[index] > 0)
    return total / len(x), [{k: v / len(x) for k, v in layer.items()} for layer in sums]
