"""llmgrind watch: what a save runs, what the keys do, and the terminal that is given back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import watch as watching
from pytest_llmgrind.cli import main
from pytest_llmgrind.history import Attempt, Hint, Run, open_history
from pytest_llmgrind.watch import status
from pytest_llmgrind.watch.course import Course, Task
from pytest_llmgrind.watch.runs import Outcome
from pytest_llmgrind.watch.saves import Look, Saves
from pytest_llmgrind.watch.session import REFRESH_S
from pytest_llmgrind.watch.terminal import END, Terminal
from pytest_llmgrind.workspace import Workspace

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
KEYS = "h hint  n next stage  r run all  q quit"
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FIRST = "def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    raise NotImplementedError\n"
BOTH = FIRST.replace("raise NotImplementedError", "return sum(xs)")
WRONG = FIRST.replace("a + b", "a - b")
BUDGET = """
    [[budget]]
    name = "few_additions"
    stage = "lists"
    kind = "count"
    limit = 5
    what = "additions"
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
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C and Ctrl-Z are signals
os.execv(sys.executable, [sys.executable, "-m", "pytest_llmgrind.cli", "watch", *sys.argv[1:]])
"""
HINT = """
    import os
    import sys

    if "hint" in sys.orig_argv:
        print(f"a hint for {sys.orig_argv[-1]}", flush=True)
        os._exit(0)
"""


def course(*words: str, at: int = 0) -> Course:
    """Of stages a, b, c with these words."""
    names = tuple("abc"[: len(words)])
    return Course(names=names, words=dict(zip(names, words, strict=True)), at=at)


def attempt(**about: Any) -> Attempt:
    """One that began at noon."""
    known = {"id": 1, "challenge": "01_sums", "kind": "solve", "started": NOON, "minutes": None}
    none = {"bugs": (), "passed": None, "gave_up": None, "closed": None}
    return Attempt(**{**known, **none, **about})


def run_of(minute: int, version: int = 1, **stages: str) -> Run:
    at = NOON + timedelta(minutes=minute)
    return Run(at=at, seconds=1, version=version, stages=stages, rules=0, of_rules=2, done=False)


class TestCourse:
    def test_it_begins_at_the_first_stage_that_is_not_finished(self, suite: Any) -> None:
        """The history's last word of each stage counts, and what did not run says nothing."""
        manifest = manifests.load(suite.challenge())
        runs = (run_of(1, pairs="failed", lists="todo"), run_of(2, pairs="ok", lists="not run"))

        begun = Course.of(manifest, attempt(runs=runs))

        assert dict(begun.words) == {"pairs": "ok", "lists": "todo"}
        assert begun.first() == Task(stage=1)

    def test_runs_of_another_version_say_nothing(self, suite: Any) -> None:
        """A challenge whose tests have changed is begun at its first stage."""
        manifest = manifests.load(suite.challenge())

        begun = Course.of(manifest, attempt(runs=(run_of(1, version=2, pairs="ok"),)))

        assert begun.first() == Task(stage=0)

    def test_what_was_green_is_shown_once_more(self) -> None:
        """Where all stages were green, everything is run with budgets to begin with."""
        assert course("ok", "skipped").first() == Task(budgets=True)

    def test_a_green_stage_is_followed_by_the_next_unfinished(self) -> None:
        """From the stage that is worked at on, and around the end."""
        before = course("failed", "ok", "todo", at=2)

        after = before.seen(Task(stage=2), {"c": "ok", "a": "not run"})

        assert after.then(Task(stage=2), {"c": "ok"}) == Task(stage=0)

    def test_a_stage_that_is_not_green_is_followed_by_nothing(self) -> None:
        """It waits for a save, which runs the same stage."""
        after = course("ok", "todo", "todo", at=1).seen(Task(stage=1), {"b": "failed"})

        assert after.then(Task(stage=1), {"b": "failed"}) is None
        assert after.task() == Task(stage=1)

    def test_the_last_green_stage_is_followed_by_all_with_budgets(self) -> None:
        """Once: after that run nothing follows by itself, and a save runs all without budgets."""
        after = course("ok", "todo", at=1).seen(Task(stage=1), {"b": "ok"})

        assert after.then(Task(stage=1), {"b": "ok"}) == Task(budgets=True)
        assert not after.measured

        done = after.seen(Task(budgets=True), {"a": "ok", "b": "ok"})

        assert done.measured
        assert done.then(Task(budgets=True), {"a": "ok", "b": "ok"}) is None
        assert done.task() == Task()
        assert not done.seen(Task(), {"a": "ok", "b": "ok"}).measured

    def test_a_run_of_all_finds_what_an_edit_broke(self) -> None:
        """The first stage that is not green any more is worked at next."""
        after = course("ok", "ok", "ok").seen(Task(), {"a": "ok", "b": "failed", "c": "todo"})

        assert after.task() == Task(stage=1)

    def test_a_stage_over_its_budget_is_run_with_its_budget(self) -> None:
        """Without it, it would turn green by itself."""
        after = course("ok", "ok").seen(Task(budgets=True), {"a": "ok", "b": "over budget"})

        assert after.task() == Task(stage=1, budgets=True)

    def test_a_run_that_graded_nothing_changes_nothing(self) -> None:
        """pytest may die: what was green before is not shown by that."""
        after = course("ok", "ok").seen(Task(budgets=True), {})

        assert not after.measured
        assert course("ok", "todo").then(Task(stage=0), {}) is None

    def test_skipping_goes_around(self) -> None:
        """n after the last stage is the first."""
        assert course("todo", "todo", at=1).skip().task() == Task(stage=0)


class TestStatus:
    def lines(self, suite: Any, now: Course, outcome: Outcome, width: int = 120) -> list[str]:
        manifest = manifests.load(suite.challenge())
        return status.lines(manifest, now, outcome, "12 min", keys=True, width=width)

    def test_the_keys_move_below_where_there_is_no_room(self, suite: Any) -> None:
        """One line where it fits, else two, and never more rows than lines."""
        outcome = Outcome(
            exit_code=1,
            words={"pairs": "failed"},
            next_kind="fix",
            next_text="stage 1, pairs: R1 failed",
        )
        now = Course(names=("pairs", "lists"), words={"pairs": "failed"})
        left = "01_sums · stage 1 of 2, pairs: R1 failed · 12 min"

        assert self.lines(suite, now, outcome) == [f"{left} · {KEYS}"]
        assert self.lines(suite, now, outcome, 80) == [left, KEYS]
        assert self.lines(suite, now, outcome, 40) == [f"{left[:38]}…", KEYS]

    def test_it_says_that_nothing_was_graded(self, suite: Any) -> None:
        """With pytest's exit code, since its own message stands above."""
        now = Course(names=("pairs", "lists"))

        (line,) = self.lines(suite, now, Outcome(exit_code=4), 200)

        assert line == (
            "01_sums · stage 1 of 2, pairs: nothing was graded, pytest's exit code is 4"
            f" · 12 min · {KEYS}"
        )

    def test_green_without_budgets_is_not_done(self, suite: Any) -> None:
        """It names the key that measures them."""
        words = {"pairs": "ok", "lists": "ok"}
        now = Course(names=("pairs", "lists"), words=words)

        (line,) = self.lines(suite, now, Outcome(exit_code=0, words=words, next_kind="done"))

        assert line == f"01_sums · all stages green; r measures the budgets · 12 min · {KEYS}"

    @pytest.mark.parametrize(
        ("about", "minutes", "text"),
        [
            ({}, 12, "12 min"),
            ({"minutes": 45.0}, 12, "12 min, 33 min left"),
            ({"minutes": 10.0}, 12, "12 min, time is up"),
            ({"passed": NOON + timedelta(minutes=5)}, 12, "passed after 5 min"),
        ],
    )
    def test_it_tells_the_time(self, about: dict[str, Any], minutes: int, text: str) -> None:
        """Minutes of work, and of an interview what is left."""
        assert status.effort(attempt(**about), NOON + timedelta(minutes=minutes)) == text


class TestSaves:
    def test_only_files_that_count_are_seen(self, suite: Any) -> None:
        """Solutions of all, and spec, stub and hidden files of the challenge itself."""
        root = suite.challenge()
        suite.challenge("02_other")
        workspace = Workspace(suite.path)

        def seen(path: Path, text: str, **options: Any) -> frozenset[str]:
            before = Look.at(workspace, "01_sums", alone=options.get("alone", False))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return Look.at(workspace, "01_sums", alone=options.get("alone", False)).saved_since(
                before
            )

        mine, theirs = frozenset({"01_sums"}), frozenset({"02_other"})
        assert seen(suite.path / "solutions/01_sums.py", "a = 1") == mine
        assert seen(suite.path / "solutions/02_other/__init__.py", "a = 1") == theirs
        assert seen(suite.path / "solutions/02_other/part.py", "a = 1") == theirs
        assert seen(suite.path / "solutions/02_other/part.py", "a = 12", alone=True) == set()
        for name in ("spec.md", "stub.py", "challenge.toml", "hidden/1_pairs.py"):
            assert seen(root / name, "other") == mine
        assert seen(suite.path / "challenges/02_other/stub.py", "other") == set()
        assert seen(suite.path / "solutions/.01_sums.py.swp", "other") == set()
        assert seen(root / "hidden/__pycache__/x.pyc", "other") == set()

    def test_a_file_that_is_gone_is_no_save(self, suite: Any) -> None:
        """An editor may remove it and make it anew; that is one save."""
        suite.challenge()
        solution, workspace = suite.solve(), Workspace(suite.path)
        before = Look.at(workspace, "01_sums", alone=False)

        solution.unlink()
        gone = Look.at(workspace, "01_sums", alone=False)
        solution.write_text(BOTH)
        again = Look.at(workspace, "01_sums", alone=False)

        assert gone.saved_since(before) == set()
        assert again.saved_since(gone) == {"01_sums"}

    def test_a_directory_that_comes_later_is_watched(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody waits a second for a save because solutions/ was not there at the start."""
        suite.challenge()
        saves = Saves(Workspace(suite.path), "01_sums", lambda ids: None)
        watched: list[list[str]] = []

        def changes(paths: list[Path]) -> Iterator[None]:
            watched.append([path.name for path in paths])
            yield from (None, None)

        monkeypatch.setattr(saves, "_changes", changes)
        moments = saves._moments()
        next(moments)
        (suite.path / "solutions").mkdir()
        next(moments)
        next(moments)

        assert watched == [["challenges"], ["solutions", "challenges"]]


def without_size() -> dict[str, str]:
    """The terminal says how wide it is, and not who started the tests."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}


class Screen:
    """llmgrind watch in a terminal of 40 rows and 120 columns, and what it wrote so far."""

    def __init__(self, cwd: Path, *args: str, **env: str) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *args],
            cwd=cwd,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={**without_size(), "TERM": "xterm", **env},
        )

    def until(self, wanted: str, *, ending: str = "", timeout_s: float = 60) -> list[str]:
        """Lines up to the first that begins and ends so, from the last call on."""
        end = time.monotonic() + timeout_s
        while True:
            lines = ESCAPE.sub("", self.text).replace("\r", "").split("\n")
            for number, line in enumerate(lines):
                is_whole = line.endswith(KEYS) or number + 1 < len(lines)
                if is_whole and line.startswith(wanted) and line.endswith(ending):
                    self.text = "\n".join(lines[number + 1 :])
                    return lines[: number + 1]
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no {wanted!r} in {lines}"
            self.text += os.read(self.master, 1 << 16).decode()

    def status(self, wanted: str) -> str:
        """The next status line that begins so, without time and keys."""
        line = self.until(f"01_sums · {wanted}", ending=KEYS)[-1]
        return line.removesuffix(f" · {KEYS}").removesuffix(" · under a minute")

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def exit_code(self) -> int:
        """Reads what is left meanwhile: a terminal that nobody reads holds its writer up."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 1 << 16).decode()
        return self.process.returncode

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.exit_code()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def place(suite: Any) -> Any:
    """A workspace whose pytest loads three plugins, and a challenge with a budget."""
    ini = '[tool.pytest.ini_options]\naddopts = "-p llmgrind -p timeout -p benchmark"\n'
    suite.write("pyproject.toml", ini)
    pairs = """
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_sum_of_a_pair(solution):
            check.equal(solution.add(1, 2), 3, what="sum", given="1, 2")
    """
    suite.challenge(stages={"pairs": pairs, "lists": LISTS}, more=BUDGET)
    return suite


@pytest.fixture
def watch(place: Any) -> Iterator[Any]:
    """Starts watch in a terminal; ended after the test."""
    screens = []

    def start(*args: str, **env: str) -> Screen:
        screens.append(Screen(place.path, *args, **env))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


def hanging(place: Any) -> Path:
    """A solution that hangs, and the file to which stage 1 adds the number of its process."""
    pairs = """
        import os
        from pathlib import Path
        from pytest_llmgrind import check, rule

        @rule("R1")
        def test_sum_of_a_pair(solution):
            with Path("pids").open("a") as file:
                print(os.getpid(), file=file)
            check.equal(solution.add(1, 2), 3, what="sum", given="1, 2")
    """
    place.write("challenges/01_sums/hidden/1_pairs.py", pairs)
    place.solve(f"import time\n{FIRST}".replace("return a", "time.sleep(50); return a"))
    return place.path / "pids"


def wait_for(pids: Path, count: int) -> list[int]:
    """So many numbers of processes, as soon as they are there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if pids.exists() and (text := pids.read_text()).count("\n") >= count:
            return [int(line) for line in text.splitlines()]
        select.select([], [], [], 0.02)
    raise AssertionError(f"no {count} runs")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestOnATerminal:
    def test_from_a_stub_to_done(self, place: Any, watch: Any) -> None:
        """Saves run the stage in hand, a green one leads to the next, and all end with budgets."""
        place.solve(place.path.joinpath("challenges/01_sums/stub.py").read_text())
        screen = watch()

        assert screen.status("stage 1 of 2, pairs: ") == "01_sums · stage 1 of 2, pairs: pairs"

        place.solve(WRONG)
        lines = screen.until("01_sums · stage 1 of 2, pairs: R1 failed", ending=KEYS)

        assert lines[1:-1] == [
            "F" + " " * 112 + "[100%]",
            "=" * 55 + " FAILURES " + "=" * 55,
            "_" * 50 + " test_sum_of_a_pair " + "_" * 50,
            "R1  add returns the sum of its arguments.",
            "  saw    1, 2: sum came back as -1, which is not right",
            "  read   challenges/01_sums/spec.md#adding",
            "01_sums  0/2 stages · 0/2 rules · 0/1 budget",
            "next       stage 1, pairs: R1 failed",
            "read       challenges/01_sums/spec.md#adding",
            lines[-2],
        ]
        assert lines[0] == "01_sums · stage 1 of 2, pairs: pairs"
        assert re.fullmatch(r"1 failed in [\d.]+s", lines[-2])

        place.solve(FIRST)

        assert screen.status("stage 2 of 2, lists") == "01_sums · stage 2 of 2, lists: lists"

        place.solve(BOTH)
        screen.until("01_sums · all 2 stages, with budgets")
        lines = screen.until("01_sums · done")

        assert "done       all green: 3 tests passed, 2 of 2 rules kept, 1 of 1 budget met" in lines
        assert lines[-1].startswith(
            "01_sums · done: all stages green · passed after under a minute"
        )

    def test_runs_are_tries(self, place: Any, watch: Any) -> None:
        """Each run of a stage is recorded as any run is; without budgets it is no pass."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")
        place.solve(FIRST)
        screen.status("stage 2 of 2, lists")
        screen.press("q")
        screen.exit_code()

        with open_history(place.path) as history:
            runs = history.current("01_sums").runs

        assert [run.stages for run in runs] == [
            {"pairs": "failed", "lists": "not run"},
            {"pairs": "ok", "lists": "not run"},
            {"pairs": "not run", "lists": "todo"},
        ]

    def test_n_goes_on_and_around(self, place: Any, watch: Any) -> None:
        """n runs the next stage though this one is not green; after the last comes the first."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        screen.press("n")
        assert screen.status("stage 2 of 2, lists") == "01_sums · stage 2 of 2, lists: lists"

        screen.press("n")
        assert screen.status("stage 1 of 2, pairs: R1") == (
            "01_sums · stage 1 of 2, pairs: R1 failed"
        )

    def test_r_runs_all_with_budgets(self, place: Any, watch: Any) -> None:
        """It shows the whole board, and goes back to the first stage that is not green."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        screen.press("r")
        lines = screen.until("01_sums · stage 1 of 2, pairs: R1 failed", ending=KEYS)

        assert lines[0] == "01_sums · all 2 stages, with budgets"
        assert "  rules    0 of 2 kept, broken: R1, todo: R2" in lines

    def test_h_shows_the_next_hint(self, place: Any, watch: Any) -> None:
        """The verb hint is run on the challenge, and the status line stands below it again."""
        place.write("stand_in/sitecustomize.py", HINT)
        place.solve(WRONG)
        screen = watch(PYTHONPATH=str(place.path / "stand_in"))
        screen.status("stage 1 of 2, pairs: R1")

        screen.press("h")
        lines = screen.until("01_sums · stage 1", ending=KEYS)

        assert lines[-2] == "a hint for 01_sums"

    def test_a_save_by_rename_counts(self, place: Any, watch: Any) -> None:
        """vim and emacs write another file, and give it the name."""
        solution = place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        solution.rename(solution.with_name("01_sums.py~"))
        new = place.write("solutions/4913", FIRST)
        new.rename(solution)

        assert screen.status("stage 2 of 2, lists")

        os.replace(place.write("solutions/#01_sums.py#", WRONG), solution)
        screen.press("n")

        assert screen.status("stage 1 of 2, pairs: R1")

    def test_a_file_made_anew_counts(self, place: Any, watch: Any) -> None:
        """The solution, and its whole directory, may go and come back."""
        solution = place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        solution.unlink()
        solution.parent.rmdir()
        place.solve(FIRST)

        assert screen.status("stage 2 of 2, lists")

        place.solve(BOTH)

        assert screen.until("01_sums · done")

    def test_the_task_counts_too(self, place: Any, watch: Any) -> None:
        """A save of a hidden file runs the stage; a broken challenge.toml is one line."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")
        hidden = place.path / "challenges/01_sums/hidden/1_pairs.py"
        manifest = place.path / "challenges/01_sums/challenge.toml"

        hidden.write_text(hidden.read_text().replace("1, 2), 3", "1, 2), -1"))
        assert screen.status("stage 2 of 2, lists")

        sound = manifest.read_text()
        manifest.write_text("title = ")
        screen.until(f"{manifest}: not TOML: ")

        manifest.write_text(sound)
        assert screen.status("stage 2 of 2, lists")

    def test_a_save_during_a_run_ends_it(self, place: Any, watch: Any) -> None:
        """What hangs is not waited for: its process is gone, and the new text is graded."""
        pids = hanging(place)
        screen = watch()
        (first,) = wait_for(pids, 1)

        place.solve(WRONG)

        lines = screen.until("01_sums · stage 1 of 2, pairs: ", ending=KEYS)
        assert lines[-1].startswith("01_sums · stage 1 of 2, pairs: R1 failed · ")
        _, second = wait_for(pids, 2)
        assert not is_alive(first)
        assert not is_alive(second)

    def test_what_cannot_be_graded_is_said(self, place: Any, watch: Any) -> None:
        """A file that is not Python waits for the next save."""
        place.solve("def add(:\n")
        screen = watch()

        assert screen.status("stage 1 of 2") == "01_sums · stage 1 of 2, pairs: cannot be graded"

        place.solve(WRONG)

        assert screen.status("stage 1 of 2, pairs: R1")

    def test_it_follows_you(self, place: Any, watch: Any) -> None:
        """Without an ID, saving the solution of another challenge makes that the one in hand."""
        place.challenge("02_other")
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        place.solve(WRONG, "02_other")

        line = screen.until("02_other · stage 1 of 2, pairs: R1 failed", ending=KEYS)[-1]
        assert line.endswith(KEYS)

    def test_with_an_id_it_stays(self, place: Any, watch: Any) -> None:
        """Saves of other challenges are nothing to it."""
        place.challenge("02_other")
        place.solve(WRONG)
        screen = watch("sums")
        screen.status("stage 1 of 2, pairs: R1")

        place.solve(WRONG, "02_other")
        screen.press("n")
        lines = screen.until("01_sums · stage 2 of 2", ending=KEYS)

        assert not [line for line in lines if "02_other" in line]


class AtItsEnd:
    """Gets a signal while it is being deleted."""

    def __init__(self, sign: signal.Signals) -> None:
        self.sign = sign

    def __del__(self) -> None:
        signal.raise_signal(self.sign)


class TestTheEnd:
    @pytest.mark.parametrize("key", ["q", "\x03", "\x04"])
    def test_keys_that_end_it(self, place: Any, watch: Any, key: str) -> None:
        """q, Ctrl-C and Ctrl-D end it with 0, and the terminal is as it was."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")
        assert not screen.is_as_before

        screen.press(key)

        assert screen.exit_code() == 0
        assert screen.is_as_before

    @pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
    def test_signals_that_end_it(self, place: Any, watch: Any, sign: signal.Signals) -> None:
        """A closed window and kill give the terminal back too, and leave no run behind."""
        pids = hanging(place)
        screen = watch()
        (pytests,) = wait_for(pids, 1)

        screen.process.send_signal(sign)

        assert screen.exit_code() == 128 + sign
        assert screen.is_as_before
        assert not is_alive(pytests)

    def test_ctrl_c_does_not_get_lost(self) -> None:
        """Python drops an exception that a signal raises while an object is being deleted."""
        terminal = Terminal()

        with terminal.taken():
            AtItsEnd(signal.SIGINT)
            assert terminal.next(0) == END

        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_kill_does_not_get_lost(self) -> None:
        terminal = Terminal()

        with terminal.taken():
            AtItsEnd(signal.SIGTERM)
            with pytest.raises(SystemExit, match=f"^{128 + signal.SIGTERM}$"):
                terminal.next(0)

    def test_a_stop_in_the_middle_of_a_status_is_no_status(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was written before the shell took over is written again behind it."""
        terminal, written = Terminal(), []
        monkeypatch.setattr(terminal, "is_plain", False)
        monkeypatch.setattr(terminal, "_descriptor", 0, raising=False)
        monkeypatch.setattr(terminal, "_give_back", lambda: None)
        monkeypatch.setattr("os.kill", lambda pid, sign: None)
        monkeypatch.setattr("tty.setcbreak", lambda descriptor, when: None)

        def write(text: str) -> None:
            written.append(text)
            if len(written) == 1:
                terminal._suspend(signal.SIGTSTP, None)

        monkeypatch.setattr(terminal, "_write", write)
        for _ in range(3):
            terminal.status(["a line"])

        assert [ESCAPE.sub("", text) for text in written] == ["a line"] * 2

    def test_a_stop_gives_the_terminal_back_while_it_lasts(self, place: Any, watch: Any) -> None:
        """Ctrl-Z, and then fg: the status is shown again, and the keys work."""
        place.solve(WRONG)
        screen = watch()
        screen.status("stage 1 of 2, pairs: R1")

        screen.press("\x1a")
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)

        assert screen.is_as_before

        screen.process.send_signal(signal.SIGCONT)
        screen.until("01_sums · stage 1 of 2, pairs: R1", ending=KEYS, timeout_s=REFRESH_S - 5)
        screen.press("r")

        assert screen.until("01_sums · all 2 stages, with budgets")


def run(*args: str) -> Any:
    return CliRunner().invoke(main, ["watch", *args], prog_name="llmgrind")


class TestWithoutATerminal:
    def test_it_works_without_keys(self, place: Any) -> None:
        """Into a pipe it prints the same lines without keys and escapes, until it is ended."""
        place.solve(WRONG)
        command = [sys.executable, "-m", "pytest_llmgrind.cli", "watch"]

        lines = [""]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            while not lines[-1].startswith("01_sums · stage 1 of 2, pairs: R1"):
                lines.append(process.stdout.readline().rstrip("\n"))
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()

        assert lines[-1] == "01_sums · stage 1 of 2, pairs: R1 failed · under a minute"
        assert (process.returncode, rest) == (0, "")
        assert "\x1b" not in "".join(lines)

    def test_nothing_is_begun(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a solution and an attempt nothing can be chosen; one line says what to do."""
        result = run()

        assert result.exit_code == 1
        assert result.output == (
            "Error: nothing is begun here; `llmgrind start ID` begins a challenge\n"
        )

    def test_watchfiles_is_missing(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extra is named with the command that installs it."""
        monkeypatch.setattr(watching, "missing", lambda: True)

        result = run("1")

        assert result.exit_code == 1
        assert result.output == (
            "Error: watch needs watchfiles: pip install 'pytest-llmgrind[watch]'\n"
        )

    def test_an_unknown_id(self, place: Any) -> None:
        """It is a wrong command line, as everywhere."""
        result = run("2")

        assert result.exit_code == 2
        assert result.output == "Error: unknown challenge '2'; there are: 01_sums\n"

    def test_outside_of_a_workspace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody solves in site-packages."""
        monkeypatch.chdir(tmp_path)

        result = run()

        assert result.exit_code == 2
        assert result.output == (
            f"Error: no challenges/ in {tmp_path} or above; "
            "`llmgrind init DIR` lays out a workspace\n"
        )

    def test_a_history_that_cannot_be_used(self, place: Any) -> None:
        """Without an ID it is needed, and one line says why it will not do."""
        place.write(".llmgrind", "")

        result = run()

        assert result.exit_code == 1
        assert re.fullmatch(
            r"Error: .*/history\.db: cannot be used: .*; nothing is recorded\n", result.output
        )


class TestLatest:
    def test_the_solution_that_was_changed_last(self, place: Any) -> None:
        """A package counts with its newest file."""
        place.challenge("02_other")
        os.utime(place.solve(), ns=(0, 5_000))
        os.utime(place.write("solutions/02_other/__init__.py", ""), ns=(0, 1_000))
        os.utime(place.write("solutions/02_other/part.py", ""), ns=(0, 9_000))

        assert watching.latest(Workspace(place.path), []) == "02_other"

    def test_else_the_attempt_that_was_heard_of_last(self, place: Any) -> None:
        """Runs and hints count; an attempt that is passed or closed does not."""
        place.challenge("02_other")
        hint = Hint(at=NOON + timedelta(minutes=9), stage="pairs", step=1)
        known = [
            attempt(hints=(hint,)),
            attempt(challenge="02_other", runs=(run_of(5),)),
            attempt(challenge="02_other", runs=(run_of(30),), closed=NOON),
            attempt(challenge="03_gone", runs=(run_of(40),)),
        ]

        assert watching.latest(Workspace(place.path), known) == "01_sums"
        assert watching.latest(Workspace(place.path), known[2:]) is None
