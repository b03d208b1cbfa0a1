"""What solution code may not do: imports, forbidden names, the grader's files."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
from conftest import Suite

from pytest_llmgrind import guard
from pytest_llmgrind.fence import fence, unfence
from pytest_llmgrind.guard import Forbidden
from pytest_llmgrind.loader import import_fresh
from pytest_llmgrind.manifest import Imports

RULES = Imports(imports=("numpy",), forbid=("numpy.einsum", "numpy.linalg", "eval", "sum"))
PLAIN = "the plain parts of the standard library (docs/judging.md)"


def found(source: str, rules: Imports = RULES) -> list[str]:
    """What the text alone shows, as ``line: entry``."""
    hits = guard.violations(source.encode(), Path("solution.py"), rules)
    ending = " is not allowed in this challenge"
    return [f"{line}: {text.partition(ending)[0]}" for line, text in hits]


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.einsum('i', x)",
        "import numpy\nnumpy.einsum",
        "from numpy import einsum",
        "from numpy import einsum as e",
        "import numpy as np\nxp = np\nf = xp.einsum",
        "import numpy as np\na, xp = 1, np\nf = xp.einsum",
        "import numpy as np\nxp: object = np\nf = xp.einsum",
        "import numpy as np\nif (xp := np):\n    xp.einsum",
        "import numpy as np\ngetattr(np, 'einsum')",
        "import numpy as np\ngetattr(np, 'einsum', None)",
        "import numpy as np\nvars(np)['einsum']",
        "import numpy as np\nnp.__dict__['einsum']",
        "from numpy import *\neinsum('i', x)",
        "def f():\n    return xp.einsum\nimport numpy as xp",
        "def f():\n    import numpy as xp\n    return xp.einsum",
        "import numpy as np\ndef f(x, e=np.einsum): ...",
        "import numpy as np\ndef f(x, xp=np):\n    return xp.einsum",
        "import numpy as np\ndef f(x, *, xp=np):\n    return xp.einsum",
        "import numpy as np\nf = lambda x: np.einsum(x)",
        "import numpy as np\nclass A:\n    f = np.einsum",
        "import numpy as np\n@np.einsum\ndef f(): ...",
        "import numpy as np\n[np.einsum(x) for x in y]",
        "async def f():\n    import numpy as np\n    np.einsum",
    ],
)
def test_a_forbidden_name_is_seen_under_any_alias(source: str) -> None:
    """However a forbidden function is reached for in the text, its use is found."""
    hits = found(source)

    assert len(hits) == 1, hits
    assert hits[0].endswith(": numpy.einsum")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.linalg.norm(x)",
        "import numpy.linalg",
        "import numpy.linalg as la",
        "from numpy import linalg",
        "from numpy.linalg import norm",
    ],
)
def test_a_forbidden_module_takes_its_functions_along(source: str) -> None:
    """``numpy.linalg`` stands for all that it holds, and for its import."""
    assert found(source)[-1].endswith(": numpy.linalg")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.einsum_path(x)",
        "def f(eval):\n    return eval(1)",
        "model.eval()",
        "sum = 0\nsum += 1\nprint(sum)",
        "def f():\n    return sum(x)\ndef sum(x): ...",
        "for sum in x:\n    print(sum)",
        "[sum for sum in x]",
        "{sum: 1 for sum in x}",
        "f = lambda sum: sum",
        "class A:\n    def einsum(self): ...\nA().einsum()",
        "def f(np):\n    return np.einsum",
    ],
)
def test_what_only_looks_like_it_is_allowed(source: str) -> None:
    """A name of one's own, a method, a longer name: none of them is the forbidden one."""
    assert found(source) == []


def test_a_forbidden_builtin_is_seen_where_it_is_used() -> None:
    """A name that one function binds is the builtin again in the next."""
    source = "def f(sum):\n    return sum\n\ndef g(x):\n    return sum(x)\n"

    assert found(source) == ["5: sum"]


@pytest.mark.parametrize(
    "source", ["import os", "from os import path", "def f():\n    import os.path", "import torch"]
)
def test_an_import_that_is_not_listed_is_named(source: str) -> None:
    """The text says what was imported and what is allowed instead."""
    (_, text), *_ = guard.violations(source.encode(), Path("s.py"), RULES)

    assert text.startswith("import of ")
    assert text.endswith(f" is not allowed in this challenge; it allows numpy and {PLAIN}")


@pytest.mark.parametrize(
    "source",
    [
        "import math, dataclasses\nfrom collections import deque",
        "from __future__ import annotations",
        "from typing import Any",
        "import numpy.fft",
        "from numpy.lib.stride_tricks import as_strided",
        "from . import parts\nfrom .parts import x",
    ],
)
def test_plain_modules_and_parts_of_listed_ones_are_allowed(source: str) -> None:
    """The plain standard library, submodules of what is listed, and modules of one's own."""
    assert found(source) == []


class TestAtRunTime:
    """What the text does not show is refused when it happens."""

    def load(self, tmp_path: Path, source: str) -> object:
        (tmp_path / "solution.py").write_text(source)
        return import_fresh(tmp_path / "solution.py", RULES)

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (
                "__import__('os')",
                f"import of os is not allowed in this challenge; it allows numpy and {PLAIN}",
            ),
            ("__import__('numpy.linalg')", "numpy.linalg is not allowed in this challenge"),
            (
                "__import__('numpy', fromlist=['einsum'])",
                "numpy.einsum is not allowed in this challenge",
            ),
            (
                "exec('import socket')",
                f"import of socket is not allowed in this challenge; it allows numpy and {PLAIN}",
            ),
        ],
    )
    def test_a_late_import_is_refused(self, tmp_path: Path, call: str, said: str) -> None:
        """An import inside a function, or made of a string, meets the same rule."""
        module = self.load(tmp_path, f"def f():\n    return {call}\n")

        with pytest.raises(Forbidden) as caught:
            module.f()  # type: ignore[attr-defined]

        assert str(caught.value) == said

    def test_allowed_imports_work(self, tmp_path: Path) -> None:
        """NumPy may import what it likes itself, also late."""
        module = self.load(tmp_path, "import numpy as np\ndef f():\n    return np.fft.fft([1.0])\n")

        assert module.f() == [1.0]  # type: ignore[attr-defined]

    def test_a_forbidden_function_under_another_name_is_found(self, tmp_path: Path) -> None:
        """A module that holds the forbidden object holds it, however it came in."""
        source = "import numpy as np\nname = 'ein' + 'sum'\nproduct = getattr(np, name)\n"
        module = self.load(tmp_path, source)

        assert guard.forbidden_value(module, RULES) == "numpy.einsum"  # type: ignore[arg-type]

    def test_builtins_of_others_stay_as_they_are(self, tmp_path: Path) -> None:
        """The guard is the solution's own; nobody else's import is touched."""
        before = builtins.__import__

        self.load(tmp_path, "x = 1\n")

        assert builtins.__import__ is before


class TestFence:
    """Solution code cannot open the grader's files; the grader can."""

    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name in ("hidden", "reference", "data"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.py").write_text("ANSWER = 42\n")
        np.save(tmp_path / "hidden" / "x.npy", np.ones(2))
        (tmp_path / "link").symlink_to(tmp_path / "hidden")
        monkeypatch.chdir(tmp_path)
        fence(tmp_path / "solution.py", tmp_path / "hidden", tmp_path / "reference")
        return tmp_path

    @pytest.fixture(autouse=True)
    def _down_again(self) -> object:
        yield
        unfence()

    def run(self, place: Path, body: str) -> object:
        source = (
            f"import os, pathlib, linecache, importlib.util, numpy as np\n\ndef f():\n    {body}\n"
        )
        (place / "solution.py").write_text(source)
        return import_fresh(place / "solution.py", None).f()

    @pytest.mark.parametrize(
        "body",
        [
            "open('hidden/x.py')",
            "open('./reference/../hidden/x.py')",
            "open(b'hidden/x.py')",
            "open(pathlib.Path('reference/x.py'))",
            "open('link/x.py')",
            "pathlib.Path('hidden/x.py').read_text()",
            "os.open('hidden/x.py', os.O_RDONLY)",
            "os.chdir('hidden'); open('x.py')",
            "os.listdir('hidden')",
            "list(os.scandir('reference'))",
            "np.load('hidden/x.npy')",
            "np.fromfile('hidden/x.npy')",
            "open('hidden/new.py', 'w')",
            "spec = importlib.util.spec_from_file_location('x', 'reference/x.py'); "
            "spec.loader.exec_module(importlib.util.module_from_spec(spec))",
        ],
    )
    def test_solution_code_cannot_open_them(self, place: Path, body: str) -> None:
        """Relative, absolute, through a link, after chdir, by any function that opens."""
        with pytest.raises(Forbidden, match="is not allowed: it belongs to the grader"):
            self.run(place, body)

    def test_a_workspace_behind_a_link_is_fenced_at_both_ends(self, place: Path) -> None:
        """The fence knows where a link leads."""
        (place / "far" / "hidden").mkdir(parents=True)
        (place / "far" / "hidden" / "x.py").write_text("ANSWER = 42\n")
        (place / "near").symlink_to(place / "far")
        fence(place / "solution.py", place / "near" / "hidden")

        for way in ("near", "far"):
            with pytest.raises(Forbidden):
                self.run(place, f"open('{way}/hidden/x.py')")

    def test_other_files_can_be_opened(self, place: Path) -> None:
        """The fence stands around the grader's files alone."""
        assert self.run(place, "return pathlib.Path('data/x.py').read_text()") == "ANSWER = 42\n"

    def test_linecache_gives_nothing(self, place: Path) -> None:
        """The module that tracebacks use swallows the refusal and shows no line."""
        with pytest.raises(Forbidden):
            self.run(place, "return linecache.getline('hidden/x.py', 1)")

    def test_the_grader_can(self, place: Path) -> None:
        """Code that is no solution opens what it likes."""
        assert (place / "hidden" / "x.py").read_text() == "ANSWER = 42\n"

    def test_the_grader_can_when_a_solution_called_it(self, place: Path) -> None:
        """A function of a hidden test that the solution calls is the grader again."""
        hidden = place / "hidden" / "callback.py"
        hidden.write_text(
            "import pathlib\ndef read():\n    return pathlib.Path('hidden/x.py').read_text()\n"
        )
        read = import_fresh(hidden, None).read
        (place / "solution.py").write_text("def f(call):\n    return call()\n")

        assert import_fresh(place / "solution.py", None).f(read) == "ANSWER = 42\n"


class TestInASession:
    """The same, as a learner meets it."""

    def test_a_forbidden_import_is_one_message(self, suite: Suite) -> None:
        """Every line that breaks the rule is listed once, at the first test."""
        suite.challenge(forbid=("numpy.sum",))
        suite.solve(
            """
            import os
            import numpy as np

            def add(a, b):
                return a + b

            def total(xs):
                import subprocess
                return np.sum(xs)
            """
        )

        result = suite.run("challenges/01_sums")

        assert result.ret == 1
        result.stdout.fnmatch_lines(
            [
                "01_sums  cannot be graded",
                "  saw    01_sums.py:1: import of os is not allowed in this challenge; it allows *",
                "         01_sums.py:8: import of subprocess is not allowed in this challenge; *",
                "         01_sums.py:9: numpy.sum is not allowed in this challenge",
                "  read   challenges/01_sums/spec.md",
            ],
            consecutive=True,
        )
        assert result.stdout.str().count("01_sums  cannot be graded") == 1

    def test_a_late_import_fails_the_test_that_reaches_it(self, suite: Suite) -> None:
        """What the text hides is refused where it happens, with the line."""
        suite.challenge()
        suite.solve(
            """
            def add(a, b):
                return __import__("os").getcwd()

            def total(xs):
                return sum(xs)
            """
        )

        result = suite.run("challenges/01_sums")

        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(
            [
                "  saw    import of os is not allowed in this challenge; it allows numpy and *",
                "  solutions/01_sums.py:2: in add",
            ]
        )

    def test_reading_a_hidden_file_fails_the_test(self, suite: Suite) -> None:
        """A solution that looks into hidden/ learns nothing."""
        suite.challenge()
        suite.solve(
            """
            def add(a, b):
                return open("challenges/01_sums/hidden/1_pairs.py").read()

            def total(xs):
                return sum(xs)
            """
        )

        result = suite.run("challenges/01_sums")

        result.stdout.fnmatch_lines(
            ["  saw    opening 1_pairs.py is not allowed: it belongs to the grader"]
        )

    def test_the_reference_grades_itself(self, suite: Suite) -> None:
        """``--solutions reference`` works: it is no learner's file."""
        suite.challenge()

        result = suite.run("challenges", "--solutions", "reference")

        result.assert_outcomes(passed=2)

    def test_hidden_files_load_late_though_the_solution_is_fenced(self, suite: Suite) -> None:
        """The baseline of a later test is imported after the solution was."""
        stage = """
            from pytest_llmgrind import check, rule

            @rule("R1")
            def test_first(solution):
                check.that(solution.add(1, 1) == 2, saw="no")

            @rule("R1")
            def test_second(solution, baseline, reference):
                check.that(baseline.add(1, 1) == 2, saw="no")
        """
        suite.challenge(stages={"pairs": stage}, baseline="def add(a, b):\n    return a + b\n")
        suite.solve()

        suite.run("challenges").assert_outcomes(passed=2)
