"""challenge.toml as frozen dataclasses; a mistake names the file, the key and the cure.

Knows nothing about pytest.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pytest_llmgrind.plain import line, repr_of

MANIFEST = "challenge.toml"
TIERS = ("cpu", "gpu", "multi_gpu", "slow")
KITS = ("np", "torch", "triton")
KINDS = ("race", "scaling", "peak", "count")
TIMED = ("race", "scaling")
TABLES = ("solution", "stage", "budget")
MAY_BE_EMPTY = ("unit", "replace")
ID = re.compile(r"\d{2,3}_[a-z0-9_]+")
NAME = re.compile(r"[a-z][a-z0-9_]*")


class ManifestError(Exception):
    """challenge.toml cannot be used; the text is one line: file, key, what was wanted."""


@dataclass(frozen=True, kw_only=True)
class Imports:
    """What a solution may import, and which dotted names it may not use."""

    imports: tuple[str, ...] = ("numpy",)
    forbid: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a challenge and its hidden test file (path relative to the challenge)."""

    name: str
    file: str
    title: str
    tiers: tuple[str, ...] = ("cpu",)
    kit: str = ""
    """What this stage needs where that is more than the challenge's kit."""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on what the test ``test_<name>`` measures."""

    name: str
    stage: str
    kind: str
    limit: float
    what: str
    unit: str = ""

    @property
    def test(self) -> str:
        return f"test_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A challenge: what challenge.toml says, and where its files are."""

    root: Path
    title: str
    track: str
    summary: str
    version: int = 1
    kit: str = "np"
    minutes: int = 60
    needs: tuple[str, ...] = ()
    timeout: float = 60.0
    solution: Imports
    stages: tuple[Stage, ...]
    budgets: tuple[Budget, ...] = ()

    @property
    def id(self) -> str:
        return self.root.name

    @property
    def file(self) -> Path:
        return self.root / MANIFEST

    @property
    def spec(self) -> Path:
        return self.root / "spec.md"

    @property
    def stub(self) -> Path:
        return self.root / "stub.py"

    @property
    def hidden(self) -> Path:
        return self.root / "hidden"

    @property
    def baseline(self) -> Path:
        return self.hidden / "baseline.py"

    @property
    def bugs(self) -> Path:
        return self.hidden / "bugs.toml"

    @property
    def reference(self) -> Path:
        """The directory of all reference solutions, beside the directory of challenges."""
        return self.root.parent.parent / "reference"

    @cached_property
    def _stages_by_path(self) -> dict[Path, Stage]:
        return {self.root / stage.file: stage for stage in self.stages}

    def stage_at(self, path: Path) -> Stage | None:
        return self._stages_by_path.get(path)

    def stage_number(self, stage: Stage) -> int:
        return self.stages.index(stage) + 1

    def budget_of(self, test_name: str) -> Budget | None:
        return next((b for b in self.budgets if b.test == test_name), None)


def load(root: Path) -> Manifest:
    """The manifest of the challenge directory ``root``.

    Raises
    ------
    ManifestError
        In one line: the file, the key, and what was wanted there.
    """
    file = root / MANIFEST
    try:
        stat = file.stat()
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read: {error.strerror}") from error
    return _load(root, stat.st_mtime_ns, stat.st_size)


def enclosing(path: Path) -> Path | None:
    """The directory of the challenge that ``path`` is or lies in, if any."""
    for root in (path, *path.parents):
        if (root / MANIFEST).is_file():
            return root
    return None


@lru_cache(maxsize=1024)
def _load(root: Path, _mtime_ns: int, _size: int) -> Manifest:
    file = root / MANIFEST
    try:
        table = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # what tomllib and UTF-8 raise is a ValueError
        raise ManifestError(f"{file}: not TOML: {line(str(error))}") from error
    reader = Reader(file)
    solution = reader.build(Imports, table.pop("solution", {}), "solution")
    stages = tuple(reader.each(Stage, table.pop("stage", []), "stage"))
    budgets = tuple(reader.each(Budget, table.pop("budget", []), "budget"))
    given = {"root": root, "solution": solution, "stages": stages, "budgets": budgets}
    manifest: Manifest = reader.build(Manifest, table, "", given=given, tables=TABLES)
    _check(manifest, reader)
    return manifest


@dataclass(frozen=True)
class Reader:
    """Turns TOML tables into dataclasses by the fields' annotations."""

    file: Path

    def fail(self, key: str, wanted: str) -> ManifestError:
        return ManifestError(f"{self.file}: {line(f'{key}: {wanted}', 300)}")

    def each(self, cls: type, tables: Any, key: str) -> Iterator[Any]:
        if not isinstance(tables, list):
            raise self.fail(key, f"wanted [[{key}]] tables, got {_kind(tables)}")
        for number, table in enumerate(tables, start=1):
            yield self.build(cls, table, f"{key} {number}")

    def build(
        self,
        cls: type,
        table: Any,
        where: str,
        *,
        given: Mapping[str, Any] | None = None,
        tables: Sequence[str] = (),
    ) -> Any:
        """``given`` are fields that stand elsewhere, ``tables`` keys that are read apart."""
        given = given or {}
        if not isinstance(table, dict):
            raise self.fail(where, f"wanted a table, got {_kind(table)}")
        known = {f.name: f for f in fields(cls) if f.name not in given}
        prefix = f"{where}." if where else ""
        for key in table:
            if key not in known:
                raise self.fail(prefix + key, f"unknown key{_nearest(key, [*known, *tables])}")
        for name, field in known.items():
            if name not in table and field.default is MISSING:
                raise self.fail(prefix + name, f"missing, wanted {_wanted(field)}")
        values = {k: self.value(known[k], v, prefix + k) for k, v in table.items()}
        return cls(**given, **values)

    def value(self, field: Field[Any], value: Any, key: str) -> Any:
        right = {
            "str": isinstance(value, str) and bool(value or field.name in MAY_BE_EMPTY),
            "int": type(value) is int and value > 0,
            "float": type(value) in (int, float) and 0 < value < math.inf,
            "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
        }[str(field.type)]
        if not right:
            raise self.fail(key, f"wanted {_wanted(field)}, got {_kind(value)}")
        return tuple(value) if isinstance(value, list) else value


def _wanted(field: Field[Any]) -> str:
    return {
        "str": "a text",
        "int": "a whole number above 0",
        "float": "a number above 0",
        "tuple[str, ...]": "a list of texts",
    }[str(field.type)]


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {repr_of(value, 50)}"


def _nearest(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _check(manifest: Manifest, reader: Reader) -> None:
    """What the types alone do not say."""
    if not ID.fullmatch(manifest.id):
        raise reader.fail("directory", f"wanted a name like 04_kv_cache, got {manifest.id}")
    _one_of(reader, "kit", manifest.kit, KITS)
    if not manifest.stages:
        raise reader.fail("stage", "missing, wanted at least one [[stage]]")
    _check_stages(manifest, reader)
    for number, budget in enumerate(manifest.budgets, start=1):
        key = f"budget {number}"
        _one_of(reader, f"{key}.kind", budget.kind, KINDS)
        _one_of(reader, f"{key}.stage", budget.stage, [s.name for s in manifest.stages])
    _check_names(reader, "stage", [stage.name for stage in manifest.stages])
    _check_names(reader, "budget", [budget.name for budget in manifest.budgets])
    _check_unique(reader, "stage", "file", [stage.file for stage in manifest.stages])


def _check_stages(manifest: Manifest, reader: Reader) -> None:
    for number, stage in enumerate(manifest.stages, start=1):
        key = f"stage {number}"
        for tier in stage.tiers:
            _one_of(reader, f"{key}.tiers", tier, TIERS)
        if stage.kit:
            _one_of(reader, f"{key}.kit", stage.kit, KITS)
        path = manifest.root / stage.file
        if path.parent != manifest.hidden or path.suffix != ".py":
            raise reader.fail(f"{key}.file", f"wanted hidden/<name>.py, got {stage.file}")
        if not path.is_file():
            raise reader.fail(f"{key}.file", f"wanted a file, there is no {stage.file}")


def _check_names(reader: Reader, table: str, names: list[str]) -> None:
    for number, name in enumerate(names, start=1):
        if not NAME.fullmatch(name):
            key = f"{table} {number}.name"
            raise reader.fail(key, f"wanted small letters, digits and _, got {name!r}")
    _check_unique(reader, table, "name", names)


def _check_unique(reader: Reader, table: str, key: str, values: list[str]) -> None:
    for number, value in enumerate(values, start=1):
        if value in values[: number - 1]:
            raise reader.fail(f"{table} {number}.{key}", f"{value!r} is taken by another {table}")


def _one_of(reader: Reader, key: str, value: str, allowed: tuple[str, ...] | list[str]) -> None:
    if value not in allowed:
        raise reader.fail(key, f"wanted one of {', '.join(allowed)}, got {value!r}")
