"""``given``: Hypothesis with the same verdict for the same file, every time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import REFERENCE, Suite

STAGE = """
    from pytest_llmgrind import check, given, rule, st

    @rule("R1")
    @given(a=st.integers(-1000, 1000), xs=st.lists(st.floats(allow_nan=False)))
    def test_it(solution, a, xs):
        print("drew", a, len(xs))
        check.equal(solution.add(a, 1), a + 1, what="sum", given=f"a={a}")
"""


def drawn(result: pytest.RunResult) -> list[str]:
    """Every example that a test was called with."""
    return [line for line in result.outlines if line.startswith("drew")]


def test_the_same_examples_every_time(suite: Suite) -> None:
    """Neither the clock, nor an earlier run, nor the solution's text changes what is drawn."""
    suite.challenge(stages={"pairs": STAGE})
    suite.solve()
    first = drawn(suite.run("-rP"))

    suite.solve("CONSTANT = 987654321\n" + REFERENCE)
    second = drawn(suite.run("-rP", "-p", "no:cacheprovider"))

    assert len(first) >= 40
    assert second == first


def test_the_same_examples_in_another_process_and_place(suite: Suite) -> None:
    """A hash seed and a path have no say either."""
    suite.challenge(stages={"pairs": STAGE})
    suite.solve()
    suite.challenge(stages={"pairs": STAGE}, home="else where")
    suite.write("else where/solutions/01_sums.py", REFERENCE)

    here = drawn(suite.run("challenges", "-rP"))
    there = drawn(suite.run_process("else where/challenges", "-rP"))

    assert there == here


def test_forty_examples_unless_told_otherwise(suite: Suite) -> None:
    """The decorator takes another number."""
    suite.challenge(stages={"pairs": STAGE.replace("@given(", "@given(max_examples=7, ")})
    suite.solve()

    assert len(drawn(suite.run("-rP"))) == 7


def test_nothing_is_left_in_the_workspace(suite: Suite) -> None:
    """There is no database of examples."""
    suite.challenge(stages={"pairs": STAGE})
    suite.solve(REFERENCE.replace("a + b", "a - b"))

    suite.run()

    assert not (suite.path / ".hypothesis").exists()


def test_a_slow_solution_is_not_an_error_of_hypothesis(suite: Suite) -> None:
    """There is no deadline but the time-out of the test."""
    suite.challenge(stages={"pairs": STAGE.replace("@given(", "@given(max_examples=3, ")})
    suite.solve("import time\n" + REFERENCE.replace("return a", "time.sleep(0.3)\n    return a"))

    suite.run().assert_outcomes(passed=1)


def test_what_is_not_written_is_not_shrunk(suite: Suite) -> None:
    """A TODO ends the test at the first example."""
    suite.challenge(stages={"pairs": STAGE})

    result = suite.run("challenges/01_sums", "-rA", "--tb=long")

    assert result.parseoutcomes() == {"todo": 1}
    assert suite.run("challenges/01_sums", "-s").stdout.str().count("drew") == 1


def test_an_exception_that_takes_no_attribute_is_itself(suite: Suite) -> None:
    """The drawn example is kept with the exception where that can be done, else not."""
    odd = "class Odd(Exception):\n    llmgrind_drawn = property(lambda self: 1 / 0)\n\n"
    suite.challenge(stages={"pairs": STAGE})
    suite.solve(odd + REFERENCE.replace("return a + b", "raise Odd('x')"))

    result = suite.run()

    result.stdout.fnmatch_lines(["  saw    raised Odd: x"])


def test_fixtures_and_parameters_work_beside_it(suite: Suite) -> None:
    """What is drawn, what is parametrized and what is a fixture come together."""
    stage = """
        import pytest
        from pytest_llmgrind import check, given, rule, st

        @rule("R1")
        @pytest.mark.parametrize("b", [1, 2])
        @given(a=st.integers(0, 3))
        def test_it(solution, reference, b, a):
            check.equal(solution.add(a, b), reference.add(a, b), what="sum", given=f"a={a}, b={b}")
    """
    suite.challenge(stages={"pairs": stage})
    suite.solve(REFERENCE.replace("a + b", "a + b + (b == 2)"))

    result = suite.run()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["  saw    a=0, b=2: sum came back as 3, which is not right"])


def test_settings_of_yours_do_not_reach_it(suite: Suite) -> None:
    """A Hypothesis profile of the workspace changes no verdict of a challenge."""
    suite.challenge(stages={"pairs": STAGE})
    suite.solve()
    before = drawn(suite.run("-rP"))
    suite.write(
        "conftest.py",
        """
        from hypothesis import settings

        settings.register_profile("mine", max_examples=2, derandomize=False)
        settings.load_profile("mine")
        """,
    )

    after = drawn(suite.run_process("-rP"))

    assert after == before


@pytest.mark.parametrize("rule", ["R", "r1", "R1.", "1", ""])
def test_a_rule_has_an_id(suite: Suite, rule: str) -> None:
    """A rule's id is checked where the test is written."""
    suite.challenge(stages={"pairs": STAGE.replace('"R1"', f'"{rule}"')})

    result = suite.run()

    result.stdout.fnmatch_lines([f"*rule: wanted an id like R3, got '{rule}'*"])


def test_the_public_names_are_lazy() -> None:
    """``import pytest_llmgrind`` loads neither NumPy nor Hypothesis: an unused plugin is cheap."""
    source = Path(__file__).parent.parent / "pytest_llmgrind" / "__init__.py"
    imports = re.findall(r"^(?:import|from) (\w+)", source.read_text(), re.MULTILINE)

    assert set(imports) <= {"__future__", "typing"}
