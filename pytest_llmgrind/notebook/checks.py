"""What a notebook imports: ``check_stage`` and ``check_all``, each a fresh pytest.

The solution that the cells make is written where every solution is, ``solutions/<id>.py``, and its
runs are practice like any other. A file there that no notebook wrote, or that was changed by hand
since, is never touched: then the text goes below ``.llmgrind/notebooks``, and is graded from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import solution as solutions
from pytest_llmgrind import workspace as workspaces
from pytest_llmgrind.history import DIRECTORY
from pytest_llmgrind.manifest import Manifest, ManifestError
from pytest_llmgrind.notebook import parts
from pytest_llmgrind.notebook.parts import Label, Parts, join, label_of, parts_of, signed, split
from pytest_llmgrind.workspace import Workspace, WorkspaceError


class CannotGrade(Exception):
    """Nothing can be graded here; one line: what is wrong, and what to do."""


def grader(id: str) -> tuple[Callable[[int], None], Callable[[], None]]:
    """``check_stage`` and ``check_all`` of a challenge, for the notebook that calls this."""
    made = Grader(id)
    return made.check_stage, made.check_all


@dataclass(frozen=True)
class Grader:
    """Grades the cells of the notebook that runs in this process."""

    id: str

    def check_stage(self, number: int) -> None:
        """Grade the tests of one stage, without timing; prints what pytest has to say."""
        self._check(number)

    def check_all(self) -> None:
        """Grade everything, budgets included."""
        self._check(None)

    def _check(self, number: int | None) -> None:
        try:
            workspace = workspaces.find(Path.cwd())
            manifest = manifests.load(workspace.resolve(self.id))
            target, options = _target(manifest, number)
            cells = run_cells()
            file, remarks = place(workspace, manifest)
            remarks += _written(manifest, file, cells, until=number or len(manifest.stages))
        except (WorkspaceError, ManifestError, CannotGrade) as error:
            print(error)
            return
        except (OSError, SyntaxError, ValueError) as error:
            print(f"{self.id}: cannot be graded: {error}")
            return
        for text in remarks:
            print(f"note  {text}")
        if file.parent != workspace.solutions:
            options = [*options, "--solutions", str(file.parent)]
        _run([str(target), *options], workspace.root)


def run_cells() -> Parts:
    """The parts that were run in this kernel, each as it was run last.

    Raises
    ------
    CannotGrade
        This is no notebook.
    """
    shell = _shell()
    if shell is None:
        raise CannotGrade("this works in a notebook: open it in Jupyter, and run its cells there")
    found: Parts = {}
    for text in shell.history_manager.input_hist_raw:
        if (label := label_of(text)) is not None:
            found[label] = text.lstrip().partition("\n")[2]
    return found


def place(workspace: Workspace, manifest: Manifest) -> tuple[Path, list[str]]:
    """Where the solution is written, and what there is to say about that.

    That is the workspace's own if it is absent, an untouched stub, or a notebook's.
    """
    file = workspace.solutions / f"{manifest.id}.py"
    if is_ours(workspace, manifest):
        return file, []
    apart = workspace.root / DIRECTORY / "notebooks" / manifest.id / file.name
    home = solutions.find(manifest, workspace.solutions).home
    there = os.path.relpath(home, workspace.root)
    return apart, [f"{there} is not this notebook's: graded apart, and not recorded as practice"]


def is_ours(workspace: Workspace, manifest: Manifest) -> bool:
    """Whether the solution may be written over: nothing in it is anybody's own."""
    found = solutions.find(manifest, workspace.solutions)
    if found.is_stub and not found.wrong:
        return True
    if found.wrong or found.home.is_dir() or found.path.is_symlink():
        return False
    text = found.path.read_bytes()
    return text == manifest.stub.read_bytes() or unsigned(found.path) is not None


def unsigned(file: Path) -> str | None:
    """What a notebook wrote there, if that is what is there."""
    try:
        return parts.unsigned(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _target(manifest: Manifest, number: int | None) -> tuple[Path, list[str]]:
    if number is None:
        return manifest.root, []
    count = len(manifest.stages)
    if type(number) is not int or not 1 <= number <= count:
        raise CannotGrade(f"{manifest.id} has the stages 1 to {count}, got {number!r}")
    return manifest.root / manifest.stages[number - 1].file, ["-q", "--benchmark-disable"]


def _written(manifest: Manifest, file: Path, cells: Parts, *, until: int) -> list[str]:
    """Write the solution; what was not run in this kernel stays as a notebook wrote it there."""
    template = split(manifest.stub.read_text("utf-8-sig"))
    body = unsigned(file)
    known = {} if body is None else parts_of(body)
    kept = {label: text for label, text in known.items() if label in template}
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.tmp")
    fresh.write_text(signed(join(template, {**kept, **cells}), manifest.id), "utf-8")
    os.replace(fresh, file)
    missing = {label for label in {*template, *known} if label.stage <= until} - cells.keys()
    return [_not_run(label, known, template) for label in sorted(missing)]


def _not_run(label: Label, known: Parts, template: Parts) -> str:
    instead = "what you ran in an earlier session" if label in known else "the stub's"
    graded = f"{instead} is graded" if label in template else "it is left out"
    return f"the cell `# {label}` was not run since the kernel started: {graded}"


def _run(arguments: Sequence[str], root: Path) -> None:
    """pytest in a process of its own; its lines are printed as they come."""
    command = [sys.executable, "-m", "pytest", *arguments, "-rN", "--no-header", "--color=no"]
    with subprocess.Popen(
        command,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            print("interrupted")


def _shell() -> Any:
    ipython: Any = sys.modules.get("IPython")
    return ipython and ipython.get_ipython()
