"""The outcomes of a test, what they count as, and when a challenge is in play."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ID, REFERENCE, STUB, Suite

from pytest_llmgrind.tiers import hardware

HALF = REFERENCE.replace("return sum(xs)", 'raise NotImplementedError("01_sums, stage 2")')
WRONG = REFERENCE.replace("a + b", "a - b")
SKIPPED = {"skipped": 2}


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose GPUs, if it has any, may not be used."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hardware.cache_clear()
    yield
    hardware.cache_clear()


class TestFresh:
    """A stub that nobody touched."""

    @pytest.mark.parametrize(
        "args", [(), ("challenges",), ("-n2",), ("-k", "not 01_sums or pairs")]
    )
    def test_is_skipped_where_nobody_asked(self, suite: Suite, args: tuple[str, ...]) -> None:
        """A run of the whole suite is not red for what nobody began."""
        suite.challenge()

        result = suite.run(*args)

        assert result.ret == 0
        assert result.parseoutcomes().get("skipped", 0) in (1, 2)
        assert "failed" not in result.parseoutcomes()

    @pytest.mark.parametrize(
        "args",
        [
            ("challenges/01_sums",),
            ("challenges/01_sums/hidden",),
            ("challenges/01_sums/hidden/1_pairs.py",),
            ("challenges/01_sums/hidden/1_pairs.py::test_sum_of_a_pair",),
            ("challenges/01_sums/spec.md",),
            ("-k", "01_sums"),
            ("-k", "sums and pairs"),
            ("challenges/01_sums", "-n2"),
        ],
    )
    def test_fails_where_it_was_asked_for(self, suite: Suite, args: tuple[str, ...]) -> None:
        """Naming a challenge puts it in play: to do counts as failed, in a word of its own."""
        suite.challenge()

        result = suite.run(*args)

        assert result.ret == 1
        assert set(result.parseoutcomes()) == {"todo"} | (
            {"deselected"} if "sums and pairs" in args else set()
        )

    def test_passes_no_test(self, suite: Suite) -> None:
        """Whatever is selected, an untouched stub passes nothing."""
        suite.challenge()

        for args in ((), ("challenges/01_sums",)):
            outcomes = [report["outcome"] for report in suite.reports(*args)]
            assert outcomes == ["todo", "todo"]

    def test_says_how_to_begin(self, suite: Suite) -> None:
        """The reason of the skip is the next command."""
        suite.challenge()

        result = suite.run("-rs")

        result.stdout.fnmatch_lines(
            ["SKIPPED [[]2[]] challenges/01_sums*: not begun: llmgrind start 01_sums"]
        )


class TestInPlay:
    """When what is not written counts."""

    def test_a_solution_file(self, suite: Suite) -> None:
        """A file in solutions/ puts its challenge in play, also where all of it is to do."""
        suite.challenge()
        suite.solve(STUB)

        result = suite.run()

        assert result.ret == 1
        assert result.parseoutcomes() == {"todo": 2}

    def test_a_stub_that_was_edited(self, suite: Suite) -> None:
        """One line of code in the stub is a beginning."""
        root = suite.challenge()
        suite.write(str(root / "stub.py"), HALF.replace("a + b", "b + a"))

        result = suite.run()

        assert result.ret == 1
        assert result.parseoutcomes() == {"passed": 1, "todo": 1}

    def test_one_of_two(self, suite: Suite) -> None:
        """Each challenge is in play by itself."""
        suite.challenge()
        suite.challenge("02_more")
        suite.solve(id="02_more")

        result = suite.run()

        assert result.ret == 0
        assert result.parseoutcomes() == {"passed": 2, "skipped": 2}

    def test_a_link_to_the_workspace(self, suite: Suite) -> None:
        """A challenge that is named through a link is named."""
        suite.challenge()
        (suite.path / "link").symlink_to(suite.path / "challenges")

        assert suite.run("link/01_sums").ret == 1


class TestWords:
    """Each outcome has its word, in the line, in the summary and in the report."""

    STAGE = """
        import pytest, time
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_passes(solution): ...

        @rule("R1")
        def test_fails(solution):
            check.equal(solution.add(1, 1), 2, what="sum")

        @rule("R1")
        def test_todo(solution):
            solution.total([])

        @rule("R1")
        def test_hangs(solution):
            while True: pass

        @rule("R1")
        @pytest.mark.gpu
        def test_gpu(solution): ...

        @rule("R1")
        @pytest.mark.slow
        def test_slow(solution): ...
    """
    MIXED = HALF.replace("a + b", "a - b")

    @pytest.mark.usefixtures("no_gpu")
    def test_in_the_line(self, suite: Suite) -> None:
        """``-v`` shows the word of each; the exit code is 1."""
        suite.challenge(stages={"pairs": self.STAGE}, top="timeout = 0.2")
        suite.solve(self.MIXED)

        result = suite.run("-v")

        assert result.ret == 1
        words = [line.split("::test_")[1].split()[:2] for line in result.outlines if "%]" in line]
        assert words == [
            ["passes", "PASSED"],
            ["fails", "FAILED"],
            ["todo", "TODO"],
            ["hangs", "TIMED"],
            ["gpu", "SKIPPED"],
            ["slow", "SKIPPED"],
        ]

    def test_in_the_report(self, suite: Suite) -> None:
        """What the board gets: builtins that say what happened, to which rule."""
        suite.challenge(stages={"pairs": self.STAGE}, top="timeout = 0.2")
        suite.solve(self.MIXED)

        passed, failed, todo, hung, gpu, slow = suite.reports()

        assert {**failed, "root": ""} == {
            "challenge": ID,
            "root": "",
            "stage": "pairs",
            "rule": "R1",
            "outcome": "failed",
            "saw": "sum came back as 0, which is not right",
            "blocks": False,
            "repeat": False,
            "budget": None,
            "notes": [],
            "solution": "solutions/01_sums.py",
            "is_stub": False,
            "in_play": True,
            "nodeid": "challenges/01_sums/hidden/1_pairs.py::test_fails",
        }
        assert (passed["outcome"], passed["saw"]) == ("passed", "")
        assert (todo["outcome"], todo["saw"]) == ("todo", "01_sums, stage 2")
        assert (hung["outcome"], hung["saw"]) == ("timed out", "no answer within 0.2 s")
        assert gpu["outcome"] in ("no hardware", "passed")
        assert slow["outcome"] == "skipped"

    def test_are_builtins(self, suite: Suite) -> None:
        """Anything else ends a run of xdist."""

        def plain(value: Any) -> bool:
            if isinstance(value, dict):
                return all(map(plain, value.values()))
            if isinstance(value, list):
                return all(map(plain, value))
            return type(value) in (str, int, float, bool, type(None))

        suite.challenge(stages={"pairs": self.STAGE}, top="timeout = 0.2")
        suite.solve(self.MIXED)

        assert all(map(plain, suite.reports()))

    @pytest.mark.usefixtures("no_gpu")
    def test_a_required_tier_that_is_missing_fails(self, suite: Suite) -> None:
        """``--require-tier gpu`` makes a missing GPU a failure, said once."""
        suite.challenge(tiers={"pairs": ["gpu"], "lists": ["gpu"]})
        suite.solve()

        result = suite.run("--require-tier", "gpu")

        assert result.ret == 1
        result.stdout.fnmatch_lines(["NO HARDWARE challenges/01_sums/hidden/1_pairs.py::*"])


class TestExitCode:
    """What scripts go by."""

    @pytest.mark.parametrize(
        ("text", "code"),
        [(REFERENCE, 0), (WRONG, 1), (HALF, 1), ("def add(", 1), ("raise SystemExit(0)\n", 1)],
    )
    @pytest.mark.parametrize("args", [(), ("-x",), ("-q", "-q"), ("--tb=no",)])
    def test_is_zero_only_where_all_passed(
        self, suite: Suite, text: str, code: int, args: tuple[str, ...]
    ) -> None:
        """Wrong, unwritten and ungradable solutions end with exit code 1."""
        suite.challenge()
        suite.solve(text)

        assert suite.run("challenges", *args).ret == code

    @pytest.mark.parametrize("text", [WRONG, HALF])
    def test_with_processes(self, suite: Suite, text: str) -> None:
        """The same under xdist."""
        suite.challenge()
        suite.solve(text)

        assert suite.run("challenges", "-n2").ret == 1

    def test_a_solution_cannot_skip_its_tests(self, suite: Suite) -> None:
        """``raise SkipTest`` and the like are failures."""
        suite.challenge(imports=("unittest",))
        suite.solve(
            REFERENCE.replace("return a + b", "import unittest; raise unittest.SkipTest('no')")
        )

        result = suite.run()

        assert result.ret == 1
        result.assert_outcomes(passed=1, failed=1)


class TestCrash:
    """A process that dies."""

    def test_is_a_failure_of_the_test_that_ran(self, suite: Suite) -> None:
        """A solution that kills its worker fails that test; the others are graded."""
        suite.challenge(imports=("os",))
        suite.solve(REFERENCE.replace("return a + b", "import os; os._exit(3)"))

        result = suite.run("challenges", "-n2")

        assert result.ret == 1
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*worker 'gw*' crashed while running*1_pairs.py*"])


def test_interrupting_shows_no_hidden_line(suite: Suite) -> None:
    """Control-C inside a hidden test, with --full-trace, prints frames of the learner alone."""
    stage = """
        from pytest_llmgrind import rule

        @rule("R1")
        def test_slow(solution):
            SECRET = solution.add(1, 1)
    """
    suite.challenge(stages={"pairs": stage})
    suite.solve(REFERENCE.replace("return a + b", "raise KeyboardInterrupt"))

    result = suite.run_process("challenges", "--full-trace")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*raise KeyboardInterrupt"])
    result.stdout.no_fnmatch_line("*SECRET*")
