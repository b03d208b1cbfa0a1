"""Undoes what solution code changes around itself, and says so."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def isolated(note: Callable[[str], None]) -> Iterator[None]:
    """Run a block; restore process-wide state after it and ``note`` each change.

    Watched are the working directory, the environment, the global seeds of ``random`` and NumPy,
    NumPy's error state and print options, and warnings.
    """
    before = {name: read() for name, (read, _, _) in _STATE.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for name, (read, restore, same) in _STATE.items():
                if not same(read(), before[name]):
                    restore(before[name])
                    note(f"changed {name}")
    for warning in caught:
        note(f"warned: {warning.category.__name__}: {_line(warning.message)}")


def _line(message: object) -> str:
    return " ".join(str(message).split())[:120]


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _restore_environment(before: dict[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _numpy_seed() -> Any:
    return np.random.get_state(legacy=False)


def _same(left: Any, right: Any) -> bool:
    return bool(left == right)


def _same_seed(left: Any, right: Any) -> bool:
    a, b = left["state"], right["state"]
    return bool(a["pos"] == b["pos"]) and bool(np.array_equal(a["key"], b["key"]))


def _environment() -> dict[str, str]:
    """Without what pytest itself writes there for each test."""
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}


_State = tuple[Callable[[], Any], Callable[[Any], None], Callable[[Any, Any], bool]]
_STATE: dict[str, _State] = {
    "the working directory": (_cwd, os.chdir, _same),
    "the environment": (_environment, _restore_environment, _same),
    "the global seed of random": (random.getstate, random.setstate, _same),
    "numpy's global seed": (_numpy_seed, np.random.set_state, _same_seed),
    "numpy's error state": (np.geterr, lambda state: _restore_errors(state), _same),
    "numpy's print options": (
        np.get_printoptions, lambda state: np.set_printoptions(**state), _same
    ),
}


def _restore_errors(state: Any) -> None:
    np.seterr(**state)
