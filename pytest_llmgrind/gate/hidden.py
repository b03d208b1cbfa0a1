"""Hidden tests, from their text: they speak through check and see the interface alone.

These are heuristics. What they find is worth a look; what they miss shows in graded mode.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pytest_llmgrind.gate.files import hidden_sources
from pytest_llmgrind.gate.finding import Finding
from pytest_llmgrind.manifest import Manifest

INTERFACE = "use what the spec documents: calls, attributes, iteration, callables passed in"
SKIPS = {"skip", "skipif", "xfail", "importorskip", "exit", "skipTest", "SkipTest"}
MODULES = {
    "inspect": INTERFACE,
    "gc": INTERFACE,
    "dis": INTERFACE,
    "mock": INTERFACE,
    "unittest.mock": INTERFACE,
    "tracemalloc": "take the fixture peak",
}
CALLS = {"id", "vars", "dir", "setattr", "delattr"}
ATTRIBUTES = {
    "shares_memory", "may_share_memory", "_getframe", "__array_interface__", "__class__",
    "__closure__", "__code__", "__dict__", "__file__", "__globals__", "__wrapped__",
}  # fmt: skip
IMPLEMENTATIONS = {"solution", "impl"}
CONSTANTS = (None, True, False, ...)

Found = Iterator[tuple[int, str, str]]
"""Line, what is wrong, what to do."""


def check(manifest: Manifest) -> Iterator[Finding]:
    """Every finding about the text of the hidden tests and their helpers."""
    for path in hidden_sources(manifest):
        if path == manifest.baseline:
            continue
        for line, what, cure in sorted(set(_read(path))):
            yield Finding(path, line, what, cure)


def _read(path: Path) -> Found:
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except (SyntaxError, ValueError) as error:
        text = getattr(error, "msg", None) or str(error)
        yield getattr(error, "lineno", None) or 0, f"not Python: {text}", "correct it"
        return
    yield from _tests(tree)
    for function in tree.body:
        yield from _identities(function)
    modules = _imported(tree)
    for node in ast.walk(tree):
        yield from _node(node)
        if isinstance(node, ast.Attribute):
            yield from _attribute(node, modules)
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _tests(tree: ast.Module) -> Found:
    """Tests that pytest would not run, or that draw from two sources."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and "def test" in ast.unparse(node):
            what = f"tests in a class, {node.name}, are never run"
            yield node.lineno, what, "write them as functions"
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name in names:
            yield node.lineno, f"{node.name} is defined twice", "name each after what is true"
        names.add(node.name)
        args = {arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]}
        decorators = (ast.unparse(d).partition("(")[0] for d in node.decorator_list)
        if "rng" in args and "given" in decorators:
            what = f"{node.name} takes rng and draws with given"
            yield node.lineno, what, "draw a seed and make the generator from it"


def _identities(function: ast.stmt) -> Found:
    """`is` between what came from the solution and anything but None, True, False and …"""
    came = set(IMPLEMENTATIONS)
    for node in ast.walk(function):  # a name that is used before it is assigned is not followed
        if isinstance(node, ast.Assign) and _names(node.value) & came:
            came |= {name for target in node.targets for name in _names(target)}
    for node in ast.walk(function):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        constant = any(isinstance(s, ast.Constant) and s.value in CONSTANTS for s in sides)
        by_identity = any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
        if by_identity and not constant and any(_names(side) & came for side in sides):
            yield node.lineno, "`is` compares identities", "compare values"


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _node(node: ast.AST) -> Found:
    match node:
        case ast.Assert():
            yield node.lineno, "a bare assert prints both sides", "speak through check"
        case ast.Import(names=names):
            for entry in names:
                yield from _module(node.lineno, entry.name)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            yield from _module(node.lineno, module)
            for entry in names:
                yield from _module(node.lineno, f"{module}.{entry.name}")
                if module in ("pytest", "unittest") and entry.name in SKIPS:
                    yield _skip(node.lineno, entry.name)
        case ast.FunctionDef(args=arguments):
            if any(arg.arg == "monkeypatch" for arg in [*arguments.args, *arguments.kwonlyargs]):
                yield node.lineno, "monkeypatch looks through the interface", INTERFACE
        case ast.Assign(targets=targets):
            if any(isinstance(t, ast.Attribute) and _root(t) in IMPLEMENTATIONS for t in targets):
                yield node.lineno, "the solution is patched", INTERFACE


def _module(line: int, name: str) -> Found:
    if name in MODULES:
        yield line, f"{name} looks through the interface", MODULES[name]


def _skip(line: int, name: str) -> tuple[int, str, str]:
    return line, f"{name} hides a test", "name the hardware in the stage's tiers, or mark it slow"


def _attribute(node: ast.Attribute, modules: set[str]) -> Found:
    root = _root(node)
    private = node.attr.startswith("_") and not node.attr.startswith("__")
    if root in ("pytest", "unittest") and node.attr in SKIPS:
        yield _skip(node.lineno, ast.unparse(node))
    elif node.attr in ATTRIBUTES or ast.unparse(node) == "sys.modules":
        yield node.lineno, f"{ast.unparse(node)} looks through the interface", INTERFACE
    elif private and root not in modules | {"self", "cls"}:
        yield node.lineno, f"{node.attr} is private to the solution", INTERFACE


def _call(node: ast.Call) -> Found:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "id" or (name in CALLS and node.args and _root(node.args[0]) in IMPLEMENTATIONS):
        yield node.lineno, f"{name}() looks through the interface", INTERFACE
    if name in ("isinstance", "issubclass") and len(node.args) == 2:
        types = [_root(t) for t in ast.walk(node.args[1]) if isinstance(t, ast.Attribute)]
        if IMPLEMENTATIONS & set(types):
            yield node.lineno, f"{name} asks for a class that the solution defines", INTERFACE


def _imported(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(entry.asname or entry.name).partition(".")[0] for entry in node.names}
    return found


def _root(node: ast.AST) -> str:
    """``solution`` in ``solution.a.b``; empty where the chain begins with a call."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
