"""The gate on hidden tests and planted bugs, from their text."""

from __future__ import annotations

from pathlib import Path

import pytest
from gate_sums import BUGS, FILES, MANY, PAIRS, Case, Sums, added, lines

BUG_ONE = FILES[BUGS].strip().partition("\n\n")[0] + "\n\n"
INTERFACE = "use what the spec documents: calls, attributes, iteration, callables passed in"

TEXT_CASES: dict[str, Case] = {
    "assert": (
        [added(PAIRS, "assert solution.add(1, 1) == 2")],
        [(PAIRS, 30, "a bare assert prints both sides", "speak through check")],
    ),
    "class": (
        [(PAIRS, '@rule("R2")', 'class TestMore:\n    def test_more(self): ...\n\n\n@rule("R2")')],
        [(PAIRS, 15, "tests in a class, TestMore, are never run", "write them as functions")],
    ),
    "twice": (
        [(PAIRS, "test_another_shape_is_refused", "test_arguments_stay_as_they_are")],
        [
            (
                PAIRS,
                23,
                "test_arguments_stay_as_they_are is defined twice",
                "name each after what is true",
            )
        ],
    ),
    "rng with given": (
        [(PAIRS, "(solution, n):", "(solution, rng, n):")],
        [
            (
                PAIRS,
                10,
                "test_sum_of_a_pair takes rng and draws with given",
                "draw a seed and make the generator from it",
            )
        ],
    ),
    "skip": (
        [added(MANY, 'pytest.skip("later")')],
        [
            (
                MANY,
                28,
                "pytest.skip hides a test",
                "name the hardware in the stage's tiers, or mark it slow",
            )
        ],
    ),
    "mark skip": (
        [(MANY, '@rule("R4")', '@pytest.mark.xfail\n@rule("R4")')],
        [
            (
                MANY,
                6,
                "pytest.mark.xfail hides a test",
                "name the hardware in the stage's tiers, or mark it slow",
            )
        ],
    ),
    "monkeypatch": (
        [(MANY, "(solution):", "(solution, monkeypatch):")],
        [(MANY, 7, "monkeypatch looks through the interface", INTERFACE)],
    ),
    "shares": (
        [
            added(
                PAIRS,
                (
                    "x = solution.add(1, 1)\n    check.that(not np.shares_memory(x, x), "
                    'saw="shared")'
                ),
            )
        ],
        [(PAIRS, 31, "np.shares_memory looks through the interface", INTERFACE)],
    ),
    "is": (
        [added(PAIRS, 'x = np.ones(1)\n    check.that(solution.add(x, x) is not x, saw="shared")')],
        [(PAIRS, 31, "`is` compares identities", "compare values")],
    ),
    "isinstance": (
        [added(MANY, 'check.that(isinstance(1, solution.Total), saw="no Total")')],
        [(MANY, 28, "isinstance asks for a class that the solution defines", INTERFACE)],
    ),
    "inspect": (
        [(MANY, "from pytest_llmgrind", "import inspect\n\nfrom pytest_llmgrind")],
        [(MANY, 3, "inspect looks through the interface", INTERFACE)],
    ),
    "private": (
        [added(MANY, "solution.total(float, 4)._parts")],
        [(MANY, 28, "_parts is private to the solution", INTERFACE)],
    ),
    "patch": (
        [added(MANY, "solution.ZERO = 1")],
        [(MANY, 28, "the solution is patched", INTERFACE)],
    ),
    "vars": (
        [added(MANY, "vars(solution)")],
        [(MANY, 28, "vars() looks through the interface", INTERFACE)],
    ),
    "hidden syntax": (
        [(MANY, "def read(i)", "def read(i")],
        [(MANY, 16, "not Python: '(' was never closed", "correct it")],
    ),
    "bugs key": (
        [(BUGS, 'misconception = "the sum began at 1"', 'msconception = "the sum began at 1"')],
        [
            (
                BUGS,
                0,
                "bug 4.msconception: unknown key; did you mean misconception?",
                "correct the table",
            )
        ],
    ),
    "five": (
        [
            (
                BUGS,
                BUG_ONE,
                "",
            )
        ],
        [(BUGS, 0, "5 planted bugs, wanted at least 6", "plant mistakes that people make")],
    ),
    "bug rule": (
        [(BUGS, 'rule = "R5"', 'rule = "R7"')],
        [
            (
                BUGS,
                38,
                "bug reads_three_times: there is no rule R7",
                "name the rule that it breaks: R1, R2, R3, R4, R5",
            )
        ],
    ),
    "two of a name": (
        [(BUGS, '"skips_the_last"', '"begins_at_one"')],
        [(BUGS, 24, "two bugs are called begins_at_one", "rename one")],
    ),
    "nowhere": (
        [(BUGS, "result = 0.0", "result = 0;")],
        [
            (
                BUGS,
                24,
                "bug begins_at_one: find matches nowhere in reference/01_sums.py",
                "copy one place of the reference verbatim",
            )
        ],
    ),
    "twice find": (
        [(BUGS, "'''result += read(i)'''", "'''result'''")],
        [
            (
                BUGS,
                38,
                (
                    "bug reads_three_times: find matches reference/01_sums.py:15 and "
                    "reference/01_sums.py:17 and reference/01_sums.py:18"
                ),
                "take more of the lines around it",
            )
        ],
    ),
    "no change": (
        [(BUGS, "'''result = 1.0'''", "'''result  = 0.0'''")],
        [
            (
                BUGS,
                24,
                "bug begins_at_one: the patch changes no code",
                "plant the mistake in replace",
            )
        ],
    ),
    "same patch": (
        [(BUGS, "'''    a += b\n    return a'''", "'''    return a - b'''")],
        [(BUGS, 9, "bug adds_in_place: the same patch as subtracts", "remove one of the two")],
    ),
    "patch syntax": (
        [(BUGS, "'''result = 1.0'''", "'''result = '''")],
        [
            (
                BUGS,
                24,
                (
                    "bug begins_at_one: the patched reference is not Python (line 15: invalid "
                    "syntax)"
                ),
                "correct replace",
            )
        ],
    ),
}


@pytest.mark.parametrize("case", TEXT_CASES.values(), ids=TEXT_CASES)
def test_one_mistake_is_one_line(tmp_path: Path, case: Case) -> None:
    """A challenge with one mistake in its text gets the line that names it, and no other."""
    sums = Sums(tmp_path)
    sums.write()

    found = sums.change(*case[0]).text()

    assert found == lines(case)
