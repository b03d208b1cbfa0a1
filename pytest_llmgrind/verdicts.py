"""What became of each hidden test of a challenge, seen by this run or not. No pytest."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind.manifest import Manifest

Result = Mapping[str, Any]
NOT_RUN = "not run"
# From worst to best: the first that a test of a stage has is the word of the stage.
WORDS = {
    "blocked": "cannot be graded",
    "forbidden": "forbidden",
    "protocol": "protocol",
    "crashed": "crashed",
    "memory limit": "memory limit",
    "time limit": "time limit",
    "failed": "failed",
    "timed out": "timed out",
    "over budget": "over budget",
    "no hardware": "no hardware",
    "todo": "todo",
    NOT_RUN: NOT_RUN,
    "passed": "ok",
    "skipped": "skipped",
}
SEVERITY = {state: number for number, state in enumerate(WORDS)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One hidden test; of several parameter sets the worst. ``state`` is a key of WORDS."""

    name: str
    rule: str
    state: str
    saw: str = ""
    nodeid: str = ""
    budget: Mapping[str, Any] | None = None

    @property
    def word(self) -> str:
        return WORDS[self.state]

    @property
    def severity(self) -> int:
        return SEVERITY[self.state]


def by_challenge(results: Iterable[Result]) -> dict[Path, list[Result]]:
    """The results of each challenge directory, in order of their ids."""
    found: dict[Path, list[Result]] = {}
    for result in results:
        found.setdefault(Path(result["root"]), []).append(result)
    return dict(sorted(found.items(), key=lambda pair: pair[0].name))


def is_in_play(results: Iterable[Result]) -> bool:
    return any(result["in_play"] for result in results)


def verdicts(manifest: Manifest, results: Sequence[Result]) -> dict[str, list[Verdict]]:
    """For each stage a verdict on every test that it has.

    A run may leave tests out: by ``-k``, by ``-x``, because a process died. They are not run.
    """
    found: dict[str, dict[str, Verdict]] = {}
    for stage in manifest.stages:
        tests = hidden_tests(manifest.root / stage.file)
        found[stage.name] = {
            name: Verdict(name=name, rule=rule, state=NOT_RUN) for name, rule in tests.items()
        }
    for result in results:
        if result["stage"] in found:
            _add(found[result["stage"]], result)
    return {name: list(tests.values()) for name, tests in found.items()}


def hidden_tests(file: Path) -> dict[str, str]:
    """The tests of a hidden file and the ids of their rules, from its text alone."""
    try:
        tree = ast.parse(file.read_text("utf-8"), str(file))
    except (OSError, SyntaxError, ValueError):
        return {}
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f.name: _rule(f) for f in functions if f.name.startswith("test_")}


def _add(tests: dict[str, Verdict], result: Result) -> None:
    name = result["nodeid"].rpartition("::")[2].partition("[")[0]
    known = tests.get(name) or Verdict(name=name, rule="", state=NOT_RUN)
    seen = Verdict(
        name=name,
        rule=result["rule"] or known.rule,
        state="skipped" if result["status"] == "skipped" else result["outcome"],
        saw=result["saw"],
        nodeid=result["nodeid"],
        budget=result["budget"] or known.budget,
    )
    if known.state == NOT_RUN or seen.severity < known.severity:
        tests[name] = seen


def _rule(function: ast.FunctionDef) -> str:
    for call in function.decorator_list:
        if not isinstance(call, ast.Call) or not call.args:
            continue
        name, argument = ast.unparse(call.func).rpartition(".")[2], call.args[0]
        if name == "rule" and isinstance(argument, ast.Constant):
            return str(argument.value)
    return ""
