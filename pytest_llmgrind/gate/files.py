"""The files of a challenge: all of them, nothing else, and nothing left to write."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pytest_llmgrind.gate.finding import Finding, count, line_of
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.workspace import Workspace

HINTS = 3
TODO = "TODO"


def reference_file(manifest: Manifest) -> Path:
    return manifest.reference / f"{manifest.id}.py"


def hidden_sources(manifest: Manifest) -> list[Path]:
    """Every hidden Python file of the challenge that is there."""
    return sorted(manifest.hidden.glob("*.py"))


def unusable(manifest: Manifest) -> Iterator[Finding]:
    """Files that every challenge has and this one lacks, and files that are no text."""
    for path, what in (
        (manifest.spec, "the task and its rules"),
        (manifest.stub, "what the learner starts from"),
        (reference_file(manifest), "the model solution"),
        (manifest.bugs, "the planted bugs"),
    ):
        if not path.is_file():
            yield Finding(path, 0, "the file is missing", f"write {what}")
    for path in _sources(manifest):
        try:
            path.read_text("utf-8")
        except UnicodeDecodeError as error:
            yield Finding(path, 0, f"not UTF-8: {error}", "save it as UTF-8")


def orphans(workspace: Workspace) -> Iterator[Finding]:
    """References without a challenge."""
    for path in sorted(workspace.reference.glob("*")):
        if path.stem not in workspace.ids and path.name[0] not in "._":
            what = "a reference without a challenge"
            yield Finding(path, 0, what, f"add challenges/{path.stem} or remove it")


def unexpected(manifest: Manifest) -> Iterator[Finding]:
    """Files that nothing reads: leftovers, and stages that the manifest forgot."""
    expected = _expected(manifest)
    for path in sorted(manifest.root.rglob("*")):
        if "__pycache__" in path.parts or path in expected:
            continue
        if path.is_dir() and any(path in other.parents for other in expected):
            continue
        if path.is_dir() or path.parent in (manifest.root, manifest.hidden):
            kind = "directory" if path.is_dir() else "file"
            stage = path.parent == manifest.hidden and path.suffix == ".py"
            cure = "list it as a [[stage]] or remove it" if stage else "remove it"
            yield Finding(path, 0, f"unexpected {kind}", cure)


def _expected(manifest: Manifest) -> set[Path]:
    stages = {manifest.root / stage.file for stage in manifest.stages}
    found = {manifest.file, manifest.spec, manifest.stub, manifest.baseline, manifest.bugs, *stages}
    todo = [*stages, manifest.baseline]
    while todo:  # helper modules, as far as a hidden file imports them
        for name in _imported_here(todo.pop()):
            path = manifest.hidden / f"{name}.py"
            if path not in found and path.is_file():
                found.add(path)
                todo.append(path)
    return found


def _imported_here(path: Path) -> Iterator[str]:
    """The names that ``from . import name`` and ``from .name import …`` import."""
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [entry.name for entry in node.names]
            yield from (name.partition(".")[0] for name in names)


def left_to_write(manifest: Manifest) -> Iterator[Finding]:
    """Lines that still say TODO; in the stub they are the learner's."""
    for path in _sources(manifest):
        numbered = enumerate(path.read_text("utf-8").splitlines(), start=1)
        lines = [number for number, line in numbered if TODO in line and path != manifest.stub]
        if lines:
            says = "line says" if len(lines) == 1 else "lines say"
            what = f"{len(lines)} {says} {TODO}"
            yield Finding(path, lines[0], what, "write what is missing")


def _sources(manifest: Manifest) -> list[Path]:
    """Every text file of the challenge that is there."""
    first = [manifest.file, manifest.spec, manifest.stub, reference_file(manifest), manifest.bugs]
    return [path for path in [*first, *hidden_sources(manifest)] if path.is_file()]


def metadata(manifest: Manifest) -> Iterator[Finding]:
    """What challenge.toml says beyond its types: three hints a stage, needs that exist."""
    for stage in manifest.stages:
        hints = [hint for hint in stage.hints if hint.strip()]
        if len(hints) != HINTS:
            line = line_of(manifest.file, f'name = "{stage.name}"')
            what = f"stage {stage.name} has {count(len(hints), 'hint')}, wanted {HINTS}"
            cure = "write where to look, the idea, almost the line"
            yield Finding(manifest.file, line, what, cure)
    for id in manifest.needs:
        if not (manifest.root.parent / id).is_dir():
            ids = Workspace(manifest.root.parent.parent).ids
            line = line_of(manifest.file, f'"{id}"')
            what = f"needs names {id}, which does not exist"
            yield Finding(manifest.file, line, what, f"name some of {', '.join(ids)}")
