"""What a failed test saw of a solution, and whether a planted bug gives exactly that.

Three kinds: the value that a check refused, the exception that the solution's code raised, the
figure of a budget that is counted. What is timed is no evidence: two mistakes may be as slow.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pytest_llmgrind import plain
from pytest_llmgrind.budget import OverBudget
from pytest_llmgrind.check import RuleBroken, tolerance
from pytest_llmgrind.contenders import Contenders
from pytest_llmgrind.replay import call_of
from pytest_llmgrind.rounds import CANDIDATE
from pytest_llmgrind.seeds import generator

KNOWN = {"solution", "reference", "baseline", "rng"}
EXACT = {"count", "peak", "scaling"}
SAME_PEAK = 0.01
"""Relative: what the allocator rounds."""
NEAR = 0.05
"""How far a planted bug's value may lie from what was seen, of how far the right one lies."""
_DIGIT = re.compile(r"\d")

Evidence = Callable[[ModuleType], bool]
"""Whether a planted bug, in the solution's place, gives the same."""


def of(item: pytest.Function, error: BaseException, *, is_theirs: bool) -> Evidence | None:
    """What ``error`` says of the solution; None where it says too little.

    ``is_theirs``: the solution's own code raised it.
    """
    names = set(item._fixtureinfo.argnames) - _fixed(item)
    if isinstance(error, OverBudget):
        kinds = names & EXACT
        exact = error.figure is not None and len(kinds) == 1 and names <= KNOWN | kinds
        return _Figure(item, error, kinds.pop()) if exact else None
    if "solution" not in names or not names <= KNOWN:
        return None
    if isinstance(error, RuleBroken):
        return _Value(item, error) if _says_something(error.value) else None
    if is_theirs and isinstance(error, Exception) and _DIGIT.search(plain.text_of(error)):
        return _Raised(item, error)
    return None


def is_exclusive(evidence: Evidence) -> bool:
    """Whether only a bug of the same rule gives the same: what is over a budget breaks its rule."""
    return isinstance(evidence, _Figure)


@dataclass(frozen=True)
class _Value:
    """The same check, on the same input, refused the same value and wanted the same."""

    item: pytest.Function
    broken: RuleBroken

    def __call__(self, bug: ModuleType) -> bool:
        seen = _error_of(call_of(self.item, self.broken, solution=bug))
        if not isinstance(seen, RuleBroken) or seen.where != self.broken.where:
            return False
        try:
            same = _same(self.broken.value, seen.value) and _same(self.broken.want, seen.want)
            return bool(same) and _is_near(self.broken.value, seen.value, self.broken.want)
        except Exception:  # what a solution returns may refuse to be compared, or be no bool
            return False


@dataclass(frozen=True)
class _Raised:
    """The same exception with the same text, numbers included: shapes, indices, sizes."""

    item: pytest.Function
    error: Exception

    def __call__(self, bug: ModuleType) -> bool:
        seen = _error_of(call_of(self.item, self.error, solution=bug))
        same_type = type(seen) is type(self.error)
        return same_type and plain.text_of(seen) == plain.text_of(self.error)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Figure:
    """The same count of the same calls; the same peak, as far as an allocator repeats itself."""

    item: pytest.Function
    over: OverBudget
    kind: str

    def __call__(self, bug: ModuleType) -> bool:
        probe = _Probe(bug, generator(self.item.nodeid).integers(0, 2**32, 4).tolist())
        measure = {"count": probe.count, "peak": probe.peak, "scaling": probe.scaling}[self.kind]
        own = {"solution": bug} if "solution" in self.item._fixtureinfo.argnames else {}
        error = _error_of(call_of(self.item, self.over, **{self.kind: measure}, **own))
        if error is not None or probe.figure is None or self.over.figure is None:
            return False
        allowed = SAME_PEAK * self.over.figure if self.kind == "peak" else 1e-9
        return abs(probe.figure - self.over.figure) <= allowed


@dataclass
class _Probe:
    """Stands in for the fixture of an exact budget, and measures one implementation."""

    bug: ModuleType
    seed: Sequence[int]
    figure: float | None = None

    def count(self, run: Any, *, inputs: Any = tuple, verify: Any = None) -> None:
        self.figure = self._contenders(run, inputs, verify).counts()[CANDIDATE]

    def peak(self, run: Any, *, inputs: Any = tuple, verify: Any = None) -> None:
        self.figure = self._contenders(run, inputs, verify).peaks()[CANDIDATE]

    def scaling(
        self, run: Any, *, sizes: Any, inputs: Any = None, verify: Any = None, of: str = "time"
    ) -> None:
        if of == "count":
            contenders = self._contenders(run, inputs, verify)
            self.figure = contenders.exponents(sorted(set(sizes)))[CANDIDATE]

    def _contenders(self, run: Any, inputs: Any, verify: Any) -> Contenders:
        ready = (lambda rng: ()) if inputs is tuple else inputs
        return Contenders({CANDIDATE: self.bug}, run, ready, verify or (lambda *_: None), self.seed)


def _error_of(call: Callable[[], None]) -> BaseException | None:
    """What a test says of a planted bug; None where nothing broke."""
    try:
        with warnings.catch_warnings(), np.errstate():
            warnings.simplefilter("ignore")
            call()
    except (Exception, RuleBroken) as error:
        return error
    return None


def _says_something(value: Any) -> bool:
    """Neither None nor empty: too many mistakes end there."""
    if isinstance(value, list | tuple | dict | set | frozenset | str):
        return len(value) > 0
    return value is not None and not (isinstance(value, np.ndarray) and value.size == 0)


def _fixed(item: pytest.Function) -> set[str]:
    """Arguments that ``parametrize`` set."""
    callspec = getattr(item, "callspec", None)
    return set(callspec.params) if callspec else set()


def _is_near(value: Any, bug: Any, right: Any) -> bool:
    """A planted bug lies far nearer to what was seen than the right value does.

    Two mistakes that are both small, such as two ways to round, are not the same mistake.
    """
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fc"
    if not floats or not isinstance(right, np.ndarray) or value.shape != right.shape:
        return True
    with np.errstate(all="ignore"):
        off_bug, off_right = np.abs(value - bug), np.abs(value - right)
    known = np.isfinite(off_bug) & np.isfinite(off_right)
    if not known.any():
        return True
    return bool(off_bug[known].max() <= NEAR * off_right[known].max())


def _same(left: Any, right: Any) -> bool:
    """Equal up to the rounding that another order of summation leaves."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if not isinstance(left, np.ndarray):
        return left == right  # type: ignore[no-any-return]
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind not in "fc":
        return bool(np.array_equal(left, right))
    finite = left[np.isfinite(left)]
    if left.size > 1 and not finite.any():
        return False  # nothing but NaN, infinity and zeros: a hundred mistakes end there
    scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    n = max(left.size, 64) if left.dtype.itemsize > 2 else 1  # in float16 anything would match
    allowed = tolerance(left.dtype, n, scale)
    return bool(np.allclose(left, right, rtol=0, atol=allowed, equal_nan=True))
