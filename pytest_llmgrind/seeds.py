"""Random numbers that are the same in every run."""

from __future__ import annotations

import hashlib
import os

import numpy as np

SECRET = "LLMGRIND_SEED"
"""An environment variable: whoever grades for a leaderboard draws other inputs than practice."""


def generator(nodeid: str) -> np.random.Generator:
    """The ``rng`` of a test; the directory that it lies in does not matter."""
    return np.random.default_rng(list(_digest(nodeid.rpartition("/")[2])))


def secret() -> str:
    return os.environ.get(SECRET, "")


def secret_hash() -> str | None:
    """What may be published beside a verdict; None where there is no secret."""
    return hash_of(secret())


def hash_of(secret: str) -> str | None:
    return hashlib.sha256(secret.encode()).hexdigest() if secret else None


def secret_number(name: str) -> int | None:
    """A seed for Hypothesis; None where examples follow from the test's text alone."""
    return int.from_bytes(_digest(name)[:8], "big") if secret() else None


def _digest(name: str) -> bytes:
    return hashlib.sha256(f"{secret()}{name}".encode()).digest()
