"""The code that is graded: where it is found, and one clear message where it cannot be graded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import REFERENCE, STUB, Suite

from pytest_llmgrind.loader import import_fresh

WRONG = REFERENCE.replace("a + b", "a - b")


class TestWhere:
    """Which file is graded."""

    def test_a_file(self, suite: Suite) -> None:
        """``solutions/<id>.py`` is graded, not the stub."""
        suite.challenge()
        suite.solve()

        suite.run("challenges").assert_outcomes(passed=2)

    def test_a_package(self, suite: Suite) -> None:
        """``solutions/<id>/`` is a package: it imports its modules, also late and one another."""
        suite.challenge()
        suite.write("solutions/01_sums/__init__.py", "from .parts import add\nfrom . import more\n")
        suite.write("solutions/01_sums/parts.py", "def add(a, b):\n    return a + b\n")
        suite.write("solutions/01_sums/deep/__init__.py", "")
        suite.write("solutions/01_sums/deep/late.py", "from ..parts import add\n")
        suite.write("solutions/01_sums/more.py", "x = 1\n")
        suite.write(
            "solutions/01_sums/__init__.py",
            """
            from .parts import add
            from . import more

            def total(xs):
                from .deep import late
                result = 0
                for x in xs:
                    result = late.add(result, x)
                return result
            """,
        )

        suite.run("challenges").assert_outcomes(passed=2)

    def test_the_stub_where_there_is_none(self, suite: Suite) -> None:
        """An edit of the stub in place is graded too."""
        root = suite.challenge()
        suite.write(str(root / "stub.py"), REFERENCE.replace("sum(xs)", "sum(xs) + 0"))

        suite.run("challenges").assert_outcomes(passed=2)

    def test_the_directory_of_the_command_line_wins(self, suite: Suite) -> None:
        """``--solutions`` is relative to where pytest is called, not to the rootdir."""
        suite.challenge()
        suite.solve(WRONG)
        suite.write("submissions/ada/01_sums.py", REFERENCE)
        suite.pytester.chdir()
        os.chdir(suite.path / "submissions")

        result = suite.run("../challenges", "--solutions", "ada")

        result.assert_outcomes(passed=2)

    def test_the_ini_setting_is_relative_to_the_ini_file(self, suite: Suite) -> None:
        """A workspace may call its directory as it likes."""
        suite.challenge()
        suite.write("pyproject.toml", '[tool.pytest.ini_options]\nllmgrind_solutions = "mine"\n')
        suite.write("mine/01_sums.py", REFERENCE)
        os.chdir(suite.path / "challenges")

        suite.run("01_sums").assert_outcomes(passed=2)

    def test_solutions_lie_beside_challenges_wherever_the_rootdir_is(self, suite: Suite) -> None:
        """Another rootdir does not make the stub be graded in silence."""
        suite.challenge()
        suite.solve()
        suite.write("elsewhere/pytest.ini", "[pytest]\n")

        result = suite.run("challenges", "--rootdir", "elsewhere", "-c", "elsewhere/pytest.ini")

        result.assert_outcomes(passed=2)

    def test_a_directory_that_is_not_there_is_an_error(self, suite: Suite) -> None:
        """A typo in ``--solutions`` does not grade the stub instead."""
        suite.challenge()

        result = suite.run("challenges", "--solutions", "solutoins")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --solutions: there is no directory solutoins"])

    def test_two_workspaces_in_one_session_keep_apart(self, suite: Suite) -> None:
        """Challenges of the same id are graded by the solutions beside each."""
        for home, text in (("a", REFERENCE), ("b", WRONG)):
            os.chdir(suite.path)
            suite.challenge(home=home)
            suite.write(f"{home}/solutions/01_sums.py", text)

        result = suite.run("a/challenges", "b/challenges", "-rA")

        result.assert_outcomes(passed=3, failed=1)
        result.stdout.fnmatch_lines(["FAILED b/challenges/01_sums/hidden/1_pairs.py::*"])


class TestFresh:
    """What is graded is the text as it stands."""

    @pytest.fixture(autouse=True)
    def _bytecode_is_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def test_an_edit_within_the_same_second_counts(self, suite: Suite) -> None:
        """Neither bytecode nor modules of an earlier session of this process are used."""
        suite.challenge()
        file = suite.solve(REFERENCE)
        stat = file.stat()
        suite.run("challenges").assert_outcomes(passed=2)
        suite.solve(WRONG)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

        suite.run("challenges").assert_outcomes(passed=1, failed=1)

    def test_an_edit_of_a_module_of_a_package_counts(self, suite: Suite) -> None:
        """The modules inside a package are read anew too."""
        suite.challenge()
        suite.write("solutions/01_sums/__init__.py", "from .parts import add, total\n")
        parts = suite.write("solutions/01_sums/parts.py", REFERENCE)
        stat = parts.stat()
        suite.run("challenges").assert_outcomes(passed=2)
        suite.write("solutions/01_sums/parts.py", WRONG)
        os.utime(parts, ns=(stat.st_atime_ns, stat.st_mtime_ns))

        suite.run("challenges").assert_outcomes(passed=1, failed=1)

    def test_a_second_import_in_a_session_is_fresh_too(self, tmp_path: Path) -> None:
        """The gate and the diagnosis import many versions of a package one after another."""
        (tmp_path / "__init__.py").write_text("from .parts import X\n")
        (tmp_path / "parts.py").write_text("X = 1\n")
        first = import_fresh(tmp_path / "__init__.py", None)
        (tmp_path / "parts.py").write_text("X = 2\n")

        second = import_fresh(tmp_path / "__init__.py", None)

        assert (first.X, second.X) == (1, 2)

    def test_no_bytecode_is_left_behind(self, suite: Suite) -> None:
        """Grading writes nothing beside the solution."""
        suite.challenge()
        suite.solve()

        suite.run("challenges")

        assert [path.name for path in (suite.path / "solutions").iterdir()] == ["01_sums.py"]

    def test_a_solution_is_imported_once_a_session(self, suite: Suite) -> None:
        """All stages see one module, so that module-level state is what the learner expects."""
        suite.challenge()
        suite.solve("print('here I am')\n" + REFERENCE)

        result = suite.run("challenges", "-s")

        assert result.stdout.str().count("here I am") == 1


GOOD = REFERENCE.encode()
LIST = "it allows numpy and the plain parts of the standard library (docs/judging.md)"
UNGRADABLE = {
    "syntax": (
        b"def add(a, b)\n    return a\n",
        ["01_sums.py:1: not Python: expected ':'", "    def add(a, b)", "                 ^"],
    ),
    "indentation": (
        b"def add(a, b):\nreturn a\n",
        [
            "01_sums.py:2: not Python: expected an indented block after function definition"
            " on line 1",
            "    return a",
            "    ^^^^^^",
        ],
    ),
    "empty": (b"", ["01_sums.py: add is missing; the stub has add(a, b) in line 3"]),
    "missing": (
        b"def add(a, b): ...\n",
        ["01_sums.py: total is missing; the stub has total(xs) in line 8"],
    ),
    "signature": (
        b"def add(a): ...\ndef total(xs): ...\n",
        [
            "01_sums.py: add takes (a) (too many positional arguments);"
            " the stub has add(a, b) in line 3"
        ],
    ),
    "raises": (
        b"x = 1\n\ndef f():\n    return x / 0\n\nf()\n",
        ["01_sums.py:4: the import raised ZeroDivisionError: division by zero"],
    ),
    "no module": (
        b"import numpy.nothing\n",
        ["01_sums.py:1: the import raised ModuleNotFoundError: No module named 'numpy.nothing'"],
    ),
    "exit": (b"raise SystemExit(3)\n", ["01_sums.py:1: the import raised SystemExit: 3"]),
    "base exception": (
        b"class Odd(BaseException): ...\nraise Odd\n",
        ["01_sums.py:2: the import raised Odd"],
    ),
    "nasty text": (
        b"class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd\n",
        [
            "01_sums.py:3: the import raised Odd: <a text that cannot be made: OSError>",
        ],
    ),
    "null bytes": (
        b"x = 1\0\n",
        ["01_sums.py*: not Python: *source code*cannot contain null bytes"],
    ),
    "encoding": (
        b"x = '\xff'\n",
        [
            "01_sums.py*: not Python: *'utf-8' codec can't decode byte 0xff *",
            "*",
            "*",
        ],
    ),
    "unknown encoding": (
        b"# coding: klingon\n",
        ["01_sums.py*: not Python: *unknown encoding: klingon*"],
    ),
    "nesting": (
        b"x = " + b"(" * 300 + b")" * 300,
        ["01_sums.py:1: not Python: too many nested parentheses"],
    ),
    "import": (
        b"import os\n",
        [f"01_sums.py:1: import of os is not allowed in this challenge; {LIST}"],
    ),
}


class TestUngradable:
    """One message at the first test, the rest blocked, exit code 1."""

    @pytest.mark.parametrize("name", UNGRADABLE)
    def test_is_one_message(self, suite: Suite, name: str) -> None:
        """Whatever is wrong with the file as a whole is said once, with place and cure."""
        source, said = UNGRADABLE[name]
        suite.challenge()
        suite.solve("").write_bytes(source)

        result = suite.run("challenges")

        assert result.ret == 1
        text = result.stdout.str()
        assert text.count("cannot be graded\n  saw") == 1
        first, *rest = said
        lines = [f"  saw    {first}", *(f"         {line}".rstrip() for line in rest)]
        result.stdout.fnmatch_lines(["01_sums  cannot be graded", *lines], consecutive=True)
        result.stdout.fnmatch_lines(["*1 failed, 1 blocked in *"])
        assert "Traceback" not in text

    @pytest.mark.parametrize("args", [("-n2",), ("-n2", "--dist=loadfile"), ("-x",), ("-v",)])
    def test_is_one_message_under(self, suite: Suite, args: tuple[str, ...]) -> None:
        """Two processes find the same thing wrong and say it once; -x stops there."""
        suite.challenge()
        suite.solve("def add(a, b)")

        result = suite.run("challenges", *args)

        assert result.ret == 1 if args != ("-x",) else result.ret in (1, 2)
        assert result.stdout.str().count("cannot be graded\n  saw") == 1

    def test_shows_the_learners_frames_of_an_import_that_raised(self, suite: Suite) -> None:
        """Where the file raised is shown as two lines."""
        suite.challenge()
        suite.solve("def f():\n    return 1 / 0\n\nf()\n")

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(
            [
                "01_sums  cannot be graded",
                "  saw    01_sums.py:2: the import raised ZeroDivisionError: division by zero",
                "  read   challenges/01_sums/spec.md",
                "",
                "  solutions/01_sums.py:4: in <module>",
                "      f()",
                "  solutions/01_sums.py:2: in f",
                "      return 1 / 0",
            ],
            consecutive=True,
        )

    def test_names_the_file_of_a_package(self, suite: Suite) -> None:
        """A mistake in a module of a package is found before anything runs."""
        suite.challenge()
        suite.write("solutions/01_sums/__init__.py", "from .parts import add, total\n")
        suite.write("solutions/01_sums/parts.py", "import os\n")

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["  saw    01_sums/parts.py:1: import of os is not allowed *"])

    def test_a_directory_without_init_is_no_package(self, suite: Suite) -> None:
        """The stub is not graded in its place."""
        suite.challenge()
        suite.write("solutions/01_sums/sums.py", REFERENCE)

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["  saw    01_sums/ has no __init__.py, so it is no package"])

    def test_a_broken_link_is_named(self, suite: Suite) -> None:
        """The stub is not graded in its place."""
        suite.challenge()
        (suite.path / "solutions").mkdir()
        (suite.path / "solutions" / "01_sums.py").symlink_to(suite.path / "nowhere.py")

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["  saw    01_sums.py is a link to nothing"])

    def test_a_file_that_cannot_be_read_is_named(
        self, suite: Suite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Missing permissions are said as the system says them."""
        suite.challenge()
        file = suite.solve()
        plain = Path.read_bytes

        def refuse(path: Path) -> bytes:
            if path == file:
                raise PermissionError(13, "Permission denied", str(path))
            return plain(path)

        monkeypatch.setattr(Path, "read_bytes", refuse)

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["  saw    01_sums.py: cannot be read: Permission denied"])

    def test_a_stub_that_is_no_python_is_named(self, suite: Suite) -> None:
        """With a solution of its own, a broken stub is what has to be restored."""
        suite.challenge(stub="def add(a, b)\n")
        suite.solve()

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["  saw    01_sums/stub.py cannot be read: SyntaxError: *"])

    @pytest.mark.parametrize(
        "source",
        [
            b"\xef\xbb\xbf" + GOOD,
            GOOD.replace(b"\n", b"\r\n"),
            b"# -*- coding: latin-1 -*-\nx = '\xff'\n" + GOOD,
            b"from __future__ import annotations\nimport dataclasses\n"
            b"@dataclasses.dataclass\nclass C:\n    x: int = 0\n" + GOOD,
        ],
    )
    def test_what_python_takes_is_taken(self, suite: Suite, source: bytes) -> None:
        """A byte order mark, Windows lines, another encoding, postponed annotations."""
        suite.challenge()
        suite.solve("").write_bytes(source)

        suite.run("challenges").assert_outcomes(passed=2)

    def test_a_broken_reference_is_not_the_learners_fault(self, suite: Suite) -> None:
        """It is said whose mistake it is, without a line of the reference."""
        stage = """
            from pytest_llmgrind import check, rule

            @rule("R1")
            def test_same(solution, reference):
                check.that(True, saw="")
        """
        suite.challenge(stages={"pairs": stage}, reference="SECRET = 41 +\n")
        suite.solve(REFERENCE)

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(
            [
                "  saw    nothing of yours: this challenge has a mistake "
                "(reference/01_sums.py does not load: SyntaxError)"
            ]
        )
        result.stdout.no_fnmatch_line("*SECRET*")

    def test_a_missing_reference_is_named(self, suite: Suite) -> None:
        """A workspace may have lost it."""
        stage = """
            from pytest_llmgrind import rule

            @rule("R1")
            def test_same(reference): ...
        """
        suite.challenge(stages={"pairs": stage})
        (suite.path / "reference" / "01_sums.py").unlink()
        suite.solve()

        result = suite.run("challenges")

        result.stdout.fnmatch_lines(["*(there is no reference/01_sums.py)"])


def test_the_stub_of_the_suite_lacks_nothing() -> None:
    """The table above is about solutions, not about a stub that is wrong itself."""
    assert STUB.count("NotImplementedError") == 2
