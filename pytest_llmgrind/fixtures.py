"""What a hidden test may ask for."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from pytest_llmgrind.budget import count, peak, race, scaling
from pytest_llmgrind.collect import Stage
from pytest_llmgrind.grading import GRADING
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.seeds import generator

__all__ = ["baseline", "count", "peak", "race", "reference", "rng", "scaling", "solution"]


@pytest.fixture(scope="module")
def solution(request: pytest.FixtureRequest) -> ModuleType:
    """The code that is graded."""
    return request.config.stash[GRADING].solution(_challenge(request))


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> ModuleType:
    """The model solution."""
    return request.config.stash[GRADING].reference(_challenge(request))


@pytest.fixture(scope="module")
def baseline(request: pytest.FixtureRequest) -> ModuleType:
    """``hidden/baseline.py``: the naive way."""
    return request.config.stash[GRADING].baseline(_challenge(request))


def _challenge(request: pytest.FixtureRequest) -> Manifest:
    stage = request.node.getparent(Stage)
    if stage is None:
        pytest.fail(f"{request.fixturename} is for the hidden tests of a challenge", pytrace=False)
    return stage.challenge  # type: ignore[no-any-return]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator that is seeded from the test's id: the same numbers in every run."""
    return generator(request.node.nodeid)
