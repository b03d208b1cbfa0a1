"""What solution code may import and which names it may use, seen in its text and at run time.

A fence for the honest, not a wall: see docs/judging.md. Knows nothing about pytest.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind.manifest import Imports

_ALWAYS = """
__future__ abc bisect collections contextlib copy dataclasses enum functools heapq itertools math
numbers operator pdb random statistics string time types typing warnings
"""
ALWAYS = frozenset(_ALWAYS.split())
"""Modules that every solution may import: they hold no answer. ``breakpoint()`` imports pdb."""
_PLAIN = "the plain parts of the standard library (docs/judging.md)"


class Forbidden(Exception):
    """Solution code did what the challenge forbids; the text names it."""


def violations(source: bytes, path: Path, rules: Imports) -> list[tuple[int, str]]:
    """Line and text of each forbidden import or name that can be seen in the text.

    Raises SyntaxError or ValueError where the text is not Python.
    """
    tree = ast.parse(source, str(path))
    names = _Names(rules)
    names.bind_top_level(tree)
    names.visit(tree)
    return sorted(names.found)


def allowed(name: str, rules: Imports) -> bool:
    """Whether a module may be imported."""
    top = name.partition(".")[0]
    listed = any(name == entry or name.startswith(entry + ".") for entry in rules.imports)
    return (top in ALWAYS or listed) and not forbidden(name, rules)


def forbidden(name: str, rules: Imports) -> str:
    """The entry of ``forbid`` that a dotted name falls under, or an empty text."""
    hits = (e for e in rules.forbid if name == e or name.startswith(e + "."))
    return next(hits, "")


def forbidden_value(module: ModuleType, rules: Imports) -> str:
    """The entry of ``forbid`` that a module holds under another name; empty if none."""
    values = {id(value) for value in vars(module).values()}
    for entry in rules.forbid:
        top, *rest = entry.split(".")
        target: Any = sys.modules.get(top)
        for part in rest:
            target = getattr(target, part, None)
        if rest and target is not None and id(target) in values:
            return entry
    return ""


def guarded_builtins(rules: Imports, own: str) -> dict[str, Any]:
    """Builtins for a solution's module: its ``import`` refuses what the challenge forbids.

    ``own`` is the module's own name: a package may import its own modules.
    """
    plain: Callable[..., Any] = builtins.__import__

    def guarded(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        if level == 0 and name.partition(".")[0] != own:
            _refuse(name, fromlist or (), rules)
        return plain(name, globals, locals, fromlist, level)

    return {**vars(builtins), "__import__": guarded}


def _refuse(name: str, fromlist: Any, rules: Imports) -> None:
    if not allowed(name, rules):
        raise Forbidden(_import_text(name, rules))
    for part in fromlist:
        if entry := forbidden(f"{name}.{part}", rules):
            raise Forbidden(f"{entry} is not allowed in this challenge")


def _import_text(name: str, rules: Imports) -> str:
    if entry := forbidden(name, rules):
        return f"{entry} is not allowed in this challenge"
    listed = ", ".join(rules.imports) or "nothing"
    return f"import of {name} is not allowed in this challenge; it allows {listed} and {_PLAIN}"


class _Names(ast.NodeVisitor):
    """Follows what each name stands for (``import numpy as np``, ``xp = np``) to dotted names."""

    def __init__(self, rules: Imports) -> None:
        self.rules = rules
        self.means: dict[str, str] = {}
        self.found: set[tuple[int, str]] = set()

    def bind_top_level(self, tree: ast.Module) -> None:
        """A function may use what is bound further down."""
        first = _Names(self.rules)
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first.means[statement.name] = f"<{statement.name}>"
            else:
                first.visit(statement)
        self.means = first.means

    # -- what binds a name ------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for entry in node.names:
            if not allowed(entry.name, self.rules):
                self.found.add((node.lineno, _import_text(entry.name, self.rules)))
            top = entry.name.partition(".")[0]
            self.means[entry.asname or top] = entry.name if entry.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return
        if not allowed(node.module, self.rules):
            self.found.add((node.lineno, _import_text(node.module, self.rules)))
        for entry in node.names:
            if entry.name == "*":
                self._bind_star(node.module)
                continue
            self.means[entry.asname or entry.name] = f"{node.module}.{entry.name}"
            self._use(node, f"{node.module}.{entry.name}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._bind(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target, node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """A parameter or a local function that has the name of a builtin is not the builtin."""
        for outside in (*node.decorator_list, node.args, node.returns):
            if outside is not None:
                self.visit(outside)
        self.means[node.name] = f"<{node.name}>"
        self._inside(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._inside(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.means[node.name] = f"<{node.name}>"
        outer = dict(self.means)
        self.generic_visit(node)
        self.means = outer

    def visit_comprehension_of(self, node: Any) -> None:
        """The ``for`` parts bind the names that the element uses."""
        for part in node.generators:
            self.visit(part)
        for name in ("key", "value", "elt"):
            if hasattr(node, name):
                self.visit(getattr(node, name))

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_comprehension_of

    # -- what uses a name -------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if dotted := self._dotted(node):
            self._use(node, dotted)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if dotted := self._dotted(node):
            self._use(node, dotted)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if dotted := self._dotted(node):
            self._use(node, dotted)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node, self.means.get(node.id, node.id))
        else:
            self.means[node.id] = f"<{node.id}>"

    def _inside(self, args: ast.arguments, body: list[Any]) -> None:
        outer = dict(self.means)
        for name, default in _parameters(args):
            dotted = self._dotted(default) if default is not None else ""
            self.means[name] = dotted or f"<{name}>"
        for node in body:
            self.visit(node)
        self.means = outer

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        pairs = (target, value)
        if all(isinstance(side, ast.Tuple | ast.List) for side in pairs):
            for left, right in zip(target.elts, value.elts, strict=False):  # type: ignore[attr-defined]
                self._bind(left, right)
            return
        self.visit(target)
        if isinstance(target, ast.Name) and (dotted := self._dotted(value)):
            self.means[target.id] = dotted

    def _bind_star(self, module: str) -> None:
        """``from numpy import *`` binds what is forbidden under its own name; to use it is not."""
        for entry in self.rules.forbid:
            if entry.startswith(f"{module}."):
                name = entry.removeprefix(f"{module}.").partition(".")[0]
                self.means[name] = f"{module}.{name}"

    def _dotted(self, node: ast.expr) -> str:
        """``numpy.linalg`` for ``np.linalg``, ``vars(np)["linalg"]``, ``getattr(np, "linalg")``."""
        if isinstance(node, ast.Name):
            return self.means.get(node.id, "")
        base, name = _member(node)
        if base is None or not (dotted := self._dotted(base)) or dotted.startswith("<"):
            return ""
        return f"{dotted}.{name}"

    def _use(self, node: ast.expr | ast.stmt, dotted: str) -> None:
        if entry := forbidden(dotted, self.rules):
            self.found.add((node.lineno, f"{entry} is not allowed in this challenge"))


def _parameters(args: ast.arguments) -> Iterator[tuple[str, ast.expr | None]]:
    """Every parameter with its default."""
    positional = [*args.posonlyargs, *args.args]
    without = [None] * (len(positional) - len(args.defaults))
    yield from zip((a.arg for a in positional), [*without, *args.defaults], strict=True)
    yield from zip((a.arg for a in args.kwonlyargs), args.kw_defaults, strict=True)
    yield from ((a.arg, None) for a in (args.vararg, args.kwarg) if a is not None)


def _member(node: ast.expr) -> tuple[ast.expr | None, str]:
    """The object and the name of an access to a member, however it is written."""
    match node:
        case ast.Attribute(value=base, attr=name):
            return base, name
        case ast.Call(func=ast.Name(id="getattr"), args=[base, ast.Constant(value=name), *_]):
            return base, str(name)
        case ast.Subscript(value=ast.Attribute(value=base, attr="__dict__"), slice=index):
            pass
        case ast.Subscript(value=ast.Call(func=ast.Name(id="vars"), args=[base]), slice=index):
            pass
        case _:
            return None, ""
    return (base, str(index.value)) if isinstance(index, ast.Constant) else (None, "")
