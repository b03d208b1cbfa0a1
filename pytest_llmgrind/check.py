"""What hidden tests say: each helper climbs a ladder and stops at the first rung that breaks.

The rungs are type, shape, dtype, finite, values. A message tells what was seen and how far off it
was. It never tells the value that was wanted, except for shapes and dtypes, which the spec states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from _pytest.outcomes import Failed

# ``pytest.fail.Exception`` by its importable name: a BaseException, so that a solution's
# ``except Exception`` around a callable that a test passed in does not swallow a verdict.

FACTOR = 16
"""Headroom over one rounding error an addition; measured on unusual orders of summation."""


class RuleBroken(Failed):
    """A check did not hold.

    ``saw`` is the sentence for the learner. ``where`` (the input and the name of the value),
    ``value`` and ``want`` stay in this process: the diagnosis compares them.
    """

    def __init__(self, saw: str, *, where: str = "", value: Any = None, want: Any = None) -> None:
        super().__init__(saw, pytrace=False)
        self.saw = saw
        self.where = where
        self.value = value
        self.want = want


class Misused(Exception):
    """A hidden test called a check in a way that it does not answer: its author's mistake."""


def tolerance(dtype: Any, n: int = 1, scale: float = 1.0) -> float:
    """How far two right answers may lie apart: ``16 · n · eps(dtype) · scale``.

    ``n`` is the length of the longest chain of additions behind one element, ``scale`` the largest
    magnitude that takes part. Rounding errors of n additions stay below ``n · eps · scale``
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5 to first order).

    >>> tolerance(np.float32, n=4)
    7.62939453125e-06
    """
    return FACTOR * n * float(np.finfo(dtype).eps) * scale


def close(
    saw: Any,
    want: Any,
    *,
    what: str,
    given: str = "",
    n: int = 1,
    scale: float | None = None,
    finite: bool = True,
) -> None:
    """``saw`` has the shape and dtype of ``want`` and lies within ``tolerance`` of it.

    Where ``want`` is a Python float, any real number or 0-d array will do. With ``finite=False``
    NaN and infinities have to stand where they stand in ``want``.
    """
    if isinstance(want, (int, float)):
        saw, want = _number(saw, what, given), np.float64(want)
    else:
        array(saw, shape=want.shape, dtype=want.dtype, what=what, given=given, finite=finite)
    left, right = _numpy(saw), _numpy(want)
    if left.size == 0:
        return
    limit = tolerance(right.dtype, n, _scale(right) if scale is None else scale)
    off = _distance(left, right)
    wrong = off > limit
    if wrong.any():
        _broken(given, what, _worst(off, wrong), value=saw, want=want)


def equal(saw: Any, want: Any, *, what: str, given: str = "") -> None:
    """``saw`` is exactly ``want``: numbers, texts, bytes, sequences of them, integer arrays."""
    if isinstance(want, np.ndarray):
        array(saw, shape=want.shape, dtype=want.dtype, what=what, given=given, finite=False)
        differs = np.asarray(saw != want)
        if differs.any():
            _broken(given, what, _first(differs), value=saw, want=want)
        return
    if not _same_kind(saw, want):
        _broken(given, what, f"is {_describe(saw)}, wanted {_kind(want)}", value=saw, want=want)
    if isinstance(want, (list, tuple)):
        _equal_items(list(saw), list(want), what, given)
    elif saw != want:
        _broken(given, what, f"is {_short(saw)}, which is not right", value=saw, want=want)


def array(
    saw: Any,
    *,
    shape: Sequence[int],
    dtype: Any,
    what: str,
    given: str = "",
    finite: bool = True,
) -> Any:
    """``saw`` is an array of that shape and dtype, without NaN or infinity; returns it."""
    torch = "torch" in str(dtype)
    if not hasattr(saw, "detach" if torch else "__array_interface__") or not hasattr(saw, "shape"):
        wanted = "a torch tensor" if torch else "a NumPy array"
        _broken(given, what, f"is {_describe(saw)}, wanted {wanted}", value=saw)
    if tuple(saw.shape) != tuple(shape):
        _broken(given, what, f"has shape {tuple(saw.shape)}, wanted {tuple(shape)}", value=saw)
    if saw.dtype != dtype:
        wanted = dtype if torch else np.dtype(dtype)
        _broken(given, what, f"has dtype {saw.dtype}, wanted {wanted}", value=saw)
    if finite:
        _finite(saw, what, given)
    return saw


def that(condition: Any, *, saw: str, given: str = "", value: Any = None) -> None:
    """The condition holds; ``saw`` says what was seen where it does not.

    ``value`` is what the solution returned: evidence by which a planted bug is recognised.
    """
    if not condition:
        raise RuleBroken(f"{given}: {saw}" if given else saw, where=given, value=value)


def raises(
    error: type[Exception],
    call: Callable[..., Any],
    /,
    *args: Any,
    what: str,
    given: str = "",
    names: str = "",
    **kwargs: Any,
) -> None:
    """``call(*args, **kwargs)`` raises ``error``; its text names the argument ``names``."""
    try:
        result = call(*args, **kwargs)
    except NotImplementedError:
        raise
    except error as raised:
        if names and names not in str(raised):
            text = f"raised {type(raised).__name__} without naming {names}: {_short(str(raised))}"
            _broken(given, what, text, value=str(raised))
        return
    except Exception as raised:
        text = f"raised {type(raised).__name__}, wanted {error.__name__}: {_short(str(raised))}"
        _broken(given, what, text, value=str(raised))
    _broken(given, what, f"returned {_describe(result)}, wanted {error.__name__}", value=result)


@contextmanager
def unchanged(*, given: str = "", **arrays: Any) -> Iterator[None]:
    """None of the arrays differs after the block."""
    before = {name: np.array(_numpy(value), copy=True) for name, value in arrays.items()}
    yield
    for name, value in arrays.items():
        after = _numpy(value)
        if after.shape != before[name].shape or after.dtype != before[name].dtype:
            _broken(given, f"the argument {name}", "has another shape or dtype after the call")
        same = _identical(after, before[name])
        if not same.all():
            text = f"was modified by the call, first at index {_index(~same)}"
            _broken(given, f"the argument {name}", text, value=after)


def _broken(given: str, what: str, text: str, *, value: Any = None, want: Any = None) -> NoReturn:
    where = f"{given}: " if given else ""
    raise RuleBroken(f"{where}{what} {text}", where=f"{where}{what}", value=value, want=want)


def _number(saw: Any, what: str, given: str) -> Any:
    try:
        value = np.asarray(_numpy(saw), dtype=np.float64)
    except (TypeError, ValueError):
        value = np.zeros(1)
    if value.ndim or isinstance(saw, (bool, str, list, tuple)):
        _broken(given, what, f"is {_describe(saw)}, wanted a number", value=saw)
    _finite(value, what, given)
    return value


def _numpy(value: Any) -> Any:
    """A torch tensor as an array, anything else as NumPy sees it."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        return value.numpy()
    return np.asarray(value)


def _scale(want: Any) -> float:
    magnitudes = np.abs(want[np.isfinite(want)])
    return max(1.0, float(magnitudes.max())) if magnitudes.size else 1.0


def _finite(saw: Any, what: str, given: str) -> None:
    values = _numpy(saw)
    if values.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(values)
    if bad.any():
        nan = int(np.isnan(values).sum())
        kind = "NaN" if nan else "infinite values"
        count = nan or int(bad.sum())
        at = "" if values.ndim == 0 else f", first at index {_index(bad)}"
        _broken(given, what, f"has {count} {kind} of {values.size}{at}", value=saw)


def _distance(left: Any, right: Any) -> Any:
    """Elementwise distance; 0 where both are the same NaN or infinity, inf where only one is."""
    left, right = (
        v.astype(np.complex128 if v.dtype.kind == "c" else np.float64) for v in (left, right)
    )
    with np.errstate(all="ignore"):
        off = np.abs(left - right)
    odd = ~(np.isfinite(left) & np.isfinite(right))
    return np.where(odd, np.where(_identical(left, right), 0.0, math.inf), off)


def _identical(left: Any, right: Any) -> Any:
    same = np.asarray(left == right)
    if left.dtype.kind in "fc":
        same = same | (np.isnan(left) & np.isnan(right))
    return same


def _worst(off: Any, wrong: Any) -> str:
    if off.ndim == 0:
        return f"is off by {float(off):.2g}"
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
    count = f"{int(wrong.sum())} of {off.size} elements are wrong"
    if math.isinf(float(off[at])):
        return f"has NaN or infinity where it should not, or lacks it, at index {at}; {count}"
    return f"off by {float(off[at]):.2g} at index {at}; {count}"


def _first(differs: Any) -> str:
    if differs.ndim == 0:
        return "is not right"
    count = f"{int(differs.sum())} of {differs.size} elements are wrong"
    return f"wrong at index {_index(differs)}; {count}"


def _index(mask: Any) -> tuple[int, ...]:
    """The first True of a mask as plain ints."""
    flat = int(np.argmax(mask))
    return tuple(int(i) for i in np.unravel_index(flat, np.shape(mask)))


def _same_kind(saw: Any, want: Any) -> bool:
    if isinstance(want, bool):
        return isinstance(saw, (bool, np.bool_))
    if isinstance(want, int):
        return isinstance(saw, (int, np.integer)) and not isinstance(saw, bool)
    if isinstance(want, (list, tuple)):
        return isinstance(saw, type(want))
    return isinstance(saw, type(want))


def _equal_items(saw: list[Any], want: list[Any], what: str, given: str) -> None:
    if len(saw) != len(want):
        _broken(given, what, f"has {len(saw)} items, wanted {len(want)}", value=saw, want=want)
    for index, (left, right) in enumerate(zip(saw, want, strict=True)):
        if not _same_kind(left, right):
            text = f"holds {_describe(left)} at index {index}, wanted {_kind(right)}"
            _broken(given, what, text, value=saw, want=want)
        if isinstance(right, (list, tuple)):
            _equal_items(list(left), list(right), f"{what}[{index}]", given)
        elif left != right:
            _broken(given, what, f"wrong at index {index}", value=saw, want=want)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, (bool, int, float, str, bytes)):
        return f"{_kind(value)} ({_short(value)})"
    return _kind(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 120 else text[:117] + "..."
