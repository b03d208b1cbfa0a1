"""Interim: replaced by the fixtures of design §6."""

from __future__ import annotations

from typing import Any

import pytest

MEASURED = pytest.StashKey[dict[str, Any]]()


@pytest.fixture
def race() -> None: ...


@pytest.fixture
def scaling() -> None: ...


@pytest.fixture
def peak() -> None: ...


@pytest.fixture
def count() -> None: ...
