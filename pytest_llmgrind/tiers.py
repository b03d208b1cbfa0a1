"""Hardware tiers and kits: what this machine has, and whether a test may run on it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from pytest_llmgrind.manifest import MANIFEST, TIERS, enclosing

GPUS_NEEDED = {"gpu": 1, "multi_gpu": 2}
KIT_MODULES = {
    "torch": {"torch": "torch"},
    "triton": {"torch": "torch", "triton": "gpu"},
}
"""The modules that a kit needs, each with the extra of ours that installs it."""

LACKING = pytest.StashKey[str]()
"""Why an item cannot run on this machine; set where that ended it."""


class NoHardware(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """A tier that --require-tier names is not there."""


# -- what the machine has -----------------------------------------------------------------------


@dataclass(frozen=True)
class Hardware:
    """What NVML found; ``why`` says why there is no GPU."""

    cores: int
    gpus: tuple[str, ...]
    why: str = ""

    @property
    def shown(self) -> str:
        gpus = ", ".join(self.gpus) or f"no GPU ({self.why})"
        return f"{self.cores} core{'s' if self.cores != 1 else ''}, {gpus}"


@cache
def hardware() -> Hardware:
    """What this process may use."""
    gpus, why = _gpus()
    return Hardware(_cores(), gpus, why)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> tuple[tuple[str, ...], str]:
    """Ask NVML, which creates no CUDA context: one made now would break every later fork."""
    try:
        import pynvml
    except ImportError:
        return (), "pip install pytest-llmgrind[gpu] to look for one"
    try:
        pynvml.nvmlInit()
        try:
            found = list(_devices(pynvml))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    visible = _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if visible:
        return visible, ""
    return (), "CUDA_VISIBLE_DEVICES hides all" if found else "NVML counts none"


def _devices(nvml: ModuleType) -> Iterator[tuple[str, str]]:
    """Name and UUID of each GPU."""
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        yield _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))


def _visible(found: list[tuple[str, str]], setting: str | None) -> tuple[str, ...]:
    """The names that CUDA_VISIBLE_DEVICES leaves.

    CUDA stops reading at the first entry that means no device. An entry is an index, the beginning
    of a UUID, or the name of a slice of a GPU (MIG), which is taken as it stands.
    """
    if setting is None:
        return tuple(name for name, _ in found)
    shown = []
    for entry in map(str.strip, setting.split(",")):
        if entry.startswith("MIG-"):
            meant = [entry]
        elif entry.startswith("GPU-"):
            meant = [name for name, uuid in found if uuid.startswith(entry)]
        else:
            meant = [name for index, (name, _) in enumerate(found) if entry == str(index)]
        if len(meant) != 1:
            break
        shown += meant
    return tuple(shown)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


# -- what a test needs --------------------------------------------------------------------------


def admit(item: pytest.Item) -> None:
    """Skip a test of ours that this machine cannot run, or fail it where that was asked for."""
    wanted = tiers_of(item)
    for tier in wanted:
        if reason := missing(tier):
            _refuse(item, reason, required=tier)
    if "slow" in wanted and not wants_slow(item.config):
        pytest.skip("slow: give --slow or -m slow to run it")


def missing(tier: str) -> str:
    """Why a tier cannot run here; empty if it can."""
    needed, found = GPUS_NEEDED.get(tier, 0), hardware()
    if len(found.gpus) >= needed:
        return ""
    have = f"{len(found.gpus)} here" if found.gpus else f"none here ({found.why})"
    return f"{tier}: needs {needed} GPU{'s' if needed > 1 else ''}, {have}"


def tiers_of(item: pytest.Item) -> list[str]:
    return [tier for tier in TIERS if item.get_closest_marker(tier)]


def wants_slow(config: pytest.Config) -> bool:
    """Whether slow tests run: a test that ``-m "not slow"`` deselected never gets to ask."""
    expression = str(config.getoption("markexpr", "") or "")
    return bool(config.getoption("slow")) or re.search(r"\bslow\b", expression) is not None


def _refuse(item: pytest.Item, reason: str, *, required: str) -> NoReturn:
    item.stash[LACKING] = reason
    if required in item.config.getoption("require_tier"):
        raise NoHardware(f"{reason}; --require-tier {required} makes that a failure")
    pytest.skip(reason)


# -- what a challenge is written with -------------------------------------------------------------


def missing_kit(kit: str) -> str:
    """Why challenges of a kit cannot run here; empty if they can. Imports nothing."""
    for module, extra in KIT_MODULES.get(kit, {}).items():
        if importlib.util.find_spec(module) is None:
            return f"needs {module}: pip install pytest-llmgrind[{extra}]"
    return ""


class WithoutKit(pytest.Item):
    """Stands for a test whose file cannot be imported here: the same id, the same tiers."""

    def __init__(self, *, reason: str, tiers: list[str], line: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason, self.line = reason, line
        for tier in tiers:
            self.add_marker(tier)

    def runtest(self) -> None:
        tier = next((t for t in tiers_of(self) if t in self.config.getoption("require_tier")), "")
        _refuse(self, self.reason, required=tier)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line, self.name


def without_kit(stage: pytest.Module, reason: str) -> Iterator[WithoutKit]:
    """A stand-in for each test of a file, which is read and not run."""
    for node in ast.parse(stage.path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(decorator) for decorator in node.decorator_list]
            tiers = [tier for tier in TIERS if f"pytest.mark.{tier}" in marks]
            yield WithoutKit.from_parent(
                stage, name=node.name, reason=reason, tiers=tiers, line=node.lineno - 1
            )


# -- a tier that no test has ----------------------------------------------------------------------


class Closing:
    """One line at the end."""

    def __init__(self, line: str) -> None:
        self.line = line

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self.line)


def settle(session: pytest.Session) -> None:
    """``-m gpu`` over challenges without a GPU test is no mistake: exit 0, and say so.

    Where ``--require-tier`` names hardware that is missing, it stays a failure.
    """
    config = session.config
    asked = [tier for tier in GPUS_NEEDED if _asks_for(config.getoption("markexpr"), tier)]
    if not asked or config.getoption("keyword") or not _near_challenges(config):
        return
    lacking = [t for t in asked if t in config.getoption("require_tier") and missing(t)]
    session.exitstatus = pytest.ExitCode.TESTS_FAILED if lacking else pytest.ExitCode.OK
    line = f"llmgrind: no test here has the {' or '.join(asked)} tier"
    if lacking:
        line = f"llmgrind: {missing(lacking[0])}; --require-tier {lacking[0]} makes that a failure"
    config.pluginmanager.register(Closing(line), "llmgrind-closing")


def _asks_for(expression: str, tier: str) -> bool:
    """Whether ``-m`` selects a test that has this tier and no other marker, because it has it."""
    from _pytest.mark.expression import Expression

    def selects(marker: str) -> bool:
        def has(name: str, /, **_: Any) -> bool:
            return name == marker

        return bool(Expression.compile(expression).evaluate(has))

    return selects(tier) and not selects("")


def _near_challenges(config: pytest.Config) -> bool:
    """Whether a path of the command line is, holds or lies in a challenge. xdist's controller,
    which collects nothing, has no better way to know."""
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        below = (path.glob(f"{pattern}{MANIFEST}") for pattern in ("*/", "challenges/*/"))
        if enclosing(path) is not None or any(map(any, below)):
            return True
    return False
