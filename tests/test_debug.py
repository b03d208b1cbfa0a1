"""llmgrind debug: a program that is proven to be broken, and does not show where."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ID, Suite

from pytest_llmgrind import bugs, exercise
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.history import DEBUG, Attempt
from pytest_llmgrind.manifest import ManifestError

ROOT = Path(__file__).parents[1]
CHALLENGES = sorted(path.parent for path in ROOT.glob("challenges/*/challenge.toml"))
NOW = datetime(2026, 11, 27, 9, 30, 5, 120_000, tzinfo=UTC)
REFERENCE = '''
"""Sums."""

UP = 2
DOWN = 2


def add(a, b):
    """The sum of two arrays (N,), float64."""
    both = a + b  # (N,)
    return both * UP / DOWN


def total(xs):
    """The sum of a list of numbers."""
    return sum(xs) * UP // DOWN
'''


def bug(name: str, rule: str, find: str, replace: str) -> str:
    table = f'name = "{name}"\nrule = "{rule}"\nmisconception = "it is {name}"\n'
    return f'[[bug]]\n{table}find = "{find}"\nreplace = "{replace}"\n'


TWICE = bug("twice", "R1", "both = a + b", "both = a + 2 * b")
FIRST_LEFT_OUT = bug("first_left_out", "R2", "sum(xs)", "sum(xs[1:])")
UP = bug("up", "R1", "UP = 2", "UP = 4")
DOWN = bug("down", "R2", "DOWN = 2", "DOWN = 4")


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMGRIND_NOW", NOW.isoformat())


def challenge(suite: Suite, *planted: str, **options: object) -> None:
    suite.challenge(reference=REFERENCE, bugs="\n".join(planted), **options)  # type: ignore[arg-type]


def solution(suite: Suite) -> str:
    return (suite.path / "solutions/01_sums.py").read_text("utf-8")


def current(suite: Suite) -> Attempt:
    with suite.history() as history:
        attempt = history.current(ID)
        assert attempt is not None
        return attempt


def first_drawn(suite: Suite, table: str) -> str:
    """A seed that draws this bug before all others."""
    drawn = bugs.load(manifests.load(suite.path / "challenges/01_sums"))
    name = table.split('"')[1]
    return next(str(seed) for seed in range(99) if exercise.draw(drawn, seed)[0].name == name)


class TestVerb:
    def test_it_writes_a_broken_program_and_keeps_what_was_there(self, suite: Suite) -> None:
        """The reference with one bug stands in the place of the solution, which is archived."""
        challenge(suite, TWICE)
        suite.solve("mine = 1\n")
        suite.passed()

        result = suite.llmgrind("debug", ID, "--seed", "7")

        kept = ".llmgrind/archive/01_sums/20261127T093005.120Z.py"
        assert result.exit_code == 0
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            "solutions/01_sums.py is yours to repair: 01_sums, 1 bug planted, seed 7",
            f"kept  {kept}; llmgrind undo brings it back",
            "same  llmgrind debug 01_sums --seed 7 --bugs 1",
            "next  pytest challenges/01_sums",
        ]
        assert (suite.path / kept).read_text("utf-8") == "mine = 1\n"
        reference = REFERENCE.lstrip("\n")
        assert solution(suite) == reference.replace("both = a + b", "both = a + 2 * b")
        attempt = current(suite)
        assert (attempt.kind, attempt.bugs, attempt.started) == (DEBUG, ("twice",), NOW)

    def test_before_a_pass_it_says_that_it_shows_the_way(self, suite: Suite) -> None:
        """Who has not solved it is told, and can take it back."""
        challenge(suite, TWICE)

        result = suite.llmgrind("debug", ID)

        assert result.stderr == (
            "note  01_sums has not passed yet, and this program shows how it goes\n"
        )

    def test_a_seed_that_was_drawn_gives_the_same_again(self, suite: Suite) -> None:
        """What is printed as seed is what was used."""
        challenge(suite, TWICE, FIRST_LEFT_OUT)
        said = suite.llmgrind("debug", ID).stdout
        seed = re.search(r"seed (\d+)", said)
        assert seed is not None
        first = solution(suite)

        suite.llmgrind("debug", ID, "--seed", seed[1])

        assert solution(suite) == first

    def test_undo_brings_the_solution_back(self, suite: Suite) -> None:
        """With the attempt that it belonged to."""
        challenge(suite, TWICE)
        suite.llmgrind("start", ID)
        before, text = current(suite), solution(suite)
        suite.llmgrind("debug", ID)

        assert suite.llmgrind("undo").exit_code == 0
        assert (current(suite), solution(suite)) == (before, text)

    @pytest.mark.parametrize(
        ("planted", "count", "what"),
        [
            ([], "1", "0 of its bugs can be planted together here, 1 were asked for"),
            ([TWICE], "2", "1 of its bugs can be planted together here, 2 were asked for"),
        ],
    )
    def test_where_there_are_not_so_many_nothing_is_written(
        self, suite: Suite, planted: list[str], count: str, what: str
    ) -> None:
        """It says how many there are, and the solution stays."""
        challenge(suite, *planted)
        suite.solve("mine = 1\n")

        result = suite.llmgrind("debug", ID, "--bugs", count)

        assert result.exit_code == 1
        assert result.output == f"Error: 01_sums: {what}; nothing was written\n"
        assert solution(suite) == "mine = 1\n"

    def test_bugs_that_cannot_be_read_are_one_line(self, suite: Suite) -> None:
        """The file and the key are named."""
        challenge(suite, TWICE.replace("find", "fnid"))

        result = suite.llmgrind("debug", ID)

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {suite.path}/challenges/01_sums/hidden/bugs.toml")
        assert result.output.count("\n") == 1

    @pytest.mark.parametrize("args", [["--bugs", "0"], ["--seed", "-1"], ["--seed", "x"]])
    def test_a_number_that_is_none_is_a_wrong_command_line(
        self, suite: Suite, args: list[str]
    ) -> None:
        """Exit code 2."""
        challenge(suite, TWICE)

        assert suite.llmgrind("debug", ID, *args).exit_code == 2


class TestRuns:
    def test_a_run_is_a_debugging_attempt_and_does_not_tell(self, suite: Suite) -> None:
        """Failures name the rule and not the bug, until it is repaired."""
        challenge(suite, TWICE)
        suite.llmgrind("debug", ID)

        lines = suite.run("challenges").outlines

        assert "R1  add returns the sum of its arguments." in lines
        assert not [line for line in lines if "looks like" in line or "it is twice" in line]
        assert "  debug    try 1, under a minute; planted: 1 bug" in lines

    def test_the_board_of_the_run_that_passes_names_what_was_planted(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the time that it took; no date of repetition is moved."""
        challenge(suite, TWICE, FIRST_LEFT_OUT)
        suite.llmgrind("debug", ID, "--bugs", "2", "--seed", "1")
        suite.run("challenges")
        suite.solve(REFERENCE)
        monkeypatch.setenv("LLMGRIND_NOW", (NOW + timedelta(minutes=12)).isoformat())

        lines = suite.run("challenges").outlines

        at = lines.index("  debug    repaired: try 2, 12 min; planted were 2 bugs")
        assert sorted(lines[at + 1 : at + 3]) == [
            "  planted  it is first_left_out",
            "  planted  it is twice",
        ]
        with suite.history() as history:
            assert history.cards() == {}

    def test_after_it_was_repaired_failures_name_misconceptions_again(self, suite: Suite) -> None:
        """The silence is for the exercise alone."""
        challenge(suite, TWICE)
        suite.llmgrind("debug", ID)
        broken = solution(suite)
        suite.solve(REFERENCE)
        suite.run("challenges")
        suite.solve(broken)

        assert "  looks like   it is twice" in suite.run("challenges").outlines

    def test_another_directory_is_diagnosed_as_ever(self, suite: Suite) -> None:
        """A submission is nobody's exercise."""
        challenge(suite, TWICE)
        suite.llmgrind("debug", ID)
        suite.write("submissions/ada/01_sums.py", solution(suite))

        lines = suite.run("challenges", "--solutions", "submissions/ada").outlines

        assert "  looks like   it is twice" in lines

    @pytest.mark.parametrize("damage", ["not a database", ""])
    def test_a_history_that_cannot_be_read_silences_nothing(
        self, suite: Suite, damage: str
    ) -> None:
        """A failing run asks the history, and mends nothing of it meanwhile."""
        challenge(suite, TWICE)
        suite.llmgrind("debug", ID)
        for file in (suite.path / ".llmgrind").glob("history.db*"):
            file.unlink()
        suite.write(".llmgrind/history.db", damage * 100)

        assert "  looks like   it is twice" in suite.run("challenges").outlines

    def test_under_xdist_it_is_the_same(self, suite: Suite) -> None:
        """Workers ask as well."""
        challenge(suite, TWICE)
        suite.llmgrind("debug", ID)

        lines = suite.run_process("challenges", "-n1").outlines

        assert "R1  add returns the sum of its arguments." in lines
        assert not [line for line in lines if "looks like" in line]


class TestProof:
    def test_bugs_that_cancel_out_are_not_planted_together(self, suite: Suite) -> None:
        """Each breaks its rule, and both together break none."""
        challenge(suite, UP, DOWN)

        alone = suite.llmgrind("debug", ID)
        together = suite.llmgrind("debug", ID, "--bugs", "2")

        assert alone.exit_code == 0
        assert together.output == (
            "Error: 01_sums: 1 of its bugs can be planted together here, 2 were asked for; "
            "nothing was written\n"
        )

    def test_bugs_that_hang_together_are_not_planted_together(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each returns by itself; a program that does not is no exercise."""
        monkeypatch.setattr(exercise, "LIMIT_S", 1.0)
        loops = REFERENCE.replace(
            "    return sum", "    while UP + DOWN > 15: pass\n    return sum"
        )
        tables = UP.replace("UP = 4", "UP = 9") + DOWN.replace("DOWN = 4", "DOWN = 10")
        suite.challenge(reference=loops, bugs=tables)

        assert suite.llmgrind("debug", ID).exit_code == 0
        assert suite.llmgrind("debug", ID, "--bugs", "2").exit_code == 1

    def test_two_of_one_rule_are_not_planted_together(self, suite: Suite) -> None:
        """Each bug that is planted breaks another rule."""
        challenge(suite, TWICE, UP)

        assert suite.llmgrind("debug", ID, "--bugs", "2").exit_code == 1

    @pytest.mark.parametrize(
        "unfit",
        [
            bug("harmless", "R1", "both = a + b", "both = b + a"),
            bug("hangs", "R1", "both = a + b", "both = a + b\\n    while UP: pass"),
            bug("no_python", "R1", "both = a + b", "both = = a"),
            bug("nowhere", "R1", "c + d", "c - d"),
            bug("everywhere", "R1", "both", "xs"),
            bug("untested", "R9", "both = a + b", "both = a + 2 * b"),
            bug("unused", "R1", "both * UP / DOWN", "(a + 2 * b) * UP / DOWN"),
            bug("constant", "R1", "both = a + b", "both = a + b if True else a"),
        ],
        ids=lambda text: text.split('"')[1],
    )
    def test_a_bug_that_does_not_show_or_shows_where_it_is_is_not_planted(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch, unfit: str
    ) -> None:
        """No test fails; or it cannot run; or an editor would mark the place."""
        monkeypatch.setattr(exercise, "LIMIT_S", 1.0)
        challenge(suite, unfit, FIRST_LEFT_OUT)

        suite.llmgrind("debug", ID, "--seed", first_drawn(suite, unfit))

        assert current(suite).bugs == ("first_left_out",)

    def test_a_bug_that_this_machine_cannot_show_is_passed_over(self, suite: Suite) -> None:
        """And a note says that another machine may draw another program."""
        challenge(suite, TWICE, FIRST_LEFT_OUT, tiers={"pairs": ["multi_gpu"]})

        result = suite.llmgrind("debug", ID, "--seed", first_drawn(suite, TWICE))

        assert current(suite).bugs == ("first_left_out",)
        assert result.stderr.splitlines()[-1].startswith(
            "note  a machine that has all of it may get another program (multi_gpu: needs 2 GPUs, "
        )

    def test_what_only_a_slow_test_sees_is_not_planted(self, suite: Suite) -> None:
        """A plain run would call the broken program repaired."""
        challenge(suite, TWICE, FIRST_LEFT_OUT, tiers={"pairs": ["slow"]})

        suite.llmgrind("debug", ID, "--seed", first_drawn(suite, TWICE))

        assert current(suite).bugs == ("first_left_out",)


def planted(name: str, find: str, replace: str) -> Bug:
    return Bug(name=name, rule="R1", misconception=name, find=find, replace=replace)


class TestProgram:
    def test_a_changed_line_keeps_its_comment(self) -> None:
        """A shape that is missing behind one line of many would say which."""
        found = exercise.program(
            "x = f(a, b)  # (N,)\ny = g(x)  # (N, 1)\n",
            [planted("swapped", "y = g(x)  # (N, 1)", "y = g(x, x)")],
        )

        assert found == "x = f(a, b)  # (N,)\ny = g(x, x)  # (N, 1)\n"

    def test_a_line_that_is_gone_leaves_no_comment(self) -> None:
        """What was said of it says nothing of the lines that stay."""
        found = exercise.program(
            "x = 1\nx -= x.max()  # or it overflows\nreturn exp(x)\n",
            [planted("no_shift", "x -= x.max()  # or it overflows\nreturn", "return")],
        )

        assert found == "x = 1\nreturn exp(x)\n"

    def test_two_in_the_same_lines_are_refused(self) -> None:
        """Neither would be what it is alone."""
        both = [planted("one", "a + b", "a - b"), planted("two", "c", "d")]

        with pytest.raises(ManifestError, match="bugs one and two change the same lines"):
            exercise.program("x = a + b + c\n", both)

    def test_all_that_were_drawn_are_in_it(self) -> None:
        """Patches do not move each other."""
        both = [planted("one", "x = 1\n", ""), planted("two", "y = 2", "y = 3\nz = 4")]

        assert exercise.program("x = 1\ny = 2\nw = 5\n", both) == "y = 3\nz = 4\nw = 5\n"

    def test_another_bug_in_the_list_leaves_the_order(self) -> None:
        """A seed stays what it is when a challenge gets one more."""
        some = [planted(name, name, "") for name in "abcdef"]
        more = [*some, planted("g", "g", "")]

        for seed in range(20):
            drawn = [bug.name for bug in exercise.draw(more, seed) if bug.name != "g"]
            assert drawn == [bug.name for bug in exercise.draw(some, seed)]

    def test_seeds_differ(self) -> None:
        """All bugs come first for some seed."""
        some = [planted(name, name, "") for name in "abcdef"]

        assert {exercise.draw(some, seed)[0].name for seed in range(60)} == set("abcdef")


def plantable(root: Path) -> tuple[str, dict[str, str]]:
    """The reference, and the program of each bug that leaves no trace."""
    manifest = manifests.load(root)
    source = (manifest.reference / f"{manifest.id}.py").read_text("utf-8")
    programs = {b.name: exercise.program(source, [b]) for b in bugs.load(manifest)}
    clean = exercise.traces(source)
    return source, {n: text for n, text in programs.items() if not exercise.traces(text) - clean}


def comments(text: str) -> Counter[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.string for token in tokens if token.type == tokenize.COMMENT)


@pytest.mark.parametrize("root", CHALLENGES, ids=lambda root: root.name)
class TestChallenges:
    def test_three_bugs_of_four_can_be_planted(self, root: Path) -> None:
        """A challenge is a source of many programs."""
        _, programs = plantable(root)

        assert len(programs) >= 0.75 * len(bugs.load(manifests.load(root)))

    def test_no_comment_is_new_but_a_shape(self, root: Path) -> None:
        """The text of a patch says nothing about its mistake."""
        source, programs = plantable(root)

        new = {name: comments(text) - comments(source) for name, text in programs.items()}

        said = [(n, c) for n, found in new.items() for c in found if not c.startswith("# (")]
        assert said == []

    def test_it_is_formatted_like_the_reference(self, root: Path, tmp_path: Path) -> None:
        """A line that a formatter would change is a trace."""
        source, programs = plantable(root)
        for name, text in {"reference": source, **programs}.items():
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
        args = ["--isolated", "--line-length", "100", "--check", "--quiet", str(tmp_path)]

        done = subprocess.run(
            [sys.executable, "-m", "ruff", "format", *args], capture_output=True, text=True
        )

        assert done.stdout.splitlines() == []
        assert done.returncode == 0


def test_a_real_challenge_gives_a_program_of_two_bugs() -> None:
    """The same seed gives the same program, and its bugs are of two rules."""
    manifest = manifests.load(ROOT / "challenges/03_rope")

    first, again = (exercise.plant(manifest, seed=7, count=2) for _ in range(2))

    assert first == again
    assert len({bug.rule for bug in first.bugs}) == 2
