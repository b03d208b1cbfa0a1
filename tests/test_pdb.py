"""A debugger stops in the learner's code and never shows the grader's."""

from __future__ import annotations

import sys

import pytest
from conftest import REFERENCE, Suite

STAGE = """
    from pytest_llmgrind import check, given, rule, st

    HIDDEN = 73519

    @rule("R1")
    def test_value(solution):
        HIDDEN_local = HIDDEN
        check.equal(solution.add(1, 2), 3, what="sum")  # HIDDEN
        HIDDEN_after = solution.total([1])
"""
PROPERTY = """
    from pytest_llmgrind import check, given, rule, st

    @rule("R1")
    @given(n=st.integers(0, 99))
    def test_value(solution, n):
        check.equal(solution.add(n, 1), n + 1, what="sum", given=f"n={n}")  # HIDDEN
"""
RAISES = REFERENCE.replace("return a + b", "return helper(a)") + (
    "\n\ndef helper(a):\n    inner = a\n    raise KeyError(inner)\n"
)
WRONG = REFERENCE.replace("return a + b", "c = a - b\n    return c")
COMMANDS = ("where", "up", "up", "up", "up", "list", "p a, b", "down", "down")


def drive(
    suite: Suite, solution: str, *args: str, keys: tuple[str, ...], stage: str = STAGE
) -> str:
    """What a session prints in which these keys are typed at the debugger."""
    suite.challenge(stages={"pairs": stage}, imports=("numpy", "json"))
    suite.solve(solution)
    command = [sys.executable, "-mpytest", "-p", "llmgrind", "-p", "timeout", "challenges", *args]
    typed = "\n".join([*keys, "q", ""]).encode()
    result = suite.pytester.run(*command, stdin=typed, timeout=60)
    text = result.stdout.str() + result.stderr.str()
    assert "HIDDEN" not in text
    assert "73519" not in text
    assert "INTERNALERROR" not in text
    return text


def test_stops_where_the_solution_raised(suite: Suite) -> None:
    """Post-mortem: the frame that raised, the learner's frames above it, and no others."""
    text = drive(suite, RAISES, "--pdb", keys=("p inner", *COMMANDS))

    assert "  saw    raised KeyError: 1" in text
    assert "solutions/01_sums.py(15)helper()" in text
    assert "-> raise KeyError(inner)" in text
    assert "(Pdb) 1\n" in text
    assert "*** Oldest frame" in text
    assert "(Pdb) (1, 2)" in text
    assert "1_pairs.py(" not in text


def test_stops_where_the_import_raised(suite: Suite) -> None:
    """A solution that cannot be imported is debugged where it raised."""
    text = drive(suite, "def f(x):\n    return 1 / x\n\nf(0)\n", "--pdb", keys=("p x", "up"))

    assert "solutions/01_sums.py(2)f()" in text
    assert "(Pdb) 0\n" in text
    assert "-> f(0)" in text


def test_a_wrong_value_is_run_again_up_to_the_learners_code(suite: Suite) -> None:
    """The check failed after the call had returned: the test runs again and stops at its call."""
    text = drive(suite, WRONG, "--pdb", keys=("p a, b", "next", "next", "p c", *COMMANDS))

    assert ">>>>> run again: this is where the test calls your code >>>>>" in text
    assert "  saw    sum came back as -1, which is not right" in text
    assert "solutions/01_sums.py(6)add()" in text
    assert "-> return c" in text
    assert "(Pdb) -1\n" in text
    assert "1_pairs.py(" not in text
    assert "_pytest.outcomes.Exit: Quitting debugger" in text


def test_stepping_out_goes_on_to_the_next_call(suite: Suite) -> None:
    """After the learner's function the next stop is in the learner's code again, not in ours."""
    stage = STAGE.replace("solution.add(1, 2)", "solution.add(1, 2) + solution.total([9])")
    text = drive(
        suite, WRONG, "--pdb", keys=("return", "next", "step", "step", "p xs"), stage=stage
    )

    assert "--Return--" in text
    assert "total(" in text
    assert "1_pairs.py(" not in text


def test_continuing_ends_the_session_as_usual(suite: Suite) -> None:
    """``c`` lets the test end; what failed is still failed, once."""
    text = drive(suite, WRONG, "--pdb", keys=("c",))

    assert "1 failed in" in text


def test_a_property_is_run_again_with_its_example(suite: Suite) -> None:
    """The smallest example that Hypothesis found is the call that is debugged."""
    solution = REFERENCE.replace("return a + b", "return a + b + (a > 6)")
    text = drive(suite, solution, "--pdb", keys=("p a", "c"), stage=PROPERTY)

    assert "  saw    n=7: sum came back as 9, which is not right" in text
    assert "(Pdb) 7\n" in text
    assert text.count("run again: this is where") == 1


@pytest.mark.parametrize("call", ["breakpoint()", "import pdb; pdb.set_trace()"])
def test_breakpoints_of_ones_own_show_no_hidden_frame(suite: Suite, call: str) -> None:
    """A breakpoint in a solution: up ends at the learner's function, next stays outside."""
    solution = REFERENCE.replace("return a + b", f"{call}\n    c = a + b\n    return c")
    text = drive(suite, solution, keys=("next", "p c", "where", "up", "up", "next", "next", "next"))

    assert "-> c = a + b" in text
    assert "*** Oldest frame" in text
    assert "1_pairs.py(" not in text


def test_trace_begins_in_the_solution(suite: Suite) -> None:
    """``--trace`` stops at the first line of the learner's function, not of the hidden test."""
    text = drive(suite, REFERENCE, "--trace", keys=("next", "p a, b", "where"))

    assert "solutions/01_sums.py(3)add()" in text
    assert "(Pdb) (1, 2)" in text
    assert "1_pairs.py(" not in text


def test_steps_into_libraries_and_back(suite: Suite) -> None:
    """Code that the solution calls may be looked at."""
    solution = "import json\n" + REFERENCE.replace("return a + b", "json.dumps([a])\n    return 0")
    text = drive(suite, solution, "--pdb", keys=("step", "step", "step", "where", "up", "p b"))

    assert "json/__init__.py(" in text
    assert "(Pdb) 2" in text


def test_another_debugger_may_be_chosen(suite: Suite) -> None:
    """``--pdbcls`` is respected, and sees no more."""
    suite.write(
        "mine.py",
        """
        import pdb

        class Mine(pdb.Pdb):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.prompt = "(Mine) "
        """,
    )
    suite.pytester.syspathinsert()

    text = drive(suite, WRONG, "--pdb", "--pdbcls=mine:Mine", keys=COMMANDS)

    assert "(Mine) " in text
    assert "1_pairs.py(" not in text


def test_a_limit_does_not_run_while_debugging(suite: Suite) -> None:
    """Who thinks at the prompt is not timed out."""
    text = drive(
        suite, WRONG, "--pdb", "--timeout=1", keys=("import time; time.sleep(2)", "p 40 + 2", "c")
    )

    assert "(Pdb) 42" in text
    assert "TIMED OUT" not in text
    assert "TimedOut" not in text


def test_your_own_tests_are_debugged_as_ever(suite: Suite) -> None:
    """Outside of challenges nothing is hidden from a debugger."""
    suite.write("tests/test_own.py", "def test_own():\n    x = 41\n    assert x == 42\n")
    suite.challenge()
    command = [sys.executable, "-mpytest", "-p", "llmgrind", "tests", "challenges", "--pdb"]

    result = suite.pytester.run(*command, stdin=b"where\np x\nq\n", timeout=60)

    result.stdout.fnmatch_lines(["*test_own.py(3)test_own()", "*(Pdb) 41"])


@pytest.mark.parametrize("args", [("--pdb", "-x"), ("--pdb", "--maxfail=1"), ("--pdb", "-s")])
def test_with_other_options(suite: Suite, args: tuple[str, ...]) -> None:
    """The stop comes also where the session ends after it, and where nothing is captured."""
    text = drive(suite, WRONG, *args, keys=("p a", "c"))

    assert "run again: this is where the test calls your code" in text
    assert "(Pdb) 1\n" in text
