"""What a solution changes around itself is undone, noted, and harms no other test."""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Suite

from pytest_llmgrind.isolate import isolated

STAGE = """
    import os, random, sys, warnings
    import numpy as np
    from pytest_llmgrind import check, rule

    def state():
        return {
            "cwd": os.getcwd(), "env": dict(os.environ), "seed": random.getstate()[1][:3],
            "np": np.random.get_state()[1][:3].tolist(), "err": np.geterr(),
            "print": np.get_printoptions()["precision"], "limit": sys.getrecursionlimit(),
            "sum": np.sum is np.add.reduce or np.sum.__name__,
        }

    BEFORE = {}

    @rule("R1")
    def test_a_changes(solution):
        BEFORE.update(state())
        BEFORE["env"].pop("PYTEST_CURRENT_TEST", None)
        solution.add(1, 1)

    @rule("R2")
    def test_b_sees_nothing(solution):
        now = state()
        now["env"].pop("PYTEST_CURRENT_TEST", None)
        for name, value in BEFORE.items():
            check.that(now[name] == value, saw=f"{name} is changed")
"""


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("os.chdir('/')", "changed the working directory"),
        ("os.environ['X'] = '1'", "changed the environment"),
        ("os.environ.pop('PATH')", "changed the environment"),
        ("random.seed(0)", "changed the global seed of random"),
        ("random.random()", "changed the global seed of random"),
        ("np.random.seed(0)", "changed numpy's global seed"),
        ("np.random.rand()", "changed numpy's global seed"),
        ("np.seterr(all='raise')", "changed numpy's error state"),
        ("np.set_printoptions(precision=2)", "changed numpy's print options"),
        ("np.sum = max", "changed functions of numpy"),
        ("del np.sum", "changed functions of numpy"),
        ("sys.setrecursionlimit(5000)", "changed the recursion limit"),
        ("warnings.warn('careful')", "warned: UserWarning: careful"),
        ("warnings.warn('careful', stacklevel=2)", "warned: UserWarning: careful"),
        (
            "np.float64(1) / np.zeros(1)",
            "warned: RuntimeWarning: divide by zero encountered in divide",
        ),
        ("print('hello')", "printed"),
        ("print('hello', file=sys.stderr)", "printed"),
    ],
)
def test_a_change_is_undone_and_noted(suite: Suite, body: str, note: str) -> None:
    """The next test finds everything as it was, and the report carries one note."""
    suite.challenge(
        stages={"pairs": STAGE}, imports=("numpy", "os", "sys"), stub="def add(a, b): ...\n"
    )
    suite.solve(
        f"import os, random, sys, warnings\nimport numpy as np\n\ndef add(a, b):\n    {body}\n"
    )

    first, second = suite.reports("challenges")

    assert (first["outcome"], first["notes"]) == ("passed", [note])
    assert (second["outcome"], second["notes"]) == ("passed", [])


def test_what_an_import_changes_is_undone(suite: Suite) -> None:
    """A solution that seeds at import changes no test."""
    suite.challenge(stub="def add(a, b): ...\n", stages={"pairs": STAGE}, imports=("numpy", "os"))
    suite.solve("import os, random\nos.chdir('/')\nrandom.seed(1)\n\ndef add(a, b): ...\n")
    before = os.getcwd()

    reports = suite.reports("challenges")

    assert [report["outcome"] for report in reports] == ["passed", "passed"]
    assert os.getcwd() == before


@pytest.mark.parametrize(
    "args",
    [
        ("-W", "error"),
        ("-o", "filterwarnings=error"),
        ("-W", "error::RuntimeWarning"),
        ("-p", "no:warnings"),
    ],
)
@pytest.mark.parametrize("body", ["warnings.warn('w')", "np.ones(1) / 0", "open('stub.py', 'w')"])
def test_a_verdict_does_not_depend_on_your_filters(
    suite: Suite, args: tuple[str, ...], body: str
) -> None:
    """A warning is a note, whatever the session does with warnings."""
    suite.challenge(
        stub="def add(a, b): ...\n", stages={"pairs": STAGE}, imports=("numpy", "gc", "threading")
    )
    imports = "import gc, threading, warnings\nimport numpy as np\nx = '\\d'\n"
    suite.solve(f"{imports}\ndef add(a, b):\n    {body}\n")

    result = suite.run("challenges", *args)

    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*hidden/1_pairs.py:*")


def test_a_verdict_does_not_depend_on_a_conftest(suite: Suite) -> None:
    """NumPy's error state inside a hidden test is NumPy's own default."""
    stage = """
        import numpy as np
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_errors(solution):
            check.equal(np.geterr()["divide"], "warn", what="errors")
    """
    suite.challenge(stages={"pairs": stage})
    suite.solve()
    suite.write("conftest.py", "import numpy as np\nnp.seterr(all='raise')\n")

    try:
        suite.run("challenges").assert_outcomes(passed=1)
    finally:
        np.seterr(all="warn", under="ignore")


@pytest.mark.parametrize("args", [(), ("-W", "error")])
def test_warnings_of_the_grader_are_not_shown(suite: Suite, args: tuple[str, ...]) -> None:
    """A warning prints the line that it comes from, so none of a hidden file's is printed."""
    stage = """
        import warnings
        import pytest
        from pytest_llmgrind import rule

        SECRET = warnings.warn("at import")

        @pytest.fixture
        def table():
            SECRET = warnings.warn("in a fixture")
            yield
            SECRET = warnings.warn("behind it")

        @rule("R1")
        def test_warns(solution, table):
            SECRET = warnings.warn("in a test")
    """
    suite.challenge(stages={"pairs": stage})
    suite.solve()

    result = suite.run("challenges", "-rA", "-vv", *args)

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*SECRET*")


class TestIsolated:
    """The context manager by itself."""

    def run(self, change: Callable[[], object]) -> list[str]:
        notes: list[str] = []
        with isolated(notes.append):
            change()
        return notes

    def test_says_nothing_where_nothing_changed(self) -> None:
        """No change, no note."""
        assert self.run(lambda: None) == []

    def test_restores_after_an_error(self) -> None:
        """An exception passes, and everything is as before."""
        state = random.getstate()
        notes: list[str] = []

        with pytest.raises(KeyError), isolated(notes.append):
            raise KeyError(random.seed(1))

        assert random.getstate() == state
        assert notes == ["changed the global seed of random"]

    def test_keeps_what_numpy_loads_late(self) -> None:
        """A module that NumPy loads on first use is no change."""
        assert self.run(lambda: np.ctypeslib.as_array) == []

    def test_nested_state_is_that_of_the_caller(self) -> None:
        """The caller's own error state is back afterwards."""
        with np.errstate(all="raise"):
            self.run(lambda: np.seterr(all="ignore"))

            assert np.geterr()["divide"] == "raise"

    def test_threads_are_daemons_inside_and_not_outside(self) -> None:
        """A thread that a solution starts does not keep the process; others are as ever."""
        seen: list[bool] = []

        self.run(lambda: seen.append(threading.Thread().daemon))

        assert seen == [True]
        assert not threading.Thread().daemon

    def test_a_directory_that_is_gone_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the working directory does not exist there is nothing to go back to."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()

        assert self.run(lambda: os.chdir(tmp_path)) == ["changed the working directory"]
        assert os.getcwd() == str(tmp_path)

    def test_long_warnings_are_one_short_line(self) -> None:
        """A warning's text is the learner's: it is cut, and holds no control characters."""
        (note,) = self.run(lambda: warnings.warn("\x1b[31m" + "x\n" * 10_000, stacklevel=1))

        assert "\n" not in note
        assert "\x1b" not in note
        assert len(note) < 200

    def test_torch_is_watched_where_it_is_there(self) -> None:
        """Seed and defaults of torch are put back too."""
        torch = pytest.importorskip("torch")

        assert self.run(lambda: torch.manual_seed(1)) == ["changed torch's global seed"]
        assert self.run(lambda: torch.set_grad_enabled(False)) == ["changed torch's defaults"]
        assert torch.is_grad_enabled()


def test_grading_imports_no_torch(suite: Suite) -> None:
    """The plugin itself never imports torch, also where it is installed."""
    stage = """
        import sys
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_torch(solution, reference, rng):
            check.that("torch" not in sys.modules, saw="torch is there")
    """
    suite.challenge(stages={"pairs": stage})
    suite.solve()

    suite.run_process("challenges").assert_outcomes(passed=1)
