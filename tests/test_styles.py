"""Right solutions in other styles pass: a hidden test demands what the spec says, and no more.

A style is a file of definitions that take the place of the reference's own. Another algorithm,
layout in memory, order of summation or dtype inside: each has been failed by some test before.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmgrind.gate.worker import Worker
from pytest_llmgrind.manifest import load

ROOT = Path(__file__).parents[1]
STYLES = sorted(Path(__file__).parent.glob("styles/*/*.py"))
IDS = sorted(path.parent.name for path in ROOT.glob("challenges/*/challenge.toml"))
OF = {id: [style for style in STYLES if style.parent.name == id] for id in IDS}
RIGHT = {"passed", "skipped", "no hardware"}


def composed(style: Path) -> str:
    """The reference, with the style's definitions after its own: of two, the later one counts."""
    reference = ROOT / "reference" / f"{style.parent.name}.py"
    return reference.read_text("utf-8") + "\n\n" + style.read_text("utf-8")


@pytest.mark.parametrize("id", IDS)
def test_every_style_of_a_challenge_passes(id: str, tmp_path: Path) -> None:
    """All tests that are not timed, with the budgets that are counted."""
    assert len(OF[id]) >= 4

    failed, graded = [], 0
    with Worker(load(ROOT / "challenges" / id), tmp_path / "lock", threading.Event()) as worker:
        for style in OF[id]:
            (worker.solutions / f"{id}.py").write_text(composed(style), "utf-8")
            run = worker.grade(worker.solutions, measured=True, diagnose=True)
            graded += sum(result.outcome == "passed" for result in run.results)
            died = [f"{style.stem}: {run.died} in {run.died_in}"] if run.died else []
            failed += died + [f"{style.stem}: {event['text']}" for event in run.broken]
            failed += [
                f"{style.stem}: {result.test.name}: {result.outcome}: {result.saw}"
                for result in run.results
                if result.outcome not in RIGHT
            ]

    assert not failed, "\n".join(failed)
    assert graded >= 10 * len(OF[id])  # a run that grades nothing would pass as well


@pytest.mark.parametrize("style", STYLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_definition_of_a_style_is_used(style: Path) -> None:
    """It says what is other about it, replaces something, and all of it is reached from outside."""
    id, tree = style.parent.name, ast.parse(style.read_text("utf-8"))
    stub = ast.parse((ROOT / "challenges" / id / "stub.py").read_text("utf-8"))
    reference = ast.parse((ROOT / "reference" / f"{id}.py").read_text("utf-8"))
    last = dict(_defined(ast.parse(composed(style))))  # a later definition takes the place

    own, old = dict(_defined(tree)), dict(_defined(reference))
    reached, ahead = set(), [name for name, _ in _defined(stub)]
    while ahead:
        name = ahead.pop()
        if name in last and name not in reached:
            reached.add(name)
            ahead += [node.id for node in ast.walk(last[name]) if isinstance(node, ast.Name)]

    assert ast.get_docstring(tree)
    assert own.keys() & old.keys()
    assert own.keys() <= reached
    assert all(ast.dump(own[name]) != ast.dump(old[name]) for name in own.keys() & old.keys())


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node
