"""The reference of 01_mlp against torch: linear layers, cross_entropy, autograd and SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import load

mlp = load("01_mlp")
SEEDS = range(8)


def draw(seed: int, dtype: Any = np.float64) -> tuple[Any, np.ndarray, np.ndarray]:
    """A network of random depth and widths, and a batch for it."""
    rng = np.random.default_rng(seed)
    widths = tuple(int(w) for w in rng.integers(1, 9, size=rng.integers(2, 6)))
    params = mlp.init_params(rng, widths, dtype)
    for layer in params:
        layer["b"] += rng.normal(size=layer["b"].shape).astype(dtype)
    x = rng.normal(size=(int(rng.integers(1, 9)), widths[0])).astype(dtype)
    return params, x, rng.integers(0, widths[-1], size=len(x))


def tensors(params: Any) -> list[dict[str, torch.Tensor]]:
    return [
        {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in layer.items()}
        for layer in params
    ]


def torch_logits(params: list[dict[str, torch.Tensor]], x: np.ndarray) -> torch.Tensor:
    h = torch.from_numpy(x)
    for index, layer in enumerate(params):
        h = F.linear(h, layer["w"].T, layer["b"])
        h = h if index == len(params) - 1 else F.relu(h)
    return h


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_loss_and_gradients_are_those_of_autograd(seed: int, dtype: Any, atol: float) -> None:
    """Every weight and every bias, for random depths and widths."""
    params, x, labels = draw(seed, dtype)
    theirs = tensors(params)

    want = F.cross_entropy(torch_logits(theirs, x), torch.from_numpy(labels))
    want.backward()

    loss, gradients = mlp.loss_and_gradients(params, x, labels)
    assert loss == pytest.approx(want.item(), abs=10 * atol)
    for ours, layer in zip(gradients, theirs, strict=True):
        for name in ("w", "b"):
            np.testing.assert_allclose(ours[name], layer[name].grad.numpy(), atol=atol)


@pytest.mark.parametrize("size", [90.0, 800.0, 1e30])
def test_large_logits_have_torchs_loss_and_gradient(size: float) -> None:
    """Logits that a plain exponential would overflow on."""
    logits = np.array([[0.0, size], [-size, 0.0], [size, size]])
    labels = np.array([0, 1, 1])
    theirs = torch.from_numpy(logits).requires_grad_()

    want = F.cross_entropy(theirs, torch.from_numpy(labels))
    want.backward()

    assert mlp.cross_entropy(logits, labels) == pytest.approx(want.item(), rel=1e-14)
    np.testing.assert_allclose(
        mlp.cross_entropy_gradient(logits, labels), theirs.grad.numpy(), atol=1e-15
    )


def test_a_unit_at_zero_passes_nothing_in_torch_either() -> None:
    """The derivative of ReLU at 0 is 0."""
    params = [
        {"w": np.zeros((2, 3)), "b": np.zeros(3)},
        {"w": np.ones((3, 2)), "b": np.array([1.0, -1.0])},
    ]
    x, labels, theirs = np.ones((4, 2)), np.zeros(4, np.int64), tensors(params)

    F.cross_entropy(torch_logits(theirs, x), torch.from_numpy(labels)).backward()

    _, gradients = mlp.loss_and_gradients(params, x, labels)
    np.testing.assert_array_equal(gradients[0]["w"], theirs[0]["w"].grad.numpy())
    np.testing.assert_array_equal(gradients[0]["w"], 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_steps_are_those_of_torch_sgd(seed: int) -> None:
    """The same batches through torch.optim.SGD: the same losses and the same parameters."""
    params, x, labels = draw(seed)
    theirs = tensors(params)
    optimizer = torch.optim.SGD([p for layer in theirs for p in layer.values()], lr=0.1)
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    size = max(1, len(x) // 2)

    trained, losses = mlp.train(
        params, x, labels, steps=20, batch_size=size, learning_rate=0.1, rng=rng
    )

    want, order = [], []
    for _ in range(20):
        order = order or list(again.permutation(len(x)))
        batch, order = order[:size], order[size:]
        optimizer.zero_grad()
        loss = F.cross_entropy(torch_logits(theirs, x[batch]), torch.from_numpy(labels[batch]))
        loss.backward()
        optimizer.step()
        want.append(loss.item())
    np.testing.assert_allclose(losses, want, atol=1e-10)
    for ours, layer in zip(trained, theirs, strict=True):
        for name in ("w", "b"):
            np.testing.assert_allclose(ours[name], layer[name].detach().numpy(), atol=1e-10)
