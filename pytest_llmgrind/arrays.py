"""Arrays of NumPy and torch as the checks see them. Never imports torch; no pytest."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from pytest_llmgrind import plain


def is_torch_dtype(dtype: Any) -> bool:
    return str(dtype).startswith("torch.")


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """An array of NumPy, a scalar of it, or a tensor."""
    return isinstance(value, np.ndarray | np.generic) or is_tensor(value)


def not_a_plain_array(value: Any, *, torch: bool) -> str:
    """What was wanted in place of ``value``; empty where it is a plain array (or a tensor).

    A subclass such as ``np.matrix`` or ``np.ma.MaskedArray`` gives its operators another meaning.
    """
    if torch:
        return "" if is_tensor(value) else "a torch tensor"
    if type(value) is np.ndarray or isinstance(value, np.generic):
        return ""
    return "a plain NumPy array" if isinstance(value, np.ndarray) else "a NumPy array"


def as_numpy(value: Any) -> Any:
    """A tensor's values as an array, anything else as NumPy sees it."""
    if not is_tensor(value):
        return np.asarray(value)
    value = value.detach().cpu()
    try:
        return value.numpy()
    except TypeError:  # bfloat16 and float8: NumPy has none
        return value.float().numpy()


def eps(dtype: Any) -> float | None:
    """The distance from 1 to the next number of a floating dtype; None for any other dtype."""
    info = sys.modules["torch"].finfo if is_torch_dtype(dtype) else np.finfo
    try:
        return float(info(dtype).eps)
    except (TypeError, ValueError):
        return None


def real_number(value: Any) -> Any:
    """A real number or a 0-d array of one as a 0-d float64 array; None for anything else."""
    if value is None or isinstance(value, list | tuple | dict):
        return None
    try:
        plainly = as_numpy(value)
        if plainly.ndim or plainly.dtype.kind not in "iufO":  # O: a Fraction, a Decimal
            return None
        return plainly.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def scale(values: Any) -> float:
    """The largest finite magnitude, or 1 if that is smaller."""
    magnitudes = np.abs(values[np.isfinite(values)])
    return max(1.0, float(magnitudes.max())) if magnitudes.size else 1.0


def distance(left: Any, right: Any) -> Any:
    """Elementwise distance; 0 where both are the same NaN or infinity, inf where only one is."""
    left, right = (v.astype(np.result_type(v.dtype, np.float64)) for v in (left, right))
    with np.errstate(all="ignore"):
        off = np.abs(left - right)
    odd = ~(np.isfinite(left) & np.isfinite(right))
    return np.where(odd, np.where(identical(left, right), 0.0, math.inf), off)


def identical(left: Any, right: Any) -> Any:
    """Elementwise equality in which NaN equals NaN."""
    same = np.asarray(left == right)
    if left.dtype.kind in "fc":
        same = same | (np.isnan(left) & np.isnan(right))
    return same


def place(mask: Any, flat: int) -> tuple[int, ...]:
    """An index as plain ints: it is printed."""
    return tuple(int(i) for i in np.unravel_index(flat, mask.shape))


def how_far(off: Any, wrong: Any) -> str:
    """How wrong a value is: the largest distance, where, and in how many elements."""
    worst = float(off.max())
    if worst == math.inf:
        return f"had NaN or infinity in the wrong place{count(np.isinf(off))}"
    if off.ndim == 0:
        return f"differed by {worst:.2g}"
    return f"differed by up to {worst:.2g}{count(wrong, at=int(np.argmax(off)))}"


def count(mask: Any, at: int | None = None) -> str:
    """Where, and in how many elements: `` at index (0, 1), in 3 of 34 elements``."""
    if mask.ndim == 0:
        return ""
    index = place(mask, int(np.argmax(mask)) if at is None else at)
    return f" at index {index}, in {int(mask.sum())} of {mask.size} elements"


def describe(value: Any) -> str:
    """What a value is, in a few words: ``None``, ``a list``, ``an array of shape (3,) …``."""
    if value is None:
        return "None"
    if isinstance(value, np.generic):
        name = type(value).__name__.rstrip("_")  # NumPy 1 has bool_ and str_
        return f"{plain.an(name)} ({plain.repr_of(value.item(), 60)})"
    if is_array(value):
        plainly = "tensor" if is_tensor(value) else "array"
        name = plainly if type(value).__name__ in ("ndarray", "Tensor") else type(value).__name__
        return f"{plain.an(name)} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, bool | int | float | complex | str | bytes):
        return f"{plain.an(type(value).__name__)} ({plain.repr_of(value, 60)})"
    return plain.an(type(value).__name__)


def named(inputs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every array of nested inputs, as NumPy sees it, under a name like ``params['w'][0]``."""
    for name, value in inputs.items():
        if isinstance(value, dict):
            yield from named({f"{name}[{k!r}]": v for k, v in value.items()})
        elif isinstance(value, list | tuple) and not _is_number_list(value):
            yield from named({f"{name}[{i}]": v for i, v in enumerate(value)})
        elif value is not None:
            yield name, as_numpy(value)


def _is_number_list(value: Any) -> bool:
    return all(isinstance(v, int | float | np.number) for v in value)
