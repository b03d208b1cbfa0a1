"""Every rule has a test and every test one rule; every budget has its test."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_llmgrind import spec as specs
from pytest_llmgrind.gate.finding import Finding, line_of
from pytest_llmgrind.gate.specification import rule_line
from pytest_llmgrind.gate.worker import HiddenTest
from pytest_llmgrind.manifest import KINDS, Manifest


def check(manifest: Manifest, tests: list[HiddenTest]) -> Iterator[Finding]:
    """Every finding about what the collected tests say that they prove."""
    yield from _stages(manifest, tests)
    yield from _rules(manifest, tests)
    yield from _budgets(manifest, tests)


def budget_rules(manifest: Manifest, tests: list[HiddenTest]) -> set[str]:
    """The rules whose tests measure."""
    return {rule for t in tests if manifest.budget_of(t.name) for rule in t.rules}


def _stages(manifest: Manifest, tests: list[HiddenTest]) -> Iterator[Finding]:
    for stage in manifest.stages:
        if not any(test.stage == stage.name for test in tests):
            what = f"stage {stage.name} has no test"
            yield Finding(manifest.root / stage.file, 0, what, "write functions named test_…")


def _rules(manifest: Manifest, tests: list[HiddenTest]) -> Iterator[Finding]:
    rules = specs.load(manifest.spec).rules
    known = {rule.id for rule in rules}
    for test in _first_of_each_name(tests):
        if len(test.rules) != 1:
            says = " and ".join(test.rules) or "no rule"
            what = f"{test.name} proves {says}, wanted one rule"
            yield Finding(test.path, test.line, what, 'decorate it with one @rule("R…")')
        for unknown in sorted(set(test.rules) - known):
            what = f"{test.name} proves {unknown}, which the spec does not have"
            yield Finding(test.path, test.line, what, "name one of its rules, or add the rule")
    proven = {id for test in tests for id in test.rules}
    for rule in rules:
        if rule.id not in proven:
            line = rule_line(manifest, rule.id)
            cure = f'write one with @rule("{rule.id}"), or remove the rule'
            yield Finding(manifest.spec, line, f"{rule.id} has no test", cure)


def _budgets(manifest: Manifest, tests: list[HiddenTest]) -> Iterator[Finding]:
    for budget in manifest.budgets:
        line = line_of(manifest.file, f'name = "{budget.name}"')
        test = next((test for test in tests if test.name == budget.test), None)
        if test is None:
            what = f"budget {budget.name} has no test"
            yield Finding(manifest.file, line, what, f"write {budget.test} in its stage")
        elif test.stage != budget.stage:
            what = f"budget {budget.name} is of stage {budget.stage}, its test of {test.stage}"
            yield Finding(manifest.file, line, what, "make them the same")
        elif budget.kind not in test.fixtures:
            what = f"budget {budget.name} is a {budget.kind}, and its test does not measure one"
            yield Finding(test.path, test.line, what, f"take the fixture {budget.kind}")
    for test in _first_of_each_name(tests):
        kinds = [kind for kind in KINDS if kind in test.fixtures]
        if kinds and manifest.budget_of(test.name) is None:
            what = f"{test.name} measures ({', '.join(kinds)}) without a budget"
            cure = f'add [[budget]] with name = "{test.name.removeprefix("test_")}"'
            yield Finding(test.path, test.line, what, cure)


def _first_of_each_name(tests: list[HiddenTest]) -> list[HiddenTest]:
    """One test for each function; parameters make several of one."""
    return list({(test.path, test.name): test for test in reversed(tests)}.values())[::-1]
