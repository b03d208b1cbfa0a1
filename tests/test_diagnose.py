"""Diagnosis: a wrong answer that is exactly a planted bug's names the misconception."""

from __future__ import annotations

import itertools
from types import ModuleType, SimpleNamespace

import pytest
from conftest import Suite

from pytest_llmgrind import diagnose
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.diagnose import Diagnosis
from pytest_llmgrind.manifest import Manifest

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


def test_a_rule_is_diagnosed_by_its_own_bugs(suite: Suite) -> None:
    """What another rule's bug gives is no name for this rule's failure."""
    suite.challenge(bugs=TWICE.replace('rule = "R1"', 'rule = "R2"'))
    suite.solve(ADD_TWICE)

    assert said(suite) == []


def test_a_bug_of_another_rule_that_gives_the_same_makes_it_uncertain(suite: Suite) -> None:
    """Nobody knows which of the two it is; where they mean the same it does not matter."""
    other = SAME_OTHERWISE.replace('rule = "R1"', 'rule = "R2"')
    suite.challenge(bugs=TWICE + other)
    suite.solve(ADD_TWICE)
    first = said(suite)
    suite.challenge(bugs=TWICE + other.replace("something else entirely", TWICE.split('"')[5]))
    second = said(suite)

    assert (first, second) == ([], ["looks like   the second argument was added twice"])


def test_the_example_that_hypothesis_found_is_the_one_that_is_tried(suite: Suite) -> None:
    """The bug runs on what was drawn for the learner, not on a search of its own."""
    suite.challenge(bugs=OFF_BY_ONE)
    suite.solve(
        "def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    return sum(xs) - len(xs[:1])\n"
    )

    assert said(suite) == ["looks like   the first number was left out"]


BOXED = """
    import numpy as np
    from dataclasses import dataclass
    from pytest_llmgrind import check, rule

    @rule("R1")
    def test_refused(solution):
        check.raises(ValueError, solution.add, np.ones(3), np.ones(3), what="add", names="a")
"""


@pytest.mark.parametrize(
    ("box", "named"),
    [
        ("{'sum': RIGHT}", True),
        ("[RIGHT, (RIGHT,)]", True),
        ("type('Box', (), {'__eq__': lambda self, other: a})()", False),
        ("[]", False),
        ("a[:0]", False),
    ],
)
def test_any_value_can_be_compared(suite: Suite, box: str, named: bool) -> None:
    """Containers by what they hold; what refuses to be compared, or is empty, is no evidence."""
    bug = TWICE.replace('"a + 2 * b"', '"' + box.replace("RIGHT", "a + 2 * b") + '"')
    suite.challenge(stages={"boxed": BOXED}, bugs=bug)
    own = box.replace("RIGHT", "b + a + b")
    suite.solve(f"def add(a, b):\n    return {own}\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == ["looks like   the second argument was added twice"] * named


def test_two_small_errors_are_not_the_same_mistake(suite: Suite) -> None:
    """A planted rounding error is no name for another one, however near they lie."""
    suite.challenge(bugs=TWICE.replace("a + 2 * b", "(a + b) * (1 + 1e-13)"))
    suite.solve(
        "def add(a, b):\n    return (a + b) * (1 - 1e-13)\n\n\ndef total(xs):\n    return sum(xs)\n"
    )

    result = suite.run("challenges")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*looks like*")


@pytest.mark.parametrize("answer", ["0 * a", "a * float('nan')", "a * float('inf')"])
def test_nothing_but_zeros_or_nan_is_no_evidence(suite: Suite, answer: str) -> None:
    """A hundred mistakes end there, and the planted one is only one of them."""
    suite.challenge(bugs=TWICE.replace('"a + 2 * b"', f'"{answer}"'))
    suite.solve(f"def add(a, b):\n    return {answer}\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == []


def test_a_bug_of_a_rule_that_is_kept_is_ruled_out(suite: Suite) -> None:
    """Who passes all tests of a rule has not made a mistake that they catch."""
    stages = {
        "lists": """
            from pytest_llmgrind import check, rule

            @rule("R2")
            def test_none(solution):
                check.equal(solution.total([]), 0, what="total")
        """,
        "more": """
            from pytest_llmgrind import check, rule

            @rule("R1")
            def test_three(solution):
                check.equal(solution.total([1, 2, 3]), 6, what="total")
        """,
    }
    doubled = TWICE.replace('"a + b"', '"sum(xs)"').replace('"a + 2 * b"', '"2 * sum(xs)"')
    other = SAME_OTHERWISE.replace('rule = "R1"', 'rule = "R2"')
    other = other.replace('"a + b"', '"sum(xs)"').replace('"a + b + b"', '"2 * sum(xs) + (not xs)"')
    suite.challenge(stages=stages, bugs=doubled + other)

    suite.solve(f"{ADD_TWICE}".replace("sum(xs)", "sum(xs + xs)"))
    kept = said(suite)
    suite.solve(f"{ADD_TWICE}".replace("sum(xs)", "sum(xs + xs) + (not xs)"))
    broken = said(suite)

    assert (kept, len(broken)) == (["looks like   the second argument was added twice"], 1)


REVERSED = """
    [[bug]]
    name = "column"
    rule = "R1"
    misconception = "one argument is taken for a column of two"
    find = "a + b"
    replace = "a + b.reshape(2)"
"""


@pytest.mark.parametrize(
    ("line", "names"),
    [
        pytest.param("b.reshape((2,)) + a", True, id="the same shapes in the text"),
        pytest.param("a + b.reshape(5)", False, id="other shapes"),
        pytest.param("1 / 0 + a", False, id="another exception"),
        pytest.param("a['x']", False, id="no number in the text"),
    ],
)
def test_an_exception_with_the_same_numbers_in_its_text_is_evidence(
    suite: Suite, line: str, names: bool
) -> None:
    """NumPy says which shapes did not fit: a planted bug that gets the same is the same."""
    suite.challenge(bugs=REVERSED)
    suite.solve(f"def add(a, b):\n    return {line}\n\n\ndef total(xs):\n    return sum(xs)\n")

    assert said(suite) == ["looks like   one argument is taken for a column of two"] * names


COUNTED = """
    import numpy as np
    from pytest_llmgrind import rule

    @rule("R2")
    def test_calls(count):
        count(lambda impl, n: impl.total([1] * n), inputs=lambda rng: (8,))

    @rule("R2")
    def test_memory(peak):
        peak(
            lambda impl, n: impl.total([1] * n), inputs=lambda rng: (8,),
            verify=lambda result, n: None,
        )
"""
LIMITS = """
    [[budget]]
    name = "calls"
    stage = "speed"
    kind = "count"
    limit = 10
    what = "calls"

    [[budget]]
    name = "memory"
    stage = "speed"
    kind = "peak"
    limit = 100_000
    what = "memory"
"""
WASTEFUL = """
    [[bug]]
    name = "twice"
    rule = "R2"
    misconception = "every number is asked for twice"
    find = "sum(xs)"
    replace = "2 * sum(xs)"

    [[bug]]
    name = "hoarding"
    rule = "R2"
    misconception = "a megabyte is kept for nothing"
    find = "sum(xs)"
    replace = "sum(xs) + 0 * len(bytes(1_000_000))"
"""


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("sum(xs) + len(xs)", ["looks like   every number is asked for twice"]),
        ("sum(xs) * 3", []),
        ("len(xs + list(bytearray(1)) * 0) * len(b'1' * 1_000_000) // 10**6", [
            "looks like   a megabyte is kept for nothing"
        ]),
        ("sum(xs) + 0 * len(bytes(1_100_000))", []),
    ],
)  # fmt: skip
def test_an_exact_budget_is_evidence(suite: Suite, line: str, want: list[str]) -> None:
    """The same count, or the same peak within one in a hundred, is that of the planted bug."""
    suite.challenge(stages={"speed": COUNTED}, more=LIMITS, bugs=WASTEFUL)
    suite.solve(f"def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    return {line}\n")

    assert said(suite) == want


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


def test_a_run_that_passes_never_asks(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The diagnosis costs nothing until a test fails."""
    asked: list[str] = []
    monkeypatch.setattr(Diagnosis, "looks_like", lambda *_, **__: asked.append("asked") or "")
    suite.challenge(bugs=TWICE)
    suite.solve()
    suite.run("challenges").assert_outcomes(passed=2)
    before = list(asked)

    suite.solve(ADD_TWICE)
    suite.run("challenges").assert_outcomes(passed=1, failed=1)

    assert (before, asked) == ([], ["asked"])


@pytest.mark.parametrize(
    ("step_s", "tried", "told"),
    [
        pytest.param(0.0, ["twice", "shifted", "off_by_one"], 1, id="in time"),
        pytest.param(0.8 * diagnose.TIME_S, ["twice"], 0, id="too late for a second bug"),
    ],
)
def test_time_is_limited_for_a_session(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, step_s: float, tried: list[str], told: int
) -> None:
    """After TIME_S no other bug is tried, and no failure is looked at any more."""
    clock = itertools.count(0.0, step_s)
    monkeypatch.setattr(diagnose, "time", SimpleNamespace(process_time=lambda: next(clock)))
    asked: dict[str, None] = {}
    module = diagnose._module

    def ask(manifest: Manifest, bug: Bug) -> ModuleType | None:
        asked[bug.name] = None
        return module(manifest, bug)

    monkeypatch.setattr(diagnose, "_module", ask)
    suite.challenge(bugs=TWICE.replace("a + 2 * b", "a - b") + SAME_OTHERWISE + OFF_BY_ONE)
    suite.solve(
        "def add(a, b):\n    return a + 2 * b\n\n\ndef total(xs):\n    return sum(xs) + 1\n"
    )

    lines = said(suite)

    assert list(asked) == tried
    assert lines == ["looks like   something else entirely"] * told
