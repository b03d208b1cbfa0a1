"""Tensors of torch cross to a worker of graded mode and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_llmgrind import manifest
from pytest_llmgrind.graded import limits, source
from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.graded.sandbox import walls

ROOT = Path(__file__).parents[2]
SOLUTION = """
import torch


def double(x):
    return x * 2


def triple_in_place(x):
    x.mul_(3)


def gradient_of_the_squares(x):
    x = x.clone().requires_grad_(True)
    (x**2).sum().backward()
    return x.grad


def refuse(x):
    raise ValueError("x is of the wrong shape")


class Layer:
    def __init__(self, width):
        self.weight = torch.full((width, width), 0.5)

    def forward(self, x):
        return x @ self.weight
"""
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8"]


@pytest.fixture(scope="module")
def solution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file = tmp_path_factory.mktemp("solution") / "01_mlp.py"
    file.write_text(SOLUTION, "utf-8")
    challenge = manifest.load(ROOT / "challenges/01_mlp")

    def make(home: Path) -> source.Source:
        return source.of_grader(challenge, file, home)

    carrier = Carrier(make, walls(), limits.TORCH, 120.0)
    carrier.begin()
    yield carrier.module()
    carrier.close()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_keeps_its_values(solution: Any, dtype: str) -> None:
    """What comes back is the tensor that torch gives here."""
    x = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))

    saw = solution.double(x)

    assert saw.dtype == x.dtype
    assert torch.equal(saw, x * 2)


def test_what_is_changed_in_place_is_changed_here(solution: Any) -> None:
    """The caller's own tensor holds it, and so does a view of it."""
    x = torch.arange(6.0).reshape(2, 3)
    row = x[1]

    solution.triple_in_place(x)

    assert torch.equal(x, torch.arange(6.0).reshape(2, 3) * 3)
    assert torch.equal(row, torch.tensor([9.0, 12.0, 15.0]))


def test_gradients_are_taken_in_the_worker(solution: Any) -> None:
    """autograd runs where the solution does; what it gives is a plain tensor."""
    x = torch.linspace(-1, 1, 5)

    assert torch.equal(solution.gradient_of_the_squares(x), 2 * x)


def test_objects_that_hold_tensors_stay_there(solution: Any) -> None:
    """A layer lives in the worker, and its calls give tensors."""
    layer = solution.Layer(4)

    assert torch.equal(layer.forward(torch.ones(2, 4)), torch.full((2, 4), 2.0))


def test_an_exception_keeps_type_and_text(solution: Any) -> None:
    """As without a worker."""
    with pytest.raises(ValueError, match=r"^x is of the wrong shape$"):
        solution.refuse(torch.ones(2))
