"""What hidden tests say: each helper climbs a ladder and stops at the first rung that breaks.

The rungs are type, shape, dtype, finite, values. A message tells what was seen and how far off it
was. It never tells the value that was wanted, except for shapes and dtypes, which the spec states.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from _pytest.outcomes import Failed

from pytest_llmgrind import arrays, plain
from pytest_llmgrind.arrays import describe

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
    magnitude that takes part. To first order the rounding errors of n additions stay below
    ``n · eps / 2`` times the sum of the magnitudes (Higham, The Accuracy of Floating Point
    Summation, 1993), whatever their order.

    >>> tolerance(np.float32, n=4)
    7.62939453125e-06
    """
    eps = arrays.eps(dtype)
    if eps is None:
        raise Misused(f"check.close compares floating point, not {dtype}; use check.equal")
    if n < 1 or not 0 < scale < float("inf"):
        raise Misused(f"check.close: wanted n >= 1 and a scale above 0, got n={n}, scale={scale}")
    return FACTOR * n * eps * scale


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

    Where ``want`` is a number, any real number or 0-d array will do. With ``finite=False`` NaN and
    infinities have to stand where they stand in ``want``.
    """
    if isinstance(want, (int, float, np.floating)) and not isinstance(want, bool):
        dtype = want.dtype if isinstance(want, np.floating) else np.float64
        left, right = _number(saw, what, given, finite), np.asarray(want, dtype=np.float64)
    elif arrays.is_array(want):
        dtype = want.dtype
        tolerance(dtype)  # refuses what is no floating point
        array(saw, shape=want.shape, dtype=dtype, what=what, given=given, finite=finite)
        left, right = arrays.as_numpy(saw), arrays.as_numpy(want)
    else:
        raise Misused(f"check.close: wanted a float or an array of floats, got {describe(want)}")
    limit = tolerance(dtype, n, arrays.scale(right) if scale is None else scale)
    off = arrays.distance(left, right)
    wrong = off > limit
    if wrong.any():
        _broken(given, what, arrays.how_far(off, wrong), value=saw, want=want)


def equal(saw: Any, want: Any, *, what: str, given: str = "", moved: bool = False) -> None:
    """``saw`` is exactly ``want``: ints, bools, texts, bytes, None, and containers of them.

    Floating point is refused, since two right programs round differently. With ``moved=True``,
    for numbers that were moved and not computed, it is compared bit for bit.
    """
    if isinstance(want, np.ndarray) or arrays.is_tensor(want):
        if arrays.eps(want.dtype) is not None and not moved:
            raise Misused(f"check.equal: {want.dtype} is for check.close, or give moved=True")
        array(saw, shape=want.shape, dtype=want.dtype, what=what, given=given, finite=False)
        differs = ~arrays.identical(arrays.as_numpy(saw), arrays.as_numpy(want))
        if differs.any():
            _broken(given, what, f"differed{arrays.count(differs)}", value=saw, want=want)
        return
    _same_kind(saw, want, what, given, moved)
    if isinstance(want, list | tuple | dict):
        _equal_items(saw, want, what, given, moved)
    elif saw != want:
        text = f"came back as {plain.repr_of(saw)}, which is not right"
        _broken(given, what, text, value=saw, want=want)


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
    if wanted := arrays.not_a_plain_array(saw, torch=arrays.is_torch_dtype(dtype)):
        _broken(given, what, f"came back as {describe(saw)}, wanted {wanted}", value=saw)
    if tuple(saw.shape) != tuple(shape):
        text = f"had shape {tuple(saw.shape)}, wanted {tuple(shape)}"
        _broken(given, what, text, value=saw)
    if saw.dtype != dtype:
        wanted = dtype if arrays.is_torch_dtype(dtype) else np.dtype(dtype)
        _broken(given, what, f"had dtype {saw.dtype}, wanted {wanted}", value=saw)
    if finite:
        _finite(saw, what, given)
    return saw


def that(condition: Any, *, saw: str, given: str = "", value: Any = None) -> None:
    """The condition holds; ``saw`` says what was seen where it does not.

    ``value`` is what the solution returned: evidence by which a planted bug is recognised.
    """
    try:
        holds = bool(condition)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Misused(f"check.that: wanted a condition, got {describe(condition)}") from error
    if not holds:
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
    """``call(*args, **kwargs)`` raises ``error``; its text names the argument ``names``.

    ``what`` names the call. A solution that is not begun stays one: NotImplementedError passes.
    """
    try:
        result = call(*args, **kwargs)
    except NotImplementedError:
        raise
    except error as raised:
        message = plain.message_of(raised, 2000)
        if names and not re.search(rf"(?<!\w){re.escape(names)}(?!\w)", message):
            text = f"raised {plain.text_of(raised)}, which does not name {names}"
            _broken(given, what, text, value=message, cause=raised)
        return
    except Exception as raised:
        text = f"raised {plain.text_of(raised)}, wanted {error.__name__}"
        _broken(given, what, text, value=text, cause=raised)
    _broken(given, what, f"returned {describe(result)}, wanted {error.__name__}", value=result)


@contextmanager
def unchanged(*, given: str = "", **inputs: Any) -> Iterator[None]:
    """None of the inputs differs after the block: arrays, and containers of arrays; None is one."""
    before = {name: np.array(array, copy=True) for name, array in arrays.named(inputs)}
    yield
    for name, after in arrays.named(inputs):
        old, what = before.get(name), f"the argument {name}"
        if old is None or after.shape != old.shape or after.dtype != old.dtype:
            _broken(given, what, "had another shape or dtype after the call", value=after)
        differs = ~arrays.identical(after, old)
        if differs.any():
            _broken(given, what, f"was modified by the call{arrays.count(differs)}", value=after)


def fresh(saw: Any, *, what: str, given: str = "", **inputs: Any) -> None:
    """``saw`` stays as it is when the inputs are overwritten: it is no view of them.

    The inputs are as before when this returns.
    """
    results = [("", array) for _, array in arrays.named({"": saw})]
    before = [np.array(array, copy=True) for _, array in results]
    for name, array in arrays.named(inputs):
        kept = np.array(array, copy=True)
        try:
            array[...] = np.where(kept == 0, 1, 0).astype(array.dtype)
            same = [arrays.identical(r, b).all() for (_, r), b in zip(results, before, strict=True)]
        except ValueError as error:
            raise Misused(f"check.fresh: the input {name} cannot be written: {error}") from error
        finally:
            if array.flags.writeable:
                array[...] = kept
        if not all(same):
            text = f"shares memory with the argument {name}: writing to one changes the other"
            _broken(given, what, text, value=before)


# -- rungs and words ----------------------------------------------------------------------------


def _broken(
    given: str,
    what: str,
    text: str,
    *,
    value: Any = None,
    want: Any = None,
    cause: Exception | None = None,
) -> NoReturn:
    where = f"{given}: {what}" if given else what
    raise RuleBroken(f"{where} {text}", where=where, value=value, want=want) from cause


def _number(saw: Any, what: str, given: str, finite: bool) -> Any:
    value = arrays.real_number(saw)
    if value is None:
        _broken(given, what, f"came back as {describe(saw)}, wanted a number", value=saw)
    if finite:
        _finite(value, what, given)
    return value


def _finite(saw: Any, what: str, given: str) -> None:
    values = arrays.as_numpy(saw)
    if values.dtype.kind not in "fc":
        return
    for name, bad in (("NaN", np.isnan(values)), ("infinity", np.isinf(values))):
        if bad.any():
            text = f"held {name}{arrays.count(bad)}" if values.ndim else f"came back as {values}"
            _broken(given, what, text, value=saw)


def _same_kind(saw: Any, want: Any, what: str, given: str, moved: bool) -> None:
    kind, accepted = _accepted(want)
    if kind is None or (kind is float and not moved):
        raise Misused(f"check.equal: {describe(want)} is not compared exactly; see check.close")
    if not isinstance(saw, accepted) or (kind is int and isinstance(saw, bool)):
        wanted = "None" if want is None else plain.an(kind.__name__)
        _broken(given, what, f"came back as {describe(saw)}, wanted {wanted}", value=saw, want=want)


def _accepted(want: Any) -> tuple[type | None, tuple[type, ...]]:
    """What kind of value is wanted, and the types that count as one."""
    kinds: dict[type, tuple[type, ...]] = {
        bool: (bool, np.bool_),
        int: (int, np.integer),
        float: (float, np.floating),
        type(None): (type(None),),
    }
    kinds |= {kind: (kind,) for kind in (str, bytes, list, tuple, dict, set, frozenset)}
    for kind, accepted in kinds.items():
        if isinstance(want, accepted):
            return kind, accepted
    return None, ()


def _equal_items(saw: Any, want: Any, what: str, given: str, moved: bool) -> None:
    if len(saw) != len(want):
        text = f"had {len(saw)} items, wanted {len(want)}"
        _broken(given, what, text, value=saw, want=want)
    if isinstance(want, dict):
        if saw.keys() != want.keys():
            extra = next(iter(saw.keys() - want.keys()))
            text = f"had the key {plain.repr_of(extra)}, which is not right"
            _broken(given, what, text, value=saw, want=want)
        pairs = [(key, saw[key], want[key]) for key in want]
    else:
        pairs = [(i, *pair) for i, pair in enumerate(zip(saw, want, strict=True))]
    for key, left, right in pairs:
        equal(left, right, what=f"{what}[{plain.repr_of(key)}]", given=given, moved=moved)
