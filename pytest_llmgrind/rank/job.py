"""What the ranks of one launch are to do, and the directory where they leave what they did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind.rank import wire


@dataclass(frozen=True)
class Process:
    """What the function of a rank is told about itself.

    ``init_method`` and ``backend`` are for ``torch.distributed.init_process_group``; ``solution``
    is the module that is tested, imported anew in this process.
    """

    rank: int
    world_size: int
    init_method: str
    backend: str
    solution: ModuleType | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One launch. Its directory, if it has one, holds args-0, ready-0, result-0 and so on."""

    directory: str
    file: str
    function: str
    world_size: int
    init_method: str
    backend: str
    timeout_s: float
    fork: bool
    solution: str = ""
    challenge: str = ""
    preload: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        table = json.loads(text)
        return cls(**{**table, "preload": tuple(table["preload"])})

    def path(self, name: str, rank: int) -> Path:
        return Path(self.directory) / f"{name}-{rank}"

    def write(self, name: str, rank: int, value: Any) -> None:
        """All of it or nothing: a rank may be killed at any time."""
        path = self.path(name, rank)
        part = path.with_suffix(".part")
        part.write_bytes(wire.dumps(value))
        part.replace(path)

    def read(self, name: str, rank: int) -> Any:
        """What a rank left; None where it left nothing."""
        try:
            return wire.loads(self.path(name, rank).read_bytes())
        except FileNotFoundError:
            return None
