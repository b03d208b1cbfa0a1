"""Stub and reference: the same public names, the same signatures, told in docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import interface
from pytest_llmgrind.gate.files import reference_file
from pytest_llmgrind.gate.finding import Finding
from pytest_llmgrind.manifest import Manifest

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Public:
    """A public name as its file writes it: ``def f(x: int) -> int``, ``class C``, ``K = 3``."""

    line: int
    shown: str
    documented: bool


def readable(manifest: Manifest) -> bool:
    """Whether both files are Python: else nothing can be run."""
    return all(isinstance(_tree(p), ast.Module) for p in (manifest.stub, reference_file(manifest)))


def check(manifest: Manifest) -> Iterator[Finding]:
    """Every finding from the text of the two files; nothing is imported."""
    stub, reference = _tree(manifest.stub), _tree(reference_file(manifest))
    for tree in (stub, reference):
        if isinstance(tree, Finding):
            yield tree
    if isinstance(stub, ast.Module) and isinstance(reference, ast.Module):
        names = dict(_public(stub.body, ""))
        yield from _differences(manifest, names, dict(_public(reference.body, "")))
        yield from _docstrings(manifest, stub, names)
        yield from _todos(manifest)


def _tree(path: Path) -> ast.Module | Finding:
    try:
        return ast.parse(path.read_text("utf-8"), str(path))
    except (SyntaxError, ValueError) as error:
        line, text = getattr(error, "lineno", None) or 0, getattr(error, "msg", None) or str(error)
        return Finding(path, line, f"not Python: {text}", "correct it")


def _differences(
    manifest: Manifest, stub: dict[str, Public], reference: dict[str, Public]
) -> Iterator[Finding]:
    other = reference_file(manifest)
    for name, ours in stub.items():
        theirs = reference.get(name)
        if theirs is None:
            what = f"{name} is in the stub and not in the reference"
            yield Finding(manifest.stub, ours.line, what, "add it there, or remove it here")
        elif ours.shown != theirs.shown:
            what = f"the stub has `{ours.shown}`, the reference `{theirs.shown}`"
            yield Finding(manifest.stub, ours.line, what, "make them the same")
    for name in (name for name in reference if name not in stub and not name.endswith("__")):
        what = f"{name} is in the reference and not in the stub"
        cure = "add it there, or give it a leading underscore here"
        yield Finding(other, reference[name].line, what, cure)


def _docstrings(manifest: Manifest, tree: ast.Module, stub: dict[str, Public]) -> Iterator[Finding]:
    cure = "say shapes, dtypes, units and errors"
    if ast.get_docstring(tree) is None:
        yield Finding(manifest.stub, 1, "the stub has no docstring", "say what it is in one line")
    for name, public in stub.items():
        if not public.documented:
            yield Finding(manifest.stub, public.line, f"{name} has no docstring", cure)
    if ">>>" not in manifest.stub.read_text("utf-8"):
        what = "no docstring has an example"
        yield Finding(manifest.stub, 1, what, "give one that can be checked by hand, with >>>")


def _todos(manifest: Manifest) -> Iterator[Finding]:
    stages = len(manifest.stages)
    wanted = {f"{manifest.id}, stage {number}" for number in range(1, stages + 1)}
    todos = [name for name in interface.names(manifest.stub) if name.todo]
    if not todos:
        what = "nothing is to do in the stub"
        cure = f'raise NotImplementedError("{manifest.id}, stage 1") where the learner writes'
        yield Finding(manifest.stub, 0, what, cure)
    for name in todos:
        if name.todo not in wanted:
            what = f"{name.path} raises NotImplementedError({name.todo!r})"
            cure = f'write "{manifest.id}, stage N" with N from 1 to {stages}'
            yield Finding(manifest.stub, name.line, what, cure)


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Public]]:
    for node in body:
        if isinstance(node, Function) and _is_public(node.name):
            told = node.name.startswith("__") or ast.get_docstring(node) is not None
            yield prefix + node.name, Public(node.lineno, _signature(node), told)
        elif isinstance(node, ast.ClassDef) and _is_public(node.name):
            told = ast.get_docstring(node) is not None
            yield prefix + node.name, Public(node.lineno, _class(node), told)
            yield from _public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and _is_public(target.id):
                    shown = " ".join(ast.unparse(node).split())
                    yield prefix + target.id, Public(node.lineno, shown, True)


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _signature(node: Function) -> str:
    """Decorators, parameters with annotations and defaults, what is returned."""
    head = "".join(f"@{ast.unparse(decorator)} " for decorator in node.decorator_list)
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{head}{start} {node.name}({ast.unparse(node.args)}){returns}"


def _class(node: ast.ClassDef) -> str:
    head = "".join(f"@{ast.unparse(decorator)} " for decorator in node.decorator_list)
    bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
    return f"{head}class {node.name}{f'({bases})' if bases else ''}"
