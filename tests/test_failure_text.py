"""The text of a failure, whole: what a learner reads."""

from __future__ import annotations

import os
import textwrap

import pytest
from conftest import REFERENCE, Suite


def block(result: pytest.RunResult, test: str) -> str:
    """The text of one failure: between its headline and the next."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.strip("_ ") == test and "_ " in line)
    rest = lines[start + 1 :]
    end = next(i for i, line in enumerate(rest) if line.startswith(("___", "===", "---")))
    return "\n".join(rest[:end]) + "\n"


def text_of(suite: Suite, body: str, solution: str, *args: str) -> str:
    """The failure text of one hidden test with that body, graded on that solution."""
    stage = "import numpy as np\nfrom pytest_llmgrind import check, given, rule, st\n\n"
    suite.challenge(stages={"pairs": stage + textwrap.dedent(body)})
    suite.solve(solution)
    return block(suite.run("challenges", *args), "test_it")


CLOSE = """
    @rule("R1")
    def test_it(solution):
        x = np.arange(3.0)
        check.close(solution.add(x, x), 2 * x, what="sum", given="0, 1 and 2, twice")
"""
GIVEN = """
    @rule("R1")
    @given(a=st.integers(0, 99), b=st.just("text"))
    def test_it(solution, a, b):
        check.equal(solution.add(a, a), 2 * a, what="sum", given=f"a={a}")
"""


def add(body: str) -> str:
    """A solution whose ``add`` has that body."""
    return REFERENCE.replace("    return a + b", textwrap.indent(textwrap.dedent(body), "    "))


def test_a_wrong_value(suite: Suite) -> None:
    """Rule, what was seen, where to read: three lines and no more."""
    text = text_of(suite, CLOSE, add("return a - b"))

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        "  saw    0, 1 and 2, twice: sum differed by up to 4 at index (2,), in 2 of 3 elements\n"
        "  read   challenges/01_sums/spec.md#adding\n"
    )


@pytest.mark.parametrize(
    ("value", "saw"),
    [
        ("None", "sum came back as None, wanted a NumPy array"),
        ("[0, 2, 4]", "sum came back as a list, wanted a NumPy array"),
        ("(a + b)[:, None]", "sum had shape (3, 1), wanted (3,)"),
        ("(a + b).astype('f')", "sum had dtype float32, wanted float64"),
        ("a / 0 * 0", "sum held NaN at index (0,), in 3 of 3 elements"),
    ],
)
def test_a_wrong_form(suite: Suite, value: str, saw: str) -> None:
    """The rung of the ladder that broke, in one sentence."""
    text = text_of(suite, CLOSE, add(f"return {value}"))

    assert text.splitlines()[1] == f"  saw    0, 1 and 2, twice: {saw}"


def test_an_exception_in_the_solution(suite: Suite) -> None:
    """What was raised, and the learner's own frames: where, and the line."""
    text = text_of(suite, CLOSE, add("return helper(a)") + "\ndef helper(a):\n    return a['x']\n")

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        "  saw    raised IndexError: only integers, slices (`:`), ellipsis (`...`), "
        "numpy.newaxis (`None`) and integer or boolean arrays are valid indices\n"
        "  read   challenges/01_sums/spec.md#adding\n"
        "\n"
        "  solutions/01_sums.py:5: in add\n"
        "      return helper(a)\n"
        "  solutions/01_sums.py:13: in helper\n"
        "      return a['x']\n"
    )


def test_an_exception_in_a_library_that_the_solution_called(suite: Suite) -> None:
    """The frames end in the learner's own code, not in the library's."""
    solution = "import numpy as np\n" + add("return np.linalg.inv(a)")

    text = text_of(suite, CLOSE, solution)

    assert text.splitlines()[1].startswith("  saw    raised LinAlgError: ")
    assert text.splitlines()[-2:] == [
        "  solutions/01_sums.py:7: in add",
        "      return np.linalg.inv(a)",
    ]


def test_the_example_of_a_property(suite: Suite) -> None:
    """The smallest input that breaks the rule is said by the test's own words."""
    text = text_of(suite, GIVEN, add("return a + b + (a > 6)"))

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        "  saw    a=7: sum came back as 15, which is not right\n"
        "  read   challenges/01_sums/spec.md#adding\n"
    )


def test_the_example_of_an_exception_in_a_property(suite: Suite) -> None:
    """Where the solution raised, what was drawn stands before it."""
    text = text_of(suite, GIVEN, add("return a['x']"))

    assert text.splitlines()[1] == (
        "  saw    a=0, b='text': raised TypeError: 'int' object is not subscriptable"
    )


def test_the_wrong_error(suite: Suite) -> None:
    """``check.raises`` shows where the other error came from."""
    body = """
        @rule("R2")
        def test_it(solution):
            check.raises(ValueError, solution.add, 1, 2, what="add", given="1, 2", names="a")
    """
    text = text_of(suite, body, add("raise KeyError(a)"))

    assert text == (
        "R2  total returns the sum of a list.\n"
        "  saw    1, 2: add raised KeyError: 1, wanted ValueError\n"
        "  read   challenges/01_sums/spec.md#rules\n"
        "\n"
        "  solutions/01_sums.py:5: in add\n"
        "      raise KeyError(a)\n"
    )


@pytest.mark.parametrize(
    ("line", "saw"),
    [
        ("solution.add(1, 2).shape", "AttributeError: 'NoneType' object has no attribute 'shape'"),
        ("solution.add(1, 2)[0]", "TypeError: 'NoneType' object is not subscriptable"),
        (
            "solution.add(1, 2) + 41",
            "TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'",
        ),
        ("{'SECRET': 1}[solution.add(1, 2)]", "KeyError"),
        ("assert solution.add(1, 2) == 'SECRET'", "AssertionError"),
        ("raise ExceptionGroup('SECRET', [ValueError('SECRET')])", "ExceptionGroup"),
        ("raise RuntimeError('SECRET') from ValueError('SECRET')", "RuntimeError"),
        ("np.testing.assert_allclose(1.0, 41.0)", "AssertionError"),
    ],
)
def test_an_answer_that_the_test_cannot_use(suite: Suite, line: str, saw: str) -> None:
    """The test itself raised, since it got None: it is said so, without a line of it."""
    body = f'@rule("R1")\ndef test_it(solution):\n    {line}\n'

    text = text_of(suite, body, add("return None"))

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        f"  saw    what came back cannot be used: {saw}\n"
        "  read   challenges/01_sums/spec.md#adding\n"
    )


def test_an_exception_of_a_function_that_was_passed_in(suite: Suite) -> None:
    """A solution that calls the test's own function wrongly sees where it called it."""
    body = """
        @rule("R1")
        def test_it(solution):
            def model(ids):
                raise ValueError("ids: wanted two axes, got 1")
            solution.add(model, 1)
    """

    text = text_of(suite, body, add("return a(b)"))

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        "  saw    called a function of the test, which raised ValueError: ids: wanted two axes,"
        " got 1\n"
        "  read   challenges/01_sums/spec.md#adding\n"
        "\n"
        "  solutions/01_sums.py:5: in add\n"
        "      return a(b)\n"
    )


def test_different_answers_to_the_same_input(suite: Suite) -> None:
    """A solution that keeps state between calls is told that it does."""
    solution = add("calls.append(a)\nreturn a + b + (len(calls) == 9)").replace(
        '"""Sums."""', "calls = []"
    )

    text = text_of(suite, GIVEN, solution)

    assert "run again with the same input, it gave another result" in text.splitlines()[1]
    assert text.splitlines()[2] == "  read   challenges/01_sums/spec.md#adding"


def test_endless_recursion(suite: Suite) -> None:
    """Of a thousand frames the last three are shown."""
    text = text_of(suite, CLOSE, add("return add(a, b)"))

    frame = "  solutions/01_sums.py:5: in add\n      return add(a, b)\n"
    assert text.endswith("\n\n" + 3 * frame)
    assert "raised RecursionError: maximum recursion depth exceeded" in text


NASTY = """
class Nasty(Exception):
    def __str__(self): raise ValueError("SECRET")
    __repr__ = __str__

class Breach(Exception): pass
"""


@pytest.mark.parametrize(
    ("raised", "saw"),
    [
        ("Nasty()", "raised Nasty: <a text that cannot be made: ValueError>"),
        ("Breach('own')", "raised Breach: own"),
        ("ValueError('x' * 10_000_000)", "raised ValueError: " + "x" * 297 + "..."),
        ("ValueError('\\x1b[31mred\\x07\\r\\n' * 2)", "raised ValueError: [31mred [31mred"),
        ("ValueError('\\ud800')", "raised ValueError"),
        (
            "ExceptionGroup('many', [ValueError('x')])",
            "raised ExceptionGroup: many (1 sub-exception)",
        ),
        ("SystemExit(3)", "raised SystemExit: 3"),
        ("BaseException('odd')", "raised BaseException: odd"),
        ("GeneratorExit", "raised GeneratorExit"),
    ],
)
def test_exceptions_that_bite(suite: Suite, raised: str, saw: str) -> None:
    """Texts that raise, flood, move the cursor or end programs are one plain line."""
    text = text_of(suite, CLOSE, add(f"raise {raised}") + NASTY)

    assert text.splitlines()[1] == f"  saw    {saw}"
    assert text.splitlines()[-2].startswith("  solutions/01_sums.py:5: in add")
    assert "SECRET" not in text


def test_an_exception_from_another(suite: Suite) -> None:
    """The last exception is the news; its frames are shown."""
    solution = add("try:\n    a['x']\nexcept IndexError as e:\n    raise ValueError('bad') from e")

    text = text_of(suite, CLOSE, solution)

    assert text.splitlines()[1] == "  saw    raised ValueError: bad"
    assert text.splitlines()[-1] == "      raise ValueError('bad') from e"


def test_what_it_looks_like(suite: Suite) -> None:
    """A planted bug that answers the same is named in a line of its own."""
    bugs = """
        [[bug]]
        name = "product"
        rule = "R1"
        misconception = "the arguments were multiplied"
        find = "a + b"
        replace = "a * b"
    """
    stage = "import numpy as np\nfrom pytest_llmgrind import check, rule\n" + textwrap.dedent(CLOSE)
    suite.challenge(stages={"pairs": stage}, bugs=bugs)
    suite.solve(add("return a * b"))

    text = block(suite.run("challenges"), "test_it")

    assert text == (
        "R1  add returns the sum of its arguments.\n"
        "  saw    0, 1 and 2, twice: sum differed by up to 1 at index (1,), in 1 of 3 elements\n"
        "  looks like   the arguments were multiplied\n"
        "  read   challenges/01_sums/spec.md#adding\n"
    )


def test_a_rule_that_the_spec_lacks(suite: Suite) -> None:
    """Without a sentence the id stands alone, and the spec without a place."""
    text = text_of(suite, CLOSE.replace("R1", "R9"), add("return a"))

    assert text.splitlines()[0] == "01_sums  R9"
    assert text.splitlines()[2] == "  read   challenges/01_sums/spec.md"


def test_paths_are_relative_to_where_you_are(suite: Suite) -> None:
    """What is printed can be clicked: paths are those that the user would type."""
    suite.challenge()
    suite.solve(add("raise KeyError"))
    os.chdir(suite.path / "challenges")

    text = block(suite.run("01_sums"), "test_sum_of_a_pair")

    assert "  read   01_sums/spec.md#adding\n" in text
    assert f"  {suite.path}/solutions/01_sums.py:5: in add\n" in text


def test_a_mistake_of_the_test_is_not_yours(suite: Suite) -> None:
    """A check that is misused, and a fixture that does not exist, are the challenge's mistakes."""
    misused = '@rule("R1")\ndef test_it(solution):\n    check.equal(1.5, 1.5, what="x")\n'
    unknown = '@rule("R1")\ndef test_it(solution, oracle): ...\n'

    assert text_of(suite, misused, REFERENCE).splitlines()[1] == (
        "  saw    nothing of yours: this challenge has a mistake (check.equal: a float (1.5) is not"
        " compared exactly; see check.close)"
    )
    assert text_of(suite, unknown, REFERENCE).splitlines()[1] == (
        "  saw    nothing of yours: this challenge has a mistake"
        " (its test asks for a fixture 'oracle')"
    )


@pytest.mark.skipif(pytest.version_tuple < (8, 4), reason="pytest showed no texts there before")
def test_the_short_summary_names_the_rule(suite: Suite) -> None:
    """One line for each failure: the test, and the rule that it proves."""
    suite.challenge()
    suite.solve(add("return a - b"))

    result = suite.run("challenges")

    result.stdout.fnmatch_lines(
        ["FAILED challenges/01_sums/hidden/1_pairs.py::test_sum_of_a_pair - R1  add *..."]
    )


@pytest.mark.parametrize("ci", [False, True])
@pytest.mark.parametrize("options", [(), ("-n2",), ("-vv",)], ids=" ".join)
def test_the_short_summary_is_one_line_in_ci_too(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], ci: bool
) -> None:
    """In CI and under -vv pytest prints whole messages there; ours are told once."""
    suite.challenge()
    suite.solve(add("return a - b"))
    if ci:
        monkeypatch.setenv("CI", "true")

    result = suite.run("challenges", "-k", "pairs", *options)

    assert sum(line.startswith("  saw ") for line in result.outlines) == 1


def test_another_tool_finds_the_place_in_the_learners_code(suite: Suite) -> None:
    """--tb=line, JUnit and annotations get one sentence, and where the code was last."""
    suite.challenge()
    suite.solve(add("raise KeyError(1)"))

    result = suite.run("challenges", "-k", "pairs", "--tb=line", "--junitxml=junit.xml")

    sentence = "R1  add returns the sum of its arguments."
    result.stdout.fnmatch_lines([f"solutions/01_sums.py:5: {sentence}"])
    assert f'message="{sentence}"' in (suite.path / "junit.xml").read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [
        *((f"--tb={tb}", *more) for tb in ("short", "long", "native") for more in ((), ("-l",))),
        ("--full-trace",),
        ("--full-trace", "-l", "-vvv"),
        ("-n2", "--tb=long"),
    ],
    ids=" ".join,
)
def test_is_the_same_however_it_is_asked_for(suite: Suite, options: tuple[str, ...]) -> None:
    """No option of pytest adds to it or takes from it."""
    suite.challenge()
    suite.solve(add("raise KeyError(bool(a.sum() > 100))"))

    result = suite.run("challenges", *options)

    lines = block(result, "test_sum_of_a_pair").splitlines()
    assert [line for line in lines if not line.startswith("[gw")] == [
        "R1  add returns the sum of its arguments.",
        "  saw    raised KeyError: False",
        "  read   challenges/01_sums/spec.md#adding",
        "",
        "  solutions/01_sums.py:5: in add",
        "      raise KeyError(bool(a.sum() > 100))",
    ]


def test_an_author_sees_everything(suite: Suite) -> None:
    """``--show-hidden`` is pytest's own text, for who writes challenges."""
    suite.challenge()
    suite.solve(add("return a - b"))

    result = suite.run("challenges", "--show-hidden")

    result.stdout.fnmatch_lines(
        [
            "*check.close(solution.add(x, x), 2 [*] x, what=*",
            "E *RuleBroken: 3 numbers, twice: sum differed by *",
        ]
    )
