"""Diagnosis: a wrong answer that is exactly a planted bug's names the misconception."""

from __future__ import annotations

import pytest
from conftest import Suite

ADD_TWICE = "def add(a, b):\n    return a + 2 * b\n\n\ndef total(xs):\n    return sum(xs)\n"
TWICE = """
    [[bug]]
    name = "twice"
    rule = "R1"
    misconception = "the second argument was added twice"
    find = "a + b"
    replace = "a + 2 * b"
"""
SAME_OTHERWISE = """
    [[bug]]
    name = "shifted"
    rule = "R1"
    misconception = "something else entirely"
    find = "a + b"
    replace = "a + b + b"
"""
OFF_BY_ONE = """
    [[bug]]
    name = "off_by_one"
    rule = "R2"
    misconception = "the first number was left out"
    find = "sum(xs)"
    replace = "sum(xs[1:])"
"""


def said(suite: Suite) -> list[str]:
    """The lines of the failure texts that name a misconception."""
    lines = suite.run("challenges").outlines
    return [line.strip() for line in lines if line.startswith("  looks like")]


def test_the_misconception_of_the_bug_that_answers_the_same_is_named(suite: Suite) -> None:
    """The learner's own text may differ from the patch."""
    suite.challenge(bugs=TWICE)
    suite.solve("def add(a, b):\n    return b + (a + b)\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == ["looks like   the second argument was added twice"]


def test_a_wrong_answer_of_nobodys_is_not_diagnosed(suite: Suite) -> None:
    """Near is not enough."""
    suite.challenge(bugs=TWICE)
    suite.solve(
        "def add(a, b):\n    return a + 2.001 * b\n\n\ndef total(xs):\n    return sum(xs)\n"
    )

    assert said(suite) == []


def test_two_bugs_that_differ_in_meaning_say_nothing(suite: Suite) -> None:
    """Both give the learner's answer, so neither is certain."""
    suite.challenge(bugs=TWICE + SAME_OTHERWISE)
    suite.solve(ADD_TWICE)

    assert said(suite) == []


def test_two_bugs_of_one_meaning_name_it(suite: Suite) -> None:
    """The same misconception may be planted in two ways."""
    same = SAME_OTHERWISE.replace("something else entirely", "the second argument was added twice")
    suite.challenge(bugs=TWICE + same)
    suite.solve(ADD_TWICE)

    assert said(suite) == ["looks like   the second argument was added twice"]


def test_bugs_of_other_rules_are_not_tried(suite: Suite) -> None:
    """A rule is diagnosed by its own bugs alone."""
    suite.challenge(bugs=TWICE.replace('rule = "R1"', 'rule = "R2"'))
    suite.solve(ADD_TWICE)

    assert said(suite) == []


def test_the_example_that_hypothesis_found_is_the_one_that_is_tried(suite: Suite) -> None:
    """The bug runs on what was drawn for the learner, not on a search of its own."""
    suite.challenge(bugs=OFF_BY_ONE)
    suite.solve(
        "def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    return sum(xs) - len(xs[:1])\n"
    )

    assert said(suite) == ["looks like   the first number was left out"]


@pytest.mark.parametrize("answer", ["0 * a", "a * float('nan')", "a * float('inf')"])
def test_nothing_but_zeros_or_nan_is_no_evidence(suite: Suite, answer: str) -> None:
    """A hundred mistakes end there, and the planted one is only one of them."""
    suite.challenge(bugs=TWICE.replace('"a + 2 * b"', f'"{answer}"'))
    suite.solve(f"def add(a, b):\n    return {answer}\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == []


def test_an_error_of_the_learners_code_is_not_diagnosed(suite: Suite) -> None:
    """No check saw a value."""
    suite.challenge(bugs=TWICE)
    suite.solve("def add(a, b):\n    return 1 / 0\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == []


def test_a_stale_bug_is_the_gates_to_name(suite: Suite) -> None:
    """A learner's run does not break on it."""
    suite.challenge(bugs=TWICE.replace("a + b", "a - b"))
    suite.solve(ADD_TWICE)

    result = suite.run("challenges")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*looks like*")


def test_it_works_in_workers(suite: Suite) -> None:
    """Under -n the text is made where the test ran."""
    suite.challenge(bugs=TWICE)
    suite.solve(ADD_TWICE)

    result = suite.run("challenges", "-n2")

    result.stdout.fnmatch_lines(["  looks like   the second argument was added twice"])
