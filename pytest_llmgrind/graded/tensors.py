"""Tensors of torch, which cross as the array that shares their memory. Imports torch if it must."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from pytest_llmgrind.graded.wire import ProtocolError

PREFIX = "torch."


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def memory_of(tensor: Any) -> tuple[Any, str]:
    """The array that shares its memory, and the name of its dtype, with the prefix."""
    torch, plain = sys.modules["torch"], tensor.detach().cpu()
    try:
        return plain.numpy(), str(plain.dtype)
    except TypeError:  # NumPy has no bfloat16 and no float8
        whole = {1: torch.int8, 2: torch.int16}[plain.element_size()]
        return plain.contiguous().view(whole).numpy(), str(plain.dtype)


def tensor_of(array: Any, name: str) -> Any:
    """The tensor in an array's memory. Raises ProtocolError where torch has no such dtype."""
    dtype, torch = dtype_named(name.removeprefix(PREFIX)), _torch()
    if torch is None or dtype is None:
        raise ProtocolError("a tensor of no dtype that there is")
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype == dtype else tensor.view(dtype)


def dtype_named(name: str) -> Any:
    """torch's dtype of that name; None where it or torch is not there."""
    torch = _torch()
    found = getattr(torch, name, None)
    return found if torch is not None and isinstance(found, torch.dtype) else None


def _torch() -> ModuleType | None:
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None
