"""Undoes what solution code changes around itself, and says so."""

from __future__ import annotations

import operator
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from pytest_llmgrind.plain import line

MODULES: tuple[ModuleType, ...] = (np, np.linalg, np.random, random)
"""Modules whose functions are put back: a solution that patches one changes every later test."""

Note = Callable[[str], None]


@contextmanager
def isolated(note: Note) -> Iterator[None]:
    """Run a block; restore process-wide state after it and ``note`` each change.

    Watched are the working directory, the environment, the global seeds of ``random``, NumPy and
    torch, NumPy's error state and print options, torch's defaults, the recursion limit, functions
    of NumPy, and warnings. Whatever pytest was told of warnings, inside none is an error.
    """
    with warnings.catch_warnings(record=True) as caught, _usual_errors(), _daemon_threads():
        warnings.simplefilter("always")
        before = [(state, state.read()) for state in _STATES if state.is_there()]
        try:
            yield
        finally:
            for state, old in before:
                if not state.same(state.read(), old):
                    state.restore(old)
                    note(f"changed {state.name}")
    for warning in caught:
        if not warning.category.__module__.startswith("hypothesis"):
            note(f"warned: {warning.category.__name__}: {line(str(warning.message))}")


@contextmanager
def unwarned() -> Iterator[None]:
    """Run a block of the grader's: a warning would show a line of a hidden file, or be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _usual_errors() -> Iterator[None]:
    """NumPy's error state as it is where nobody changed it, whatever a conftest.py did."""
    with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        yield


@contextmanager
def _daemon_threads() -> Iterator[None]:
    """Threads that are started inside do not keep the process alive when they hang."""
    thread: Any = threading.current_thread()
    was, thread._daemonic = thread._daemonic, True  # a new thread takes it from its parent
    try:
        yield
    finally:
        thread._daemonic = was


@dataclass(frozen=True)
class _State:
    """Something process-wide: how to read it, to put it back, and to see that it changed."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    same: Callable[[Any, Any], bool] = lambda left, right: bool(left == right)
    needs: str = ""

    def is_there(self) -> bool:
        return not self.needs or self.needs in sys.modules


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _back_to(directory: str) -> None:
    if directory:
        os.chdir(directory)


def _environment() -> dict[str, str]:
    """Without what pytest itself writes there for each test."""
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}


def _restore_environment(before: dict[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _numpy_seed() -> Any:
    return np.random.get_state(legacy=False)


def _same_numpy_seed(left: Any, right: Any) -> bool:
    a, b = left["state"], right["state"]
    return bool(a["pos"] == b["pos"]) and bool(np.array_equal(a["key"], b["key"]))


def _functions() -> list[dict[str, Any]]:
    return [dict(vars(module)) for module in MODULES]


def _same_functions(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    """Names that came later do not count: NumPy loads some of its modules on first use."""
    pairs = zip(now, before, strict=True)
    return all(all(map(operator.is_, map(new.get, old), old.values())) for new, old in pairs)


def _restore_functions(before: list[dict[str, Any]]) -> None:
    for module, old in zip(MODULES, before, strict=True):
        vars(module).update(old)


def _torch() -> Any:
    return sys.modules["torch"]


def _torch_defaults() -> tuple[Any, ...]:
    torch = _torch()
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()


def _restore_torch_defaults(before: tuple[Any, ...]) -> None:
    torch, (dtype, grad, threads) = _torch(), before
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    torch.set_num_threads(threads)


_STATES = (
    _State("the working directory", _cwd, _back_to),
    _State("the environment", _environment, _restore_environment),
    _State("the global seed of random", random.getstate, random.setstate),
    _State("numpy's global seed", _numpy_seed, np.random.set_state, _same_numpy_seed),
    _State("numpy's error state", np.geterr, lambda old: np.seterr(**old)),
    _State("numpy's print options", np.get_printoptions, lambda o: np.set_printoptions(**o)),
    _State("functions of numpy", _functions, _restore_functions, _same_functions),
    _State("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    _State(
        "torch's global seed",
        lambda: _torch().get_rng_state(),
        lambda state: _torch().set_rng_state(state),
        lambda left, right: bool((left == right).all()),
        needs="torch",
    ),
    _State("torch's defaults", _torch_defaults, _restore_torch_defaults, needs="torch"),
)
