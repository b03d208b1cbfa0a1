"""Hardware tiers: what this machine has, and whether a test may run on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import pytest

MARKERS = {
    "cpu": "runs on any machine",
    "gpu": "needs one GPU",
    "multi_gpu": "needs two GPUs or more",
    "slow": "takes minutes; runs under -m slow or --slow",
}
GPUS_NEEDED = {"gpu": 1, "multi_gpu": 2}


@dataclass(frozen=True)
class Hardware:
    """What pynvml found; ``why`` says why there is no GPU."""

    cores: int
    gpus: tuple[str, ...]
    why: str = ""

    @property
    def shown(self) -> str:
        gpus = ", ".join(self.gpus) or f"no GPU ({self.why})"
        return f"{self.cores} core{'s' if self.cores != 1 else ''}, {gpus}"


@cache
def hardware() -> Hardware:
    """Ask NVML, which creates no CUDA context: one made now would break every later fork."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import pynvml
    except ImportError:
        return Hardware(cores or 1, (), "pip install pytest-llmgrind[gpu] to look for one")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Hardware(cores or 1, (), f"NVML: {error}")
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        names = [_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
    visible = _visible(names, os.environ.get("CUDA_VISIBLE_DEVICES"))
    why = "CUDA_VISIBLE_DEVICES hides all" if names else "NVML counts none"
    return Hardware(cores or 1, visible, "" if visible else why)


def missing(tier: str) -> str:
    """Why a tier cannot run here; empty if it can."""
    needed, found = GPUS_NEEDED.get(tier, 0), hardware()
    if len(found.gpus) >= needed:
        return ""
    have = f"{len(found.gpus)} here" if found.gpus else f"none here ({found.why})"
    return f"{tier}: needs {needed} GPU{'s' if needed > 1 else ''}, {have}"


def tiers_of(item: pytest.Item) -> list[str]:
    return [tier for tier in MARKERS if item.get_closest_marker(tier)]


def wants_slow(config: pytest.Config) -> bool:
    expression = str(config.getoption("markexpr", "") or "")
    return bool(config.getoption("slow")) or "slow" in expression.replace("not slow", "")


def _visible(names: list[str], setting: str | None) -> tuple[str, ...]:
    """CUDA stops reading CUDA_VISIBLE_DEVICES at the first entry that names no device."""
    if setting is None:
        return tuple(names)
    shown = []
    for entry in setting.split(","):
        entry = entry.strip()
        if entry.startswith(("GPU-", "MIG-")):
            shown.append(entry)
        elif entry.isdigit() and int(entry) < len(names):
            shown.append(names[int(entry)])
        else:
            break
    return tuple(shown)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
