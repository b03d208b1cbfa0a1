"""The public names of a stub, read from its text, and whether a module answers the same calls.

Knows nothing about pytest.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmgrind.plain import an

Function = ast.FunctionDef | ast.AsyncFunctionDef
_UNSET = object()


@dataclass(frozen=True)
class Name:
    """A public function, class or method: ``generate`` or ``Cache.append``."""

    path: str
    line: int
    signature: Signature | None
    todo: str

    @property
    def shown(self) -> str:
        return f"{self.path}{self.signature}" if self.signature else self.path


def names(source: Path) -> tuple[Name, ...]:
    """The public functions, classes, methods and constants of a file, from its text alone.

    Raises SyntaxError or ValueError where the text is not Python.
    """
    tree = ast.parse(source.read_bytes(), str(source))
    return tuple(_names(tree.body, ""))


def untouched(stub: Path, reference: Path) -> bool:
    """Nobody has begun in this stub: what is not a TODO still reads as in the reference."""
    try:
        ours, given = _functions(stub), _functions(reference)
    except (SyntaxError, ValueError, RecursionError, OSError):
        return False
    return all(_todo(f) or _same_text(f, given.get(path)) for path, f in ours.items())


def mismatch(module: ModuleType, wanted: tuple[Name, ...]) -> str:
    """What a module lacks of a stub's names; empty if it answers all the stub's calls."""
    for name in wanted:
        value = _lookup(module, name.path)
        if value is _UNSET:
            return f"{name.path} is missing; the stub has {name.shown} in line {name.line}"
        is_method = "." in name.path
        if name.signature and (reason := _refuses(value, name.signature, is_method)):
            return f"{name.path} {reason}; the stub has {name.shown} in line {name.line}"
    return ""


def _lookup(module: ModuleType, path: str) -> Any:
    first, *rest = path.split(".")
    value = vars(module).get(first, _UNSET)
    for part in rest:
        value = inspect.getattr_static(value, part, _UNSET)
    return value


def _names(body: list[ast.stmt], prefix: str) -> Iterator[Name]:
    for node in body:
        if isinstance(node, Function) and _is_public(node.name) and not _is_property(node):
            signature = _bound(_signature(node)) if _takes_self(node, prefix) else _signature(node)
            yield Name(prefix + node.name, node.lineno, signature, _todo(node))
        elif isinstance(node, ast.ClassDef) and _is_public(node.name):
            yield Name(prefix + node.name, node.lineno, _dataclass_signature(node), "")
            yield from _names(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not prefix:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and _is_public(target.id):
                    yield Name(target.id, node.lineno, None, "")


def _takes_self(node: Function, prefix: str) -> bool:
    static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    return bool(prefix) and not static


def _bound(signature: Signature) -> Signature:
    """As it is called: without ``self`` or ``cls``."""
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind is Parameter.VAR_POSITIONAL:
        return signature
    return signature.replace(parameters=parameters[1:])


def _is_property(node: Function) -> bool:
    """A property is not looked for: a solution may set the attribute in ``__init__``."""
    return any("property" in ast.unparse(d) for d in node.decorator_list)


def _dataclass_signature(node: ast.ClassDef) -> Signature | None:
    """How a data class of the stub is made; None for any other class."""
    texts = [ast.unparse(decorator) for decorator in node.decorator_list]
    text = next((t for t in texts if t.split("(")[0].endswith("dataclass")), None)
    if text is None:
        return None
    kind = Parameter.KEYWORD_ONLY if "kw_only=True" in text else Parameter.POSITIONAL_OR_KEYWORD
    found = []
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            value, annotation = field.value, ast.unparse(field.annotation)
            if "ClassVar" not in annotation and "init=False" not in ast.unparse(value or field):
                found.append(_parameter(ast.arg(field.target.id), kind, value))
    return Signature(found)


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _todo(node: Function) -> str:
    """The text of the lone ``raise NotImplementedError("…")``; empty if there is more to it."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return ""
    raised = body[0].exc
    if not isinstance(raised, ast.Call) or not isinstance(raised.func, ast.Name):
        return ""
    if raised.func.id != "NotImplementedError" or len(raised.args) != 1:
        return ""
    text = raised.args[0]
    return str(text.value) if isinstance(text, ast.Constant) else ""


def _signature(node: Function) -> Signature:
    """The signature as written; defaults and annotations keep their text."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    found = []
    for index, (arg, default) in enumerate(zip(positional, defaults, strict=True)):
        only = index < len(args.posonlyargs)
        kind = Parameter.POSITIONAL_ONLY if only else Parameter.POSITIONAL_OR_KEYWORD
        found.append(_parameter(arg, kind, default))
    if args.vararg:
        found.append(_parameter(args.vararg, Parameter.VAR_POSITIONAL, None))
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found.append(_parameter(arg, Parameter.KEYWORD_ONLY, default))
    if args.kwarg:
        found.append(_parameter(args.kwarg, Parameter.VAR_KEYWORD, None))
    return Signature(found)


class _Text(str):
    """Prints without quotes in a signature."""

    def __repr__(self) -> str:
        return str(self)


def _parameter(arg: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    value: Any = Parameter.empty if default is None else _Text(ast.unparse(default))
    return Parameter(arg.arg, kind, default=value)


def _refuses(value: Any, wanted: Signature, is_method: bool) -> str:
    """Why a value cannot be called as the stub's function can; empty if it can."""
    if isinstance(value, property):
        return ""
    static = isinstance(value, staticmethod)
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if not callable(value):
        return f"is {an(type(value).__name__)}, not a function"
    try:
        actual = inspect.signature(value)
        if is_method and not static:
            actual = _bound(actual)
    except Exception:  # builtins have none, and a solution's own __signature__ may do anything
        return ""
    for args, kwargs in _calls(wanted):
        try:
            actual.bind(*args, **kwargs)
        except TypeError as error:
            return f"takes {_shown(actual)} ({error})"
    return ""


def _shown(signature: Signature) -> str:
    """Names alone: annotations and defaults are long, and their ``repr`` is the solution's."""
    plainly = [p.replace(annotation=Parameter.empty) for p in signature.parameters.values()]
    optional = [
        p if p.default is Parameter.empty else p.replace(default=_Text("…")) for p in plainly
    ]
    return str(Signature(optional))


def _calls(wanted: Signature) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Every argument by position where that is allowed, every one by name, the required alone."""
    ways = wanted.parameters.values()
    plain = [p for p in ways if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    only = [p.name for p in plain if p.kind is Parameter.POSITIONAL_ONLY]
    required = [p for p in plain if p.default is Parameter.empty]
    by_place = [p.name for p in plain if p.kind is not Parameter.KEYWORD_ONLY]
    by_name = [p.name for p in plain if p.kind is not Parameter.POSITIONAL_ONLY]
    keyword_only = [p.name for p in plain if p.kind is Parameter.KEYWORD_ONLY]
    yield by_place, {name: name for name in keyword_only}
    yield only, {name: name for name in by_name}
    yield (
        [p.name for p in required if p.kind is not Parameter.KEYWORD_ONLY],
        {p.name: p.name for p in required if p.kind is Parameter.KEYWORD_ONLY},
    )


def _functions(source: Path) -> dict[str, Function]:
    tree = ast.parse(source.read_bytes(), str(source))
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            inner = [f for f in node.body if isinstance(f, Function)]
            found.update({f"{node.name}.{f.name}": f for f in inner})
    return found


def _same_text(ours: Function, given: Function | None) -> bool:
    return given is not None and _code(ours) == _code(given)


def _code(node: Function) -> str:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return ast.dump(node.args) + "".join(ast.dump(statement) for statement in body)
