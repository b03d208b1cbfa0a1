"""llmgrind notebook: what it writes, how cells become a solution, and what a check says."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import workspace
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import open_history
from pytest_llmgrind.notebook import Grader, checks, grader, parts
from pytest_llmgrind.notebook.parts import Label
from pytest_llmgrind.notebook.write import sections

STUB = '''
"""Sums, with ``total`` built on ``add``."""

from __future__ import annotations

ZERO = 0


def add(a: Number, b: Number) -> Number:
    """The sum of two."""
    # TODO stage 1.
    raise NotImplementedError("01_sums, stage 1")


# -- lists --

Number = int


def total(xs: list[Number]) -> Number:
    """The sum of a list."""
    raise NotImplementedError("01_sums, stage 2")
'''
ADD = "    return a + b\n"
TOTAL = "    return add(xs[0], total(xs[1:])) if xs else ZERO\n"
PAIRS = """
    from pytest_llmgrind import check, rule

    @rule("R1")
    def test_sum_of_a_pair(solution):
        check.equal(solution.add(1, 2), 3, what="sum", given="1, 2")
"""
LISTS = """
    from pytest_llmgrind import check, rule

    @rule("R2")
    def test_sum_of_a_list(solution):
        check.equal(solution.total([1, 2]), 3, what="total", given="1, 2")

    @rule("R2")
    def test_few_additions(count):
        count(lambda impl, n: impl.total([1] * n), inputs=lambda rng: (5,))
"""
BUDGET = """
    [[budget]]
    name = "few_additions"
    stage = "lists"
    kind = "count"
    limit = 5
    what = "additions"
"""


def solved(source: str) -> str:
    """A part of the stub with its code written."""
    source = source.replace('    raise NotImplementedError("01_sums, stage 1")', ADD.rstrip("\n"))
    return source.replace('    raise NotImplementedError("01_sums, stage 2")', TOTAL.rstrip("\n"))


@pytest.fixture
def place(suite: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace whose pytest loads three plugins, and a challenge with a budget."""
    ini = '[tool.pytest.ini_options]\naddopts = "-p llmgrind -p timeout -p benchmark"\n'
    suite.write("pyproject.toml", ini)
    suite.challenge(
        stages={"pairs": PAIRS, "lists": LISTS},
        stub=STUB,
        reference=solved(STUB),
        more=BUDGET,
    )
    monkeypatch.setenv("IPYTHONDIR", str(suite.path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    return suite


def run(*args: str) -> Any:
    return CliRunner().invoke(main, ["notebook", *args], prog_name="llmgrind")


def written(place: Any) -> Any:
    """The notebook, as nbformat reads it."""
    assert run("1").exit_code == 0
    return nbformat.read(place.path / "notebooks/01_sums.ipynb", as_version=4)


def executed(place: Any, notebook: Any) -> dict[str, str]:
    """What each code cell printed, run in a kernel in the notebook's directory."""
    where = {"metadata": {"path": str(place.path / "notebooks")}}
    NotebookClient(notebook, resources=where, timeout=120).execute()
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert {output.output_type for output in cell.outputs} <= {"stream"}
            found[cell.id] = "".join(output.text for output in cell.outputs)
    return found


class TestWriting:
    def test_it_writes_a_notebook_and_says_what_to_do(self, place: Any) -> None:
        """notebooks/<id>.ipynb is valid, and has the spec by section and each stage's cells."""
        result = run("1")

        assert result.output.splitlines() == [
            "notebooks/01_sums.ipynb is yours: 01_sums, 2 stages, about 60 minutes",
            "next  jupyter lab notebooks/01_sums.ipynb",
        ]
        notebook = nbformat.read(place.path / "notebooks/01_sums.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert [cell.id for cell in notebook.cells] == [
            *("spec-0", "spec-1", "spec-2", "how", "set-up", "given"),
            *("stage-1", "stage-1-part-1", "check-1"),
            *("stage-2", "stage-2-part-1", "check-2"),
            *("all", "check-all"),
        ]
        texts = {cell.id: cell.source for cell in notebook.cells}
        assert texts["spec-2"].startswith("## Rules\n\n- **R1** `add` returns the sum")
        assert texts["stage-2"] == "### Stage 2, lists: lists"
        assert texts["stage-1-part-1"].startswith("# stage 1: yours\ndef add(")
        assert texts["check-2"] == "check_stage(2)"

    def test_it_never_overwrites(self, place: Any) -> None:
        """Where there is a notebook, it says what is there, writes nothing and exits with 1."""
        written(place)
        file = place.path / "notebooks/01_sums.ipynb"
        before = file.read_bytes()

        result = run("1")

        assert result.exit_code == 1
        assert re.fullmatch(
            r"Error: notebooks/01_sums\.ipynb is there already: 14 cells, changed "
            r"\d{4}-\d\d-\d\d \d\d:\d\d; nothing was written; rename it to begin anew\n",
            result.output,
        )
        assert file.read_bytes() == before

    def test_what_is_there_may_be_anything(self, place: Any) -> None:
        """A file that is no notebook is left alone as well."""
        place.write("notebooks/01_sums.ipynb", "mine")

        result = run("1")

        assert result.exit_code == 1
        assert "is there already: no notebook, changed" in result.output

    def test_a_directory_that_cannot_be_made(self, place: Any) -> None:
        """The system's reason is given, and the place."""
        place.write("notebooks", "mine")

        result = run("1")

        assert result.exit_code == 1
        assert result.output == (
            f"Error: {place.path}/notebooks: File exists; nothing was written\n"
        )

    def test_nbformat_is_missing(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extra is named with the command that installs it."""
        monkeypatch.setattr("pytest_llmgrind.cli.notebook.find_spec", lambda name: None)

        result = run("1")

        assert result.exit_code == 1
        assert result.output == (
            "Error: notebook needs nbformat: pip install 'pytest-llmgrind[notebook]'\n"
        )

    def test_an_unknown_id(self, place: Any) -> None:
        """It is a wrong command line, as everywhere."""
        result = run("2")

        assert result.exit_code == 2
        assert result.output == "Error: unknown challenge '2'; there are: 01_sums\n"

    def test_outside_of_a_workspace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody solves in site-packages."""
        monkeypatch.chdir(tmp_path)

        result = run(workspace.suite().ids[0])

        assert result.exit_code == 2
        assert result.output == (
            f"Error: no challenges/ in {tmp_path} or above; "
            "`llmgrind init DIR` lays out a workspace\n"
        )

    def test_the_attempt_begins(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """From here on time is counted; an attempt that runs already goes on."""
        monkeypatch.setenv("LLMGRIND_NOW", "2026-11-27T09:00Z")
        run("1")
        (place.path / "notebooks/01_sums.ipynb").unlink()
        run("1")

        with open_history(place.path) as history:
            (attempt,) = history.attempts()

        assert f"{attempt.started:%H:%M}" == "09:00"

    def test_it_says_that_runs_will_not_count(self, place: Any) -> None:
        """A solution of another hand is left alone, and no attempt begins."""
        place.solve("x = 1\n")

        result = run("1")

        assert result.exit_code == 0
        assert result.output.splitlines()[2] == (
            "note  solutions/01_sums.py is no notebook's: checks leave it alone, and are not"
            " recorded as practice while it is there"
        )
        with open_history(place.path) as history:
            assert history.attempts() == []

    def test_headings_in_code_cut_nothing(self) -> None:
        """A spec is cut at its sections alone."""
        spec = "# Sums\n\n## Goal\n\n```\n## no heading\n```\n\n### Below\n\n## Rules\n\n- R1\n"

        assert sections(spec) == [
            "# Sums",
            "## Goal\n\n```\n## no heading\n```\n\n### Below",
            "## Rules\n\n- R1",
        ]


class TestParts:
    def test_what_comes_between_belongs_to_what_follows(self) -> None:
        """Docstring, imports and constants before the first stage are given."""
        found = parts.split(STUB)

        assert [str(label) for label in found] == ["given", "stage 1", "stage 2"]
        assert found[Label(0)].splitlines()[-1] == "ZERO = 0"
        assert found[Label(2)].startswith("# -- lists --\n\nNumber = int\n\n\ndef total(")

    def test_stages_that_take_turns_have_several_parts(self) -> None:
        """The solution keeps the stub's order though the cells are ordered by stage."""
        todo = 'def {}():\n    raise NotImplementedError("x, stage {}")\n\n\n'
        stub = todo.format("a", 2) + todo.format("b", 1) + todo.format("c", 2) + "END = 1\n"

        found = parts.split(stub)

        assert [str(label) for label in found] == ["stage 2", "stage 1", "stage 2, part 2"]
        assert ast.dump(ast.parse(parts.join(found, {}))) == ast.dump(ast.parse(stub))

    @pytest.mark.parametrize("id", workspace.suite().ids)
    def test_every_line_of_every_stub_is_there_once(self, id: str) -> None:
        """Cells in the stub's order are the stub, but for blank lines around."""
        manifest = manifests.load(workspace.suite().challenges / id)
        stub = manifest.stub.read_text("utf-8")

        found = parts.split(stub)

        lines = [line for text in found.values() for line in text.splitlines() if line]
        assert lines == [line for line in stub.splitlines() if line]
        assert ast.dump(ast.parse(parts.join(found, {}))) == ast.dump(ast.parse(stub))
        assert {label.stage for label in found} <= set(range(len(manifest.stages) + 1))
        assert next(iter(found)) == Label(0)

    def test_a_solution_is_read_back(self) -> None:
        """Parts, and further ones behind those of their stage."""
        template = parts.split(STUB)
        cells = {Label(1): "def add(a, b): ...", Label(1, 2): "def help(): ..."}

        body = parts.join(template, cells)

        assert parts.parts_of(body) == {**template, **cells}
        assert list(parts.parts_of(body)) == [Label(0), Label(1), Label(1, 2), Label(2)]

    def test_a_change_by_hand_is_seen(self) -> None:
        """What was signed is a notebook's until one letter of it is another."""
        text = parts.signed("x = 1\n", "01_sums")

        assert parts.unsigned(text) == "x = 1\n"
        assert parts.unsigned(text + "y = 2\n") is None
        assert parts.unsigned("x = 1\n") is None

    @pytest.mark.parametrize(
        ("cell", "label"),
        [
            ("# given\nx = 1", Label(0)),
            ("\n#stage 12: yours\nx = 1", Label(12)),
            ("# stage 2, part 3\n", Label(2, 3)),
            ("# stage two\n", None),
            ("x = 1  # stage 1\n", None),
            ("", None),
        ],
    )
    def test_the_first_line_of_a_cell_names_its_part(self, cell: str, label: Label | None) -> None:
        """Other cells are no part of the solution."""
        assert parts.label_of(cell) == label


class TestInAKernel:
    def test_untouched_it_says_todo(self, place: Any) -> None:
        """Every check runs, says what is to do, and raises nothing."""
        printed = executed(place, written(place))

        assert printed["check-1"].splitlines()[:2] == [
            "t" + " " * 72 + "[100%]",
            "01_sums  0/2 stages · 0/2 rules · 0/1 budget",
        ]
        assert printed["check-1"].splitlines()[-1].startswith("1 todo in ")
        assert printed["check-2"].splitlines()[-1].startswith("2 todo in ")
        assert "next       stage 1, pairs: pairs" in printed["check-all"].splitlines()
        assert "note" not in "".join(printed.values())

    def test_solved_it_is_green_and_counts(self, place: Any) -> None:
        """Stages call each other, the last check meets the budget, and the runs are practice."""
        notebook = written(place)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source = solved(cell.source)

        printed = executed(place, notebook)

        assert printed["check-1"].splitlines()[-1].startswith("1 passed in ")
        assert printed["check-2"].splitlines()[-1].startswith("2 passed in ")
        done = "done       all green: 3 tests passed, 2 of 2 rules kept, 1 of 1 budget met"
        assert done in printed["check-all"].splitlines()
        with open_history(place.path) as history:
            attempt = history.current("01_sums")
        assert attempt.passed
        assert [run.done for run in attempt.runs] == [False, False, True]


class Kernel:
    """Stands in for IPython: the cells that were run."""

    def __init__(self) -> None:
        self.history_manager = self
        self.input_hist_raw = [""]


@pytest.fixture
def kernel(place: Any, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A notebook in this process; what pytest would be called with is printed instead."""
    made = Kernel()
    monkeypatch.setattr(checks, "_shell", lambda: made)
    monkeypatch.setattr(checks, "_run", lambda arguments, root: print("pytest", *arguments))
    return made


def hidden(place: Any, name: str) -> str:
    return str(place.path / "challenges/01_sums/hidden" / name)


class TestGrader:
    def said(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        return capsys.readouterr().out.splitlines()

    def test_cells_are_graded_as_they_were_run_last(
        self, place: Any, kernel: Kernel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Cells without a name are not part of the solution, those of later stages may wait."""
        kernel.input_hist_raw += ["# given\nA = 1", "B = 2", "# stage 1: yours\nC = 3"]
        kernel.input_hist_raw += ["# stage 1: yours\nC = 4", "# stage 1, part 2\nD = 5"]

        grader("01_sums")[0](1)

        assert self.said(capsys) == [f"pytest {hidden(place, '1_pairs.py')} -q --benchmark-disable"]
        text = (place.path / "solutions/01_sums.py").read_text()
        assert text.splitlines()[1:13] == [
            *("# %% given", "A = 1", "", ""),
            *("# %% stage 1", "C = 4", "", ""),
            *("# %% stage 1, part 2", "D = 5", "", ""),
        ]
        assert "def total(" in text

    def test_what_was_not_run_is_said(
        self, place: Any, kernel: Kernel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The stub's code, or that of an earlier session, is graded in its place."""
        kernel.input_hist_raw += ["# given\nA = 1", "# stage 2, part 2\nE = 6"]

        Grader("01_sums").check_all()

        missing = "was not run since the kernel started:"
        assert self.said(capsys) == [
            f"note  the cell `# stage 1` {missing} the stub's is graded",
            f"note  the cell `# stage 2` {missing} the stub's is graded",
            f"pytest {place.path / 'challenges/01_sums'}",
        ]

        kernel.input_hist_raw = ["", "# stage 1\nC = 3"]
        Grader("01_sums").check_all()

        earlier = "what you ran in an earlier session is graded"
        assert self.said(capsys)[:-1] == [
            f"note  the cell `# given` {missing} {earlier}",
            f"note  the cell `# stage 2` {missing} {earlier}",
            f"note  the cell `# stage 2, part 2` {missing} it is left out",
        ]
        text = (place.path / "solutions/01_sums.py").read_text()
        assert "A = 1\n" in text
        assert "C = 3\n" in text
        assert "E = 6\n" not in text

    @pytest.mark.parametrize("way", ["mine", "changed", "package", "link", "broken link"])
    def test_a_solution_of_another_hand_is_never_touched(
        self, place: Any, kernel: Kernel, capsys: pytest.CaptureFixture[str], way: str
    ) -> None:
        """The cells are graded apart then, and it says so."""
        file = place.path / "solutions/01_sums.py"
        theirs = {
            "mine": lambda: place.solve("x = 1\n"),
            "changed": lambda: place.solve(parts.signed("x = 1\n", "01_sums") + "y = 2\n"),
            "package": lambda: place.write("solutions/01_sums/__init__.py", "x = 1\n"),
            "link": lambda: os.symlink(place.write("other.py", STUB), _made(file)),
            "broken link": lambda: os.symlink("nothing.py", _made(file)),
        }
        theirs[way]()
        before = _tree(file.parent)
        kernel.input_hist_raw += ["# given\nA = 1", "# stage 1\nC = 3"]

        Grader("01_sums").check_stage(1)

        name = "01_sums" if way == "package" else "01_sums.py"
        apart = place.path / ".llmgrind/notebooks/01_sums"
        assert self.said(capsys) == [
            f"note  solutions/{name} is not this notebook's: graded apart, and not recorded as"
            " practice",
            f"pytest {hidden(place, '1_pairs.py')} -q --benchmark-disable --solutions {apart}",
        ]
        assert "C = 3\n" in (apart / "01_sums.py").read_text()
        assert _tree(file.parent) == before

    def test_an_untouched_stub_is_nobodys(self, place: Any, kernel: Kernel) -> None:
        """What llmgrind start wrote and nobody changed makes way."""
        stub = place.path / "challenges/01_sums/stub.py"
        solution = place.solve(stub.read_text())
        kernel.input_hist_raw += ["# stage 1\nC = 3"]

        Grader("01_sums").check_stage(1)

        assert "C = 3\n" in solution.read_text()

    @pytest.mark.parametrize("number", [0, 3, "1", True, 1.0])
    def test_a_stage_that_is_none(
        self, place: Any, kernel: Kernel, capsys: pytest.CaptureFixture[str], number: Any
    ) -> None:
        """One line says which there are."""
        Grader("01_sums").check_stage(number)

        assert self.said(capsys) == [f"01_sums has the stages 1 to 2, got {number!r}"]

    def test_outside_of_a_notebook(
        self, place: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One line says where it works."""
        monkeypatch.setattr(checks, "_shell", lambda: None)

        Grader("01_sums").check_stage(1)

        assert self.said(capsys) == [
            "this works in a notebook: open it in Jupyter, and run its cells there"
        ]

    def test_outside_of_a_workspace(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        kernel: Kernel,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A notebook that was moved away says what it misses, without a traceback."""
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        monkeypatch.chdir(elsewhere)

        Grader("01_sums").check_stage(1)

        assert self.said(capsys) == [
            f"no challenges/ in {elsewhere} or above; `llmgrind init DIR` lays out a workspace"
        ]

    def test_a_place_that_cannot_be_written(
        self, place: Any, kernel: Kernel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The system's reason is one line."""
        place.write("solutions", "mine")
        kernel.input_hist_raw += ["# stage 1\nC = 3"]

        Grader("01_sums").check_stage(1)

        (line,) = self.said(capsys)
        assert line.startswith("01_sums: cannot be graded: [Errno ")


def _made(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    return file


def _tree(directory: Path) -> dict[str, Any]:
    return {
        str(path): (path.is_symlink(), path.read_bytes() if path.is_file() else None)
        for path in sorted(directory.rglob("*"))
    }
