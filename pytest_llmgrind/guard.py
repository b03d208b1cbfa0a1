"""What solution code may not do: imports, forbidden names, hidden files.

A fence for the honest, not a wall: see docs/judging.md. Knows nothing about pytest.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_llmgrind.manifest import Imports

ALWAYS = frozenset(
    "__future__ abc bisect collections contextlib copy dataclasses enum functools heapq itertools "
    "math numbers operator random statistics string time types typing warnings".split()
)
"""Modules that every solution may import: they hold no answer and reach no file."""


class Forbidden(Exception):
    """Solution code did what the challenge forbids; the text names it."""


def violations(source: str, path: Path, rules: Imports) -> Iterator[tuple[int, str]]:
    """Line and text of each forbidden import or name that can be seen in the text.

    Raises SyntaxError where the text is not Python.
    """
    finder = _Finder(rules)
    finder.visit(ast.parse(source, str(path)))
    yield from sorted(finder.found)


def allowed(name: str, rules: Imports) -> bool:
    """Whether a module may be imported."""
    top = name.partition(".")[0]
    listed = any(name == entry or name.startswith(entry + ".") for entry in rules.imports)
    return (top in ALWAYS or listed) and not forbidden(name, rules)


def forbidden(name: str, rules: Imports) -> str:
    """The entry of ``forbid`` that a dotted name falls under, or an empty text."""
    hits = (e for e in rules.forbid if name == e or name.startswith(e + "."))
    return next(hits, "")


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
        raise Forbidden(import_text(name, rules))
    for part in fromlist:
        if forbidden(f"{name}.{part}", rules):
            raise Forbidden(f"{name}.{part} is not allowed in this challenge")


def import_text(name: str, rules: Imports) -> str:
    if entry := forbidden(name, rules):
        return f"{entry} is not allowed in this challenge"
    listed = ", ".join(rules.imports) or "nothing"
    return f"import of {name} is not allowed in this challenge; it allows {listed} and {_PLAIN}"


_PLAIN = "the plain parts of the standard library (docs/judging.md)"


class _Finder(ast.NodeVisitor):
    """Follows aliases (``import numpy as np``, ``xp = np``) to dotted names."""

    def __init__(self, rules: Imports) -> None:
        self.rules = rules
        self.alias: dict[str, str] = {}
        self.found: set[tuple[int, str]] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for entry in node.names:
            if not allowed(entry.name, self.rules):
                self.found.add((node.lineno, import_text(entry.name, self.rules)))
            top = entry.name.partition(".")[0]
            self.alias[entry.asname or top] = entry.name if entry.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return
        if not allowed(node.module, self.rules):
            self.found.add((node.lineno, import_text(node.module, self.rules)))
        for entry in node.names:
            self.alias[entry.asname or entry.name] = f"{node.module}.{entry.name}"
            self._use(node, f"{node.module}.{entry.name}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        dotted = self._dotted(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                if dotted:
                    self.alias[target.id] = dotted
                else:
                    self.alias.pop(target.id, None)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if dotted := self._dotted(node):
            self._use(node, dotted)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node, self.alias.get(node.id, node.id))

    def visit_Call(self, node: ast.Call) -> None:
        named = isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1
        if named and isinstance(node.args[1], ast.Constant):
            if base := self._dotted(node.args[0]):
                self._use(node, f"{base}.{node.args[1].value!s}")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A parameter or function that has the name of a builtin is not the builtin."""
        outer = dict(self.alias)
        args = node.args
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]:
            if arg is not None:
                self.alias[arg.arg] = f"<{arg.arg}>"
        self.generic_visit(node)
        self.alias = {**outer, node.name: f"<{node.name}>"}

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.alias.get(node.id, "")
        if isinstance(node, ast.Attribute) and (base := self._dotted(node.value)):
            return f"{base}.{node.attr}"
        return ""

    def _use(self, node: ast.expr | ast.stmt, dotted: str) -> None:
        if entry := forbidden(dotted, self.rules):
            self.found.add((node.lineno, f"{entry} is not allowed in this challenge"))


_fenced: set[str] = set()
_solutions: set[str] = set()
_installed = False


def fence(solution: Path, *directories: Path) -> None:
    """From now on code of ``solution`` (a file or a package) cannot open files below these."""
    global _installed
    _solutions.add(str(solution))
    _fenced.update(str(directory.resolve()) + "/" for directory in directories)
    if not _installed:
        sys.addaudithook(_audit)  # cannot be removed; costs nothing but on "open"
        _installed = True


def unfence() -> None:
    """Forget solutions and directories: a new session begins."""
    _solutions.clear()
    _fenced.clear()


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _solutions or not isinstance(args[0], str) or not _from_solution():
        return
    path = str(Path(args[0]).resolve())
    if any(path.startswith(directory) for directory in _fenced):
        raise Forbidden(f"opening {Path(path).name} is not allowed: it belongs to the grader")


def _from_solution() -> bool:
    """Whether solution code is on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(name == s or name.startswith(s + "/") for s in _solutions):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
