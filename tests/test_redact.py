"""No output shows a line of a hidden file, a wanted value or the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Suite

# Every line, name and value below that must not be seen holds one of these.
MARKS = ("HIDDEN", "WANTED", "ANSWER", "73519")

STAGE = '''
    """HIDDEN docstring of the module."""

    import logging
    import warnings

    import numpy as np
    import pytest

    from pytest_llmgrind import check, given, rule, st

    HIDDEN_WANTED = 73519
    HIDDEN_TABLE = {"WANTED": np.full(3, 73519.0)}

    @pytest.fixture
    def table():
        return HIDDEN_WANTED

    def HIDDEN_helper(saw):
        HIDDEN_local = np.full(3, 73519.0)
        check.close(saw, HIDDEN_local, what="sum")  # HIDDEN comment

    @rule("R1")
    def test_value(solution):
        """HIDDEN docstring of a test."""
        HIDDEN_local = HIDDEN_WANTED
        check.equal(solution.add(1, 2), HIDDEN_local, what="sum")

    @rule("R1")
    def test_array(solution):
        HIDDEN_helper(solution.add(np.ones(3), 0))

    @rule("R1")
    def test_reference(solution, reference):
        check.equal(solution.add(1, 2), reference.ANSWER, what="sum")

    @rule("R1")
    def test_reference_raises(solution, reference):
        reference.ANSWER_raise()

    @rule("R1")
    @given(n=st.integers(0, 9))
    def test_property(solution, n):
        check.equal(solution.add(n, 1), HIDDEN_WANTED, what="sum", given=f"n={n}")

    @rule("R1")
    def test_bare_assert(solution):
        assert solution.add(1, 2) == HIDDEN_WANTED, "HIDDEN message"

    @rule("R1")
    def test_numpy_assert(solution):
        np.testing.assert_allclose(solution.add(np.ones(3), 0), HIDDEN_TABLE["WANTED"])

    @rule("R1")
    def test_none(solution):
        HIDDEN_local = solution.total([]) - HIDDEN_TABLE["WANTED"]

    @rule("R1")
    def test_key(solution):
        {"HIDDEN": 1}[HIDDEN_WANTED]

    @rule("R1")
    def test_group(solution):
        try:
            solution.add("crash", 1)
        except Exception as error:
            raise ExceptionGroup("HIDDEN", [ValueError("WANTED"), error])

    @rule("R1")
    def test_chain(solution):
        try:
            solution.add("crash", 1)
        except Exception as error:
            raise RuntimeError("HIDDEN WANTED") from error

    @rule("R1")
    def test_callback(solution):
        def HIDDEN_callback():
            raise LookupError(HIDDEN_WANTED)
        solution.add("call", HIDDEN_callback)

    @rule("R1")
    def test_crash(solution, table):
        solution.add("crash", 1)

    @rule("R1")
    def test_recursion(solution):
        def HIDDEN_again():
            solution.add("call", HIDDEN_again)
        HIDDEN_again()

    @rule("R1")
    def test_warns(solution):
        solution.add("warn", 1)  # HIDDEN
        HIDDEN_wrong = np.ones(1) / 0
        check.that(False, saw="warned")

    @rule("R1")
    def test_logs(solution):
        solution.add("log", 1)
        logging.getLogger().warning("from the solution's side")
        check.that(False, saw="logged")

    @rule("R1")
    def test_hangs(solution):
        solution.add("hang", 1)

    @rule("R1")
    def test_nasty(solution):
        solution.add("nasty", 1)

    @rule("R1")
    def test_lacks_a_fixture(solution, no_such_fixture):
        HIDDEN = 1

    @rule("R1")
    def test_todo(solution):
        solution.total(["todo"])  # HIDDEN

    @rule("R1")
    @pytest.mark.xfail(reason="no")
    def test_xfail(solution):
        check.equal(1, HIDDEN_WANTED, what="sum")
'''
REFERENCE = '''
"""ANSWER of the whole."""

ANSWER = 73519

def add(a, b):
    """Doc."""
    ANSWER_line = a + b
    return ANSWER_line

def total(xs):
    """Doc."""
    return sum(xs)

def ANSWER_raise():
    raise ValueError("bad")  # ANSWER
'''
SOLUTION = """
import logging
import warnings


class Nasty(Exception):
    def __str__(self):
        raise self
    __repr__ = __str__


def add(a, b):
    if a == "crash":
        return [][0]
    if a == "call":
        return b()
    if a == "warn":
        warnings.warn("careful", stacklevel=2)
    if a == "log":
        logging.warning("learner logs")
    if a == "nasty":
        raise Nasty
    while a == "hang":
        pass
    print("learner prints")
    return a


def total(xs):
    if xs:
        raise NotImplementedError("later")
"""
OPTIONS = [
    (),
    ("-l",),
    ("--showlocals", "--tb=long", "-vv"),
    ("--full-trace",),
    ("--full-trace", "-l", "-vvv"),
    ("--tb=short",),
    ("--tb=native",),
    ("--tb=line",),
    ("--tb=no", "-rA"),
    ("-rA", "-vv"),
    ("-s",),
    ("-n2", "-l", "-rA"),
    ("--log-cli-level=DEBUG", "--log-level=DEBUG"),
    ("-W", "error"),
    ("-W", "always", "-rw"),
    ("-p", "no:warnings"),
    ("-p", "no:logging"),
    ("-p", "no:timeout", "-k", "not hangs"),
    ("-x",),
    ("--maxfail=3",),
    ("--setup-show",),
    ("--durations=0", "-vv"),
    ("--co", "-vv"),
    ("--fixtures-per-test",),
    ("--collect-only",),
    ("--assert=plain",),
    ("--no-showlocals", "--color=yes"),
]


@pytest.fixture
def planted(suite: Suite) -> Suite:
    """A challenge full of marks, and a solution that goes wrong in every way."""
    suite.challenge(
        stages={"pairs": STAGE},
        reference=REFERENCE,
        imports=("numpy", "logging"),
        top="timeout = 1",
    )
    suite.solve(SOLUTION)
    return suite


def leaks(suite: Suite, text: str) -> list[str]:
    """The marks, and the lines of hidden files and the reference, that stand in a text."""
    found = [mark for mark in MARKS if mark in text]
    printed = {line.strip().lstrip(">E| ").strip() for line in text.splitlines()}
    for file in ("challenges/01_sums/hidden/1_pairs.py", "reference/01_sums.py"):
        lines = (line.strip() for line in (suite.path / file).read_text().splitlines())
        found += [line for line in lines if len(line) > 12 and line in printed]
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_nothing_of_the_graders_is_shown(planted: Suite, options: tuple[str, ...]) -> None:
    """Whatever is asked of pytest, no mark and no line of the grader's is in its output."""
    result = planted.run("challenges", "--junitxml=junit.xml", *options)

    xml = planted.path / "junit.xml"
    text = result.stdout.str() + result.stderr.str()
    assert leaks(planted, text + (xml.read_text() if xml.exists() else "")) == []
    assert "INTERNALERROR" not in text
    assert "1_pairs.py" in text


def test_the_marks_would_be_found(planted: Suite) -> None:
    """The search can fail: with ``--show-hidden`` every mark is in the output."""
    result = planted.run("challenges", "--show-hidden", "-l", "-k", "not hangs")

    found = leaks(planted, result.stdout.str())
    assert set(MARKS) <= set(found)
    assert "HIDDEN_local = HIDDEN_WANTED" in found


def test_what_a_learner_needs_is_shown(planted: Suite) -> None:
    """Their own frames, prints and logs are theirs."""
    result = planted.run("challenges", "-rA")

    text = result.stdout.str()
    for line in ("      return [][0]", "learner prints", "learner logs", "      raise Nasty"):
        assert line in text


def test_a_broken_hidden_file_shows_no_line(planted: Suite) -> None:
    """An error while it is imported, with every option that shows more."""
    planted.write("challenges/01_sums/hidden/1_pairs.py", STAGE + "\n    HIDDEN_WANTED / 0\n")

    for options in ((), ("-l", "--full-trace", "-vv"), ("-n2",), ("--tb=native",)):
        result = planted.run("challenges", *options)

        assert leaks(planted, result.stdout.str() + result.stderr.str()) == []
        result.stdout.fnmatch_lines(["*hidden/1_pairs.py:* does not load: ZeroDivisionError:*"])


def test_the_board_and_its_files_show_nothing(
    planted: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the leaderboard's JSON nor the summary of a CI job holds a mark."""
    summary = planted.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    planted.run("challenges", "--leaderboard-json", "board.json")

    text = (planted.path / "board.json").read_text() + summary.read_text()
    assert leaks(planted, text) == []


def test_the_cache_of_pytest_holds_ids_alone(planted: Suite) -> None:
    """What pytest keeps between runs names tests and shows nothing."""
    planted.run("challenges", "-p", "no:randomly")

    kept = [p.read_text() for p in (planted.path / ".pytest_cache").rglob("*") if p.is_file()]
    assert leaks(planted, "\n".join(kept)) == []


def test_every_text_ends(planted: Suite) -> None:
    """No failure text is long: the ladder says one thing, frames are three."""
    result = planted.run("challenges")

    blocks = re.split(r"\n_{5,} .* _{5,}\n", result.stdout.str())[1:]
    own = [block.split("\n---")[0].split("\n===")[0] for block in blocks]
    assert len(own) > 15
    assert max(len(text.splitlines()) for text in own) <= 11


def test_bytecode_of_hidden_files_stays_where_pytest_puts_it(planted: Suite) -> None:
    """Nothing is written beside the solution; the hidden directory holds pytest's cache alone."""
    planted.run("challenges")

    written = {p.name for p in Path(planted.path).rglob("__pycache__") for p in p.iterdir()}
    assert all("-pytest-" in name for name in written), written
