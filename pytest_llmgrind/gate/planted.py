"""Planted bugs, from their text: six or more, each one place of the reference, no two alike."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pytest_llmgrind import bugs as planted
from pytest_llmgrind import spec as specs
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.gate.files import reference_file
from pytest_llmgrind.gate.finding import Finding, count, line_of
from pytest_llmgrind.manifest import NAME, Manifest, ManifestError

AT_LEAST = 6


def check(manifest: Manifest) -> Iterator[Finding]:
    """Every finding about the text of bugs.toml and what its patches make of the reference."""
    try:
        bugs = planted.load(manifest)
    except ManifestError as error:
        what = str(error).removeprefix(f"{manifest.bugs}: ")
        yield Finding(manifest.bugs, 0, what, "correct the table")
        return
    if len(bugs) < AT_LEAST:
        what = f"{count(len(bugs), 'planted bug')}, wanted at least {AT_LEAST}"
        yield Finding(manifest.bugs, 0, what, "plant mistakes that people make")
    yield from _names(manifest, bugs)
    yield from _patches(manifest, bugs)


def usable(manifest: Manifest) -> tuple[Bug, ...]:
    """The bugs whose patch fits and gives Python: those that can be run."""
    try:
        bugs = planted.load(manifest)
    except ManifestError:
        return ()
    source = reference_file(manifest).read_text("utf-8")
    return tuple(bug for bug in bugs if not isinstance(_patched(manifest, bug, source), str))


def bug_line(manifest: Manifest, bug: Bug) -> int:
    return line_of(manifest.bugs, f'name = "{bug.name}"')


def _names(manifest: Manifest, bugs: tuple[Bug, ...]) -> Iterator[Finding]:
    spec, seen = specs.load(manifest.spec), set()
    for bug in bugs:
        line = bug_line(manifest, bug)
        if bug.name in seen:
            yield Finding(manifest.bugs, line, f"two bugs are called {bug.name}", "rename one")
        seen.add(bug.name)
        if not NAME.fullmatch(bug.name):
            what = f"bug {bug.name!r}: no name"
            yield Finding(manifest.bugs, line, what, "use small letters, digits and _")
        if spec.rules and spec.rule(bug.rule) is None:
            what = f"bug {bug.name}: there is no rule {bug.rule}"
            known = ", ".join(rule.id for rule in spec.rules)
            yield Finding(manifest.bugs, line, what, f"name the rule that it breaks: {known}")


def _patches(manifest: Manifest, bugs: tuple[Bug, ...]) -> Iterator[Finding]:
    source = reference_file(manifest).read_text("utf-8")
    try:
        plain = ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return  # said by twins.check
    seen = {plain: ""}
    for bug in bugs:
        line = bug_line(manifest, bug)
        tree = _patched(manifest, bug, source)
        if isinstance(tree, str):
            yield Finding(manifest.bugs, line, f"bug {bug.name}: {tree}", _cure(bug, source))
            continue
        dump = ast.dump(tree)
        if dump == plain:
            what = f"bug {bug.name}: the patch changes no code"
            yield Finding(manifest.bugs, line, what, "plant the mistake in replace")
        elif dump in seen:
            what = f"bug {bug.name}: the same patch as {seen[dump]}"
            yield Finding(manifest.bugs, line, what, "remove one of the two")
        seen.setdefault(dump, bug.name)


def _patched(manifest: Manifest, bug: Bug, source: str) -> ast.Module | str:
    """The patched reference, or why there is none."""
    file = f"{manifest.reference.name}/{reference_file(manifest).name}"
    places = bug.places(source)
    if len(places) != 1:
        where = " and ".join(f"{file}:{place}" for place in places)
        return f"find matches {where}" if places else f"find matches nowhere in {file}"
    try:
        return ast.parse(bug.patched(source))
    except (SyntaxError, ValueError) as error:
        text = getattr(error, "msg", None) or str(error)
        return f"the patched reference is not Python (line {getattr(error, 'lineno', 0)}: {text})"


def _cure(bug: Bug, source: str) -> str:
    places = bug.places(source)
    if not places:
        return "copy one place of the reference verbatim"
    return "take more of the lines around it" if len(places) > 1 else "correct replace"
