"""A solution that hangs is ended, and said to have hung."""

from __future__ import annotations

import signal
import sys

import pytest
from conftest import Suite

HANG = "while True: pass"
SWALLOW = "while True:\n        try:\n            {}\n        except{}:\n            pass"
UNENDING = {
    "nested excepts": (
        SWALLOW.format("inner()", ""),
        "def inner():\n    " + SWALLOW.format("1", ""),
    ),
    "C code": ("hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)", "import hashlib"),
}
PLAIN = """
    from pytest_llmgrind import check, rule

    @rule("R1")
    def test_hangs(solution):
        check.equal(solution.add(1, 1), 2, what="sum")

    @rule("R2")
    def test_next(solution):
        check.equal(solution.total([1]), 1, what="total")
"""
PROPERTY = """
    from pytest_llmgrind import check, given, rule, st

    @rule("R1")
    @given(n=st.integers(0, 99))
    def test_hangs(solution, n):
        check.equal(solution.add(n, 1), n + 1, what="sum", given=f"n={n}")

    @rule("R2")
    def test_next(solution):
        check.equal(solution.total([1]), 1, what="total")
"""


def solution(body: str, imports: str = "") -> str:
    """A solution whose ``add`` does that."""
    return f"{imports}\n\ndef add(a, b):\n    {body}\n\n\ndef total(xs):\n    return sum(xs)\n"


def hang(suite: Suite, body: str, stage: str = PLAIN, imports: str = "") -> pytest.RunResult:
    """Grade a solution that hangs, with a limit of 0.3 s."""
    suite.challenge(stages={"pairs": stage}, imports=("numpy", "threading"), top="timeout = 0.3")
    suite.solve(solution(body, imports))
    return suite.run("challenges")


SAID = [
    "R1  add returns the sum of its arguments.",
    "  saw    no answer within 0.3 s",
    "  read   challenges/01_sums/spec.md#adding",
    "",
    "  solutions/01_sums.py:*: in add",
]


@pytest.mark.parametrize(
    ("body", "imports"),
    [
        (HANG, ""),
        ("time.sleep(60)", "import time"),
        (
            SWALLOW.format("a += 1", " Exception"),
            "",
        ),
        (
            SWALLOW.format("a += 1", " BaseException"),
            "",
        ),
        (
            SWALLOW.format("time.sleep(9)", ""),
            "import time",
        ),
        (
            "t = threading.Thread(target=time.sleep, args=(9,))\n    t.start()\n    t.join()",
            "import threading, time",
        ),
        (
            "lock.acquire()",
            "import threading\nlock = threading.Lock()\nlock.acquire()",
        ),
    ],
    ids=[
        "loop",
        "sleep",
        "except Exception",
        "except BaseException",
        "bare except",
        "thread",
        "lock",
    ],
)
def test_a_hang_is_named_and_the_next_test_runs(suite: Suite, body: str, imports: str) -> None:
    """However it hangs, the failure says so, shows where, and the others are graded."""
    result = hang(suite, body, imports=imports)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(SAID, consecutive=True)
    result.stdout.fnmatch_lines(["TIMED OUT challenges/01_sums/hidden/1_pairs.py::test_hangs*"])


def test_a_hang_in_a_property_is_not_run_again(suite: Suite) -> None:
    """Hypothesis neither replays nor shrinks what hangs; the example is said."""
    result = hang(
        suite, f"print('called', a)\n    if a > 3:\n        {HANG}\n    return a + b", PROPERTY
    )

    result.assert_outcomes(passed=1, failed=1)
    (said,) = [line for line in result.outlines if line.startswith("  saw")]
    calls = [line for line in result.outlines if line.startswith("called")]
    assert said == f"  saw    n={calls[-1].split()[1]}: no answer within 0.3 s"
    assert sum(int(line.split()[1]) > 3 for line in calls) == 1


def test_a_hang_in_the_import_is_waited_for_once(suite: Suite) -> None:
    """The first test says it, the rest is blocked; nobody waits again."""
    suite.challenge(top="timeout = 0.3")
    suite.solve(solution("return a + b", f"x = 1\n{HANG}"))

    result = suite.run("challenges")

    assert result.ret == 1
    assert result.duration < 3
    result.stdout.fnmatch_lines(
        [
            "01_sums  cannot be graded",
            "  saw    01_sums.py:2: the import gave no answer within 0.3 s",
            "  read   challenges/01_sums/spec.md",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        ["TIMED OUT challenges/01_sums/hidden/1_pairs.py::*", "*1 failed, 1 blocked in *"]
    )


@pytest.mark.parametrize(
    ("top", "args", "limit"),
    [
        ("timeout = 0.3", (), "0.3"),
        ("timeout = 30", ("--timeout", "0.2"), "0.2"),
        ("timeout = 0.1", ("--timeout", "0.4"), "0.4"),
        ("timeout = 0.3", ("-o", "timeout=50"), "0.3"),
        ("timeout = 0.3", ("--timeout-method", "thread"), "0.3"),
    ],
)
def test_the_command_line_wins(suite: Suite, top: str, args: tuple[str, ...], limit: str) -> None:
    """The limit is the manifest's, whatever the ini file says, unless --timeout is given."""
    suite.challenge(stages={"pairs": PLAIN}, top=top)
    suite.solve(solution(HANG))

    result = suite.run("challenges", *args)

    result.stdout.fnmatch_lines([f"  saw    no answer within {limit} s"])


def test_sixty_seconds_without_a_word(suite: Suite) -> None:
    """Without a limit in the manifest it is 60 s."""
    suite.challenge()
    items, _ = suite.pytester.inline_genitems("-p", "llmgrind", "-p", "timeout")

    assert [item.get_closest_marker("timeout").args for item in items] == [(60.0,), (60.0,)]


@pytest.mark.parametrize("args", [("--timeout", "0"), ("-p", "no:timeout")])
def test_no_limit(suite: Suite, args: tuple[str, ...]) -> None:
    """``--timeout 0`` and a session without pytest-timeout wait."""
    suite.challenge(stages={"pairs": PLAIN}, top="timeout = 0.05")
    suite.solve(solution("time.sleep(0.3)\n    return a + b", "import time"))

    suite.run("challenges", *args).assert_outcomes(passed=2)


def test_a_planted_bug_that_hangs_is_no_diagnosis(suite: Suite) -> None:
    """While a failure is diagnosed the limit still holds, and the failure stays what it was."""
    bugs = """
        [[bug]]
        name = "endless"
        rule = "R1"
        misconception = "it never ends"
        find = "    return a + b"
        replace = "    while True: pass"
    """
    suite.challenge(stages={"pairs": PLAIN}, bugs=bugs, top="timeout = 0.5")
    suite.solve(solution("return a - b"))

    result = suite.run("challenges")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["  saw    sum came back as 0, which is not right"])
    result.stdout.no_fnmatch_line("*looks like*")


def test_nothing_is_left_behind(suite: Suite) -> None:
    """After a hang and after a pass, signal handler and timer are as before."""

    def mine(signum: int, frame: object) -> None: ...

    before, trace = signal.signal(signal.SIGALRM, mine), sys.gettrace()
    try:
        hang(suite, SWALLOW.format("a += 1", ""))

        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert sys.gettrace() is trace
    finally:
        signal.signal(signal.SIGALRM, before)


def test_your_own_tests_keep_pytest_timeouts_way(suite: Suite) -> None:
    """A test outside of challenges is ended as pytest-timeout does it."""
    suite.challenge()
    suite.write("tests/test_own.py", f"def test_own():\n    {HANG}\n")

    result = suite.run("tests", "--timeout", "0.3")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Failed: Timeout *>0.3s*"])


@pytest.mark.parametrize("args", [("-n2",), ("-n2", "--dist=worksteal")])
def test_under_xdist(suite: Suite, args: tuple[str, ...]) -> None:
    """A hang in a worker is named like any other."""
    suite.challenge(stages={"pairs": PLAIN}, top="timeout = 0.3")
    suite.solve(solution(HANG))

    result = suite.run("challenges", *args)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(SAID, consecutive=True)


class TestLastResort:
    """What no exception ends ends the process, and says so."""

    STOP = "import pytest_llmgrind.timeout\npytest_llmgrind.timeout.GRACE_S = 0.5\n"

    @pytest.mark.parametrize("name", UNENDING)
    def test_the_session_ends_with_one_message(self, suite: Suite, name: str) -> None:
        """The test that hung is named on the terminal, with the line; the exit code is 1."""
        suite.challenge(stages={"pairs": PLAIN}, imports=("numpy", "hashlib"), top="timeout = 0.3")
        suite.solve(solution(*UNENDING[name]))
        suite.write("stop.py", self.STOP)
        suite.pytester.syspathinsert()

        result = suite.run_process("challenges", "-p", "stop")

        assert result.ret == 1
        result.stderr.fnmatch_lines(
            [
                "TIMED OUT challenges/01_sums/hidden/1_pairs.py::test_hangs",
                "  saw    no answer within 0.3 s, and it cannot be ended: the session ends here",
                "  solutions/01_sums.py:*: in add",
            ]
        )

    def test_a_thread_that_hangs_does_not_keep_the_process(self, suite: Suite) -> None:
        """pytest ends though a thread of the solution never does."""
        suite.challenge(stages={"pairs": PLAIN}, imports=("threading", "time"))
        body = "threading.Thread(target=time.sleep, args=(99,)).start()\n    return a + b"
        suite.solve(solution(body, "import threading, time"))

        result = suite.run_process("challenges", timeout_s=20)

        result.assert_outcomes(passed=2)
