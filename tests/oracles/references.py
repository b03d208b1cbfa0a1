"""Loads a reference solution by its id, which is no identifier and so cannot be imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(challenge: str) -> ModuleType:
    path = Path(__file__).parents[2] / "reference" / f"{challenge}.py"
    spec = importlib.util.spec_from_file_location(f"reference_{challenge}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for postponed annotations
    spec.loader.exec_module(module)
    return module
