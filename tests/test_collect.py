"""Selection: whatever pytest can select by, it selects hidden tests by, under real paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import REFERENCE, STAGES, Suite

A, B = "challenges/01_sums", "challenges/02_more"
PAIR, LIST = "hidden/1_pairs.py::test_sum_of_a_pair", "hidden/2_lists.py::test_sum_of_a_list"
ALL = [f"{A}/{PAIR}", f"{A}/{LIST}", f"{B}/{PAIR}", f"{B}/{LIST}"]


@pytest.fixture
def two(suite: Suite) -> Suite:
    """Two challenges of two stages with one test each, both solved."""
    for id in ("01_sums", "02_more"):
        suite.challenge(id)
        suite.solve(id=id)
    return suite


class TestPaths:
    """What paths on the command line select."""

    @pytest.mark.parametrize(
        ("args", "ids"),
        [
            ([], ALL),
            (["challenges"], ALL),
            ([A], ALL[:2]),
            ([f"{A}/hidden"], ALL[:2]),
            ([f"{A}/hidden/2_lists.py"], [ALL[1]]),
            ([f"{A}/{LIST}"], [ALL[1]]),
            ([f"{A}/hidden/2_lists.py", f"{A}/hidden/1_pairs.py"], [ALL[1], ALL[0]]),
            ([f"{B}/{PAIR}", A], [ALL[2], *ALL[:2]]),
            ([f"{A}/spec.md"], ALL[:2]),
            ([f"{A}/stub.py"], ALL[:2]),
            ([f"{A}/challenge.toml"], ALL[:2]),
            ([f"{A}/hidden/baseline.py"], ALL[:2]),
            (["solutions/02_more.py"], ALL[2:]),
            (["challenges", "--ignore", f"{A}/hidden/1_pairs.py"], ALL[1:]),
            (["challenges", "--ignore", A], ALL[2:]),
            (["challenges", "--ignore-glob", "*_lists.py"], [ALL[0], ALL[2]]),
            (["challenges", "--deselect", f"{A}/hidden/1_pairs.py"], ALL[1:]),
            (["challenges", "--import-mode=importlib"], ALL),
            (["challenges", "--import-mode=append"], ALL),
            (["challenges", "-p", "no:cacheprovider"], ALL),
            (["challenges", "-p", "no:timeout"], ALL),
            (["challenges", "-o", "python_files=none.py", "-o", "python_functions=none"], ALL),
        ],
    )
    def test_ids_are_real_paths(self, two: Suite, args: list[str], ids: list[str]) -> None:
        """A directory, a file, a test, and the files that an editor has open."""
        two.write(f"{A}/hidden/baseline.py", "x = 1\n")

        assert two.ids(*args) == ids

    @pytest.mark.parametrize(
        ("cwd", "args", "ids"),
        [
            (A, [], ALL[:2]),
            (f"{A}/hidden", [], ALL[:2]),
            (f"{A}/hidden", ["2_lists.py"], [ALL[1]]),
            (A, ["spec.md"], ALL[:2]),
            ("solutions", ["01_sums.py"], ALL[:2]),
            ("challenges", ["../solutions/01_sums.py"], ALL[:2]),
        ],
    )
    def test_from_inside(self, two: Suite, cwd: str, args: list[str], ids: list[str]) -> None:
        """pytest may be called from anywhere in the workspace."""
        os.chdir(two.path / cwd)

        assert two.ids(*args) == ids

    @pytest.mark.parametrize(
        ("args", "ids"),
        [
            (["--rootdir", A, A], [PAIR, LIST]),
            (["--rootdir", f"{A}/hidden", A], [PAIR[7:], LIST[7:]]),
            (["--rootdir", "elsewhere", A], [PAIR, LIST]),
            (["-c", "elsewhere/pytest.ini", A], [PAIR, LIST]),
        ],
    )
    def test_with_the_rootdir_elsewhere(self, two: Suite, args: list[str], ids: list[str]) -> None:
        """Ids are relative to the rootdir, wherever that is; what is graded stays the same."""
        two.write("elsewhere/pytest.ini", "[pytest]\n")

        found = two.ids(*args)

        assert [id.removeprefix("elsewhere/") for id in found] == ids
        two.run(*args).assert_outcomes(passed=2)

    def test_below_a_confcutdir(self, two: Suite) -> None:
        """Where no node stands above hidden/, it is ours nonetheless."""
        args = ("--confcutdir", f"{A}/hidden", f"{A}/hidden/1_pairs.py")

        two.run(*args).assert_outcomes(passed=1)

    def test_without_an_ini_file(self, two: Suite) -> None:
        """A directory of challenges is enough."""
        (two.path / "pyproject.toml").unlink()

        two.run(A).assert_outcomes(passed=2)

    def test_paths_with_spaces_and_symlinks(self, suite: Suite) -> None:
        """A workspace may lie anywhere, and may be reached through a link."""
        suite.challenge(home="my work")
        suite.write("my work/solutions/01_sums.py", REFERENCE)
        (suite.path / "link").symlink_to(suite.path / "my work")

        suite.run("my work/challenges").assert_outcomes(passed=2)
        suite.run("link/challenges/01_sums").assert_outcomes(passed=2)
        os.chdir(suite.path / "link")
        suite.run("challenges/01_sums/spec.md").assert_outcomes(passed=2)

    def test_an_unknown_challenge_is_an_error_with_the_nearest(self, two: Suite) -> None:
        """A typo names what may have been meant."""
        result = two.run("challenges/01_sum")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["ERROR: no challenge challenges/01_sum; did you mean 01_sums?"]
        )

    def test_a_solution_that_would_not_be_graded_is_an_error(self, two: Suite) -> None:
        """Naming somebody's file does not grade another file in silence."""
        two.write("submissions/ada/01_sums.py", REFERENCE)

        result = two.run("submissions/ada/01_sums.py")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [
                "ERROR: submissions/ada/01_sums.py is a solution of 01_sums; to grade it: "
                "pytest challenges/01_sums --solutions submissions/ada"
            ]
        )


class TestExpressions:
    """``-k``, ``-m`` and what remembers the last run."""

    @pytest.mark.parametrize(
        ("args", "ids"),
        [
            (["-k", "01_sums"], ALL[:2]),
            (["-k", "01_sums and lists"], [ALL[1]]),
            (["-k", "pairs"], [ALL[0], ALL[2]]),
            (["-k", "not pairs"], [ALL[1], ALL[3]]),
            (["-k", "test_sum_of_a_list"], [ALL[1], ALL[3]]),
            (["-m", "cpu"], ALL),
            (["-m", "gpu"], []),
            (["-m", "not slow"], ALL),
            (["-m", "rule"], ALL),
        ],
    )
    def test_select(self, two: Suite, args: list[str], ids: list[str]) -> None:
        """By challenge, by stage, by test, by tier."""
        assert two.ids(*args) == ids

    def test_tiers_of_a_stage_are_markers(self, suite: Suite) -> None:
        """A stage of the gpu tier is selected by ``-m gpu``, and not by ``-m 'not gpu'``."""
        suite.challenge(tiers={"lists": ["gpu", "slow"]})

        assert suite.ids("-m", "gpu") == [ALL[1]]
        assert suite.ids("-m", "not slow") == [ALL[0]]

    def test_the_last_failed(self, two: Suite) -> None:
        """``--lf`` runs what failed, ``--ff`` runs it first, ``--sw`` goes on where it stopped."""
        two.solve(REFERENCE.replace("sum(xs)", "None"), id="01_sums")
        two.run().assert_outcomes(passed=3, failed=1)

        two.run("--lf").assert_outcomes(failed=1)
        first = next(line for line in two.run("--ff", "-v").outlines if "::" in line)
        assert first.startswith(ALL[1])
        two.run("--sw").assert_outcomes(passed=1, failed=1)
        two.solve(id="01_sums")
        two.run("--sw").assert_outcomes(passed=3, deselected=1)

    def test_the_manifests_order_is_kept(self, suite: Suite) -> None:
        """Stages run in the order of challenge.toml, not of their file names."""
        root = suite.challenge(stages={"pairs": STAGES["pairs"], "lists": STAGES["lists"]})
        text = (root / "challenge.toml").read_text()
        head, first, second = text.split("[[stage]]\n")
        (root / "challenge.toml").write_text(f"{head}[[stage]]\n{second}[[stage]]\n{first}")

        assert suite.ids() == [ALL[1], ALL[0]]

    def test_parameters_stand_in_ids(self, suite: Suite) -> None:
        """A parametrized hidden test is selected by its parameter."""
        stage = """
            import pytest
            from pytest_llmgrind import check, rule

            @rule("R1")
            @pytest.mark.parametrize("n", [1, 2])
            def test_n(solution, n):
                check.equal(solution.add(n, n), 2 * n, what="sum")
        """
        suite.challenge(stages={"pairs": stage})
        suite.solve()

        result = suite.run(f"{A}/hidden/1_pairs.py::test_n[2]", "-rp")

        result.assert_outcomes(passed=1)


class TestOtherPlugins:
    """With and without what else is installed."""

    @pytest.mark.parametrize("seed", ["1", "2", "3"])
    def test_randomly(self, two: Suite, seed: str) -> None:
        """pytest-randomly shuffles hidden tests like any others, with the same verdicts."""
        result = two.run(f"--randomly-seed={seed}", plugins=("timeout", "randomly"))

        result.assert_outcomes(passed=4)

    @pytest.mark.parametrize(
        "dist", ["load", "loadscope", "loadfile", "loadgroup", "worksteal", "no"]
    )
    def test_xdist(self, two: Suite, dist: str) -> None:
        """Every way of xdist to deal out tests gives the same verdicts."""
        two.solve(REFERENCE.replace("sum(xs)", "None"), id="01_sums")

        result = two.run("-n2", f"--dist={dist}")

        result.assert_outcomes(passed=3, failed=1)
        assert result.ret == 1

    def test_xdist_each(self, two: Suite) -> None:
        """Every worker runs every test."""
        result = two.run("--dist=each", "--tx=2*popen", plugins=("timeout", "xdist"))

        result.assert_outcomes(passed=8)

    def test_all_plugins_of_an_installation(self, two: Suite) -> None:
        """Everything that is installed, loaded as pytest does."""
        two.pytester._monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")

        result = two.pytester.runpytest_subprocess("-n2", "challenges")

        result.assert_outcomes(passed=4)

    @pytest.mark.parametrize("name", ["xdist", "benchmark", "timeout", "randomly", "terminal"])
    def test_without(self, two: Suite, name: str) -> None:
        """No plugin is needed but our own."""
        two.pytester._monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")

        result = two.pytester.runpytest_subprocess("-p", f"no:{name}", "challenges")

        assert result.ret == 0
        if name != "terminal":
            result.assert_outcomes(passed=4)

    def test_without_ours_hidden_files_are_no_tests(self, two: Suite) -> None:
        """``-p no:llmgrind`` collects nothing of a challenge and does not crash."""
        two.write("tests/test_own.py", "def test_own(): ...\n")

        result = two.pytester.runpytest_inprocess("-p", "no:llmgrind")

        result.assert_outcomes(passed=1)

    def test_doctest_leaves_our_files_alone(self, two: Suite) -> None:
        """``--doctest-modules`` does not run the examples of a stub that is not written."""
        two.write(f"{A}/stub.py", 'def add(a, b):\n    """\n    >>> 1 / 0\n    2\n    """\n')

        result = two.run("--doctest-modules", "--doctest-glob=*.md", "challenges")

        result.assert_outcomes(passed=4)


class TestBrokenChallenges:
    """One failing line; the others run."""

    @pytest.mark.parametrize(
        "args",
        [
            (),
            (A, B),
            (f"{A}/hidden/1_pairs.py", B),
            ("-n2",),
            (f"{A}/{PAIR}", B),
            (f"{A}/spec.md", B),
        ],
    )
    def test_a_broken_manifest(self, two: Suite, args: tuple[str, ...]) -> None:
        """Whatever is asked for, the mistake in challenge.toml is said, and the rest is graded."""
        two.write(f"{A}/challenge.toml", "titel = 'x'\n")

        result = two.run(*args)

        assert result.ret == 1
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines(
            [f"{A}/challenge.toml: titel: unknown key; did you mean title?"]
        )
        result.stdout.fnmatch_lines([f"FAILED {A}/challenge.toml*"])

    def test_from_inside_a_broken_challenge(self, two: Suite) -> None:
        """Also where pytest is called in hidden/."""
        two.write(f"{A}/challenge.toml", "titel = 'x'\n")
        os.chdir(two.path / A / "hidden")

        result = two.run()

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*challenge.toml: titel: unknown key; did you mean title?"])

    def test_a_missing_stage_file(self, two: Suite) -> None:
        """A stage that is listed and not there is a mistake of the manifest."""
        (two.path / A / "hidden" / "2_lists.py").unlink()

        result = two.run()

        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines(
            [f"{A}/challenge.toml: stage 2.file: wanted a file, there is no hidden/2_lists.py"]
        )

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("SECRET = 4142135 +\n", r"hidden/2_lists.py does not load: SyntaxError: *"),
            ("x = 1\nSECRET = undefined\n", "hidden/2_lists.py:2 does not load: NameError: *"),
            ("import nothing_like_it\n", "hidden/2_lists.py:1 does not load: ModuleNotFound*"),
            (
                "SECRET = 4142135\nassert SECRET == 40\n",
                "hidden/2_lists.py:2 does not load: Assert*",
            ),
            ("raise SystemExit\n", "hidden/2_lists.py:1 does not load: SystemExit*"),
        ],
    )
    def test_a_hidden_file_that_does_not_import(self, two: Suite, source: str, said: str) -> None:
        """It is the challenge's mistake, said without a line of the file; the rest is graded."""
        two.write(f"{A}/hidden/2_lists.py", source)

        result = two.run()

        result.assert_outcomes(passed=3, failed=1)
        result.stdout.fnmatch_lines(
            [
                "01_sums*",
                f"  saw    nothing of yours: this challenge has a mistake ({said}",
                "  read   challenges/01_sums/spec.md",
            ]
        )
        result.stdout.no_fnmatch_line("*SECRET =*")
        result.stdout.no_fnmatch_line("*4142135*")

    def test_a_test_of_a_file_that_does_not_import(self, two: Suite) -> None:
        """A test by id is not called unknown when its file is broken."""
        two.write(f"{A}/hidden/2_lists.py", "SECRET = undefined\n")

        result = two.run(f"{A}/{LIST}")

        assert result.ret != 0
        result.stdout.fnmatch_lines(["01_sums: hidden/2_lists.py:1 does not load: NameError: *"])
        result.stdout.no_fnmatch_line("*SECRET*")


class TestYourOwnTests:
    """Tests of your own in the same session are as without the plugin."""

    OWN = """
        import pytest

        @pytest.fixture
        def solution():
            return "mine"

        def test_fixture(solution):
            assert solution == "mine"

        def test_rewritten():
            x = [1, 2]
            assert x == [1, 3]

        @pytest.mark.parametrize("n", [1])
        def test_param(n): ...

        class TestClass:
            def test_method(self): ...

        def test_todo():
            raise NotImplementedError
    """

    def test_ids_outcomes_and_rewriting(self, two: Suite) -> None:
        """Nothing is redacted, nothing renamed, no outcome changed."""
        two.write("tests/test_own.py", self.OWN)

        result = two.run("challenges", "tests", "-rA")

        result.assert_outcomes(passed=7, failed=2)
        result.stdout.fnmatch_lines(
            [
                "*assert [[]1, 2[]] == [[]1, 3[]]*",
                "*At index 1 diff: 2 != 3*",
                "*raise NotImplementedError*",
                "PASSED tests/test_own.py::TestClass::test_method",
            ]
        )

    def test_ours_are_no_fixtures_of_yours(self, two: Suite) -> None:
        """Outside a challenge there is no fixture ``solution``."""
        two.write("tests/test_own.py", "def test_own(solution): ...\n")

        result = two.run("challenges", "tests")

        result.assert_outcomes(passed=4, errors=1)
        result.stdout.fnmatch_lines(["E       fixture 'solution' not found"])

    def test_yours_are_no_fixtures_of_ours(self, two: Suite) -> None:
        """A fixture of the same name in a conftest.py does not reach hidden tests."""
        two.write(
            "conftest.py",
            """
            import pytest

            @pytest.fixture
            def rng():
                return None

            @pytest.fixture
            def solution():
                return None
            """,
        )

        two.run("challenges").assert_outcomes(passed=4)

    def test_beside_a_stub(self, two: Suite) -> None:
        """Tests that a learner writes in the challenge's directory run with it."""
        two.write(f"{A}/test_mine.py", "def test_mine(): ...\n")

        assert two.ids(A) == [*ALL[:2], f"{A}/test_mine.py::test_mine"]
        assert two.ids(f"{A}/test_mine.py") == [f"{A}/test_mine.py::test_mine"]

    def test_a_directory_of_the_name_hidden(self, suite: Suite) -> None:
        """Only the hidden directory of a challenge is ours."""
        suite.write("hidden/test_x.py", "def test_x(): ...\n")

        suite.run("hidden").assert_outcomes(passed=1)


def test_docstrings_of_hidden_tests_are_not_listed(suite: Suite) -> None:
    """``--co -v`` prints docstrings of tests; those of hidden ones are hidden."""
    stage = '''
        """SECRET of the module"""
        from pytest_llmgrind import given, rule, st

        @rule("R1")
        def test_a(solution):
            """SECRET of a test"""

        @rule("R1")
        @given(n=st.integers(0, 1))
        def test_b(solution, n):
            """SECRET of a property"""
    '''
    suite.challenge(stages={"pairs": stage})

    suite.run("--co", "-vv").stdout.no_fnmatch_line("*SECRET*")


def test_hidden_files_may_share_code(suite: Suite) -> None:
    """``from . import common`` finds the file beside it."""
    stage = """
        from pytest_llmgrind import check, rule
        from . import common

        @rule("R1")
        def test_a(solution):
            check.equal(solution.add(1, common.ONE), 2, what="sum")
    """
    root = suite.challenge(stages={"pairs": stage})
    suite.write(str(root / "hidden/common.py"), "ONE = 1\n")
    suite.solve()

    suite.run("challenges").assert_outcomes(passed=1)


def test_timed_tests_run_last(suite: Suite) -> None:
    """Under xdist they would hold up the others."""
    stage = """
        from pytest_llmgrind import rule

        @rule("R1")
        def test_fast(): ...

        @rule("R1")
        def test_small(): ...
    """
    budget = """
        [[budget]]
        name = "fast"
        stage = "pairs"
        kind = "race"
        limit = 1
        what = "time"
    """
    suite.challenge(stages={"pairs": stage}, more=budget)
    suite.challenge("02_more")

    ids = suite.ids()

    assert ids[-1] == f"{A}/hidden/1_pairs.py::test_fast"


def test_a_hundred_challenges_are_found(suite: Suite, tmp_path: Path) -> None:
    """Nothing in the plugin names a challenge."""
    for number in range(100):
        suite.challenge(f"{number:02}_x" if number < 99 else "100_x", stages={"a": STAGES["pairs"]})

    assert len(suite.ids()) == 100
