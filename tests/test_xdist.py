"""Timed tests run alone: under every ``--dist``, beside other processes, and after crashes."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import alone

HANGS_S = 200.0
"""Longer than anything here takes, on a machine with ten times the work that it can do."""

DISTS = ("load", "loadscope", "loadfile", "loadgroup", "worksteal", "each")

# Writes down when each test ran, set-up and tear-down included.
CONFTEST = """
    import time
    from pathlib import Path
    import pytest

    @pytest.fixture(autouse=True)
    def interval(request):
        start = time.monotonic()
        yield
        with Path(__file__).with_name("intervals.txt").open("a") as file:
            file.write(f"{request.node.name} {start} {time.monotonic()}\\n")
"""
ORDINARY = """
    import time
    import pytest

    @pytest.mark.parametrize("number", range(6))
    def test_ordinary(number):
        time.sleep(0.02)
"""
HIDDEN = """
    import time
    import pytest
    from pytest_llmgrind import rule

    @rule("R1")
    @pytest.mark.parametrize("number", range(3))
    def test_timed(number):
        time.sleep({timed_s})

    @rule("R1")
    @pytest.mark.parametrize("number", range(3))
    def test_counted(number):
        time.sleep(0.02)
"""
BUDGET = """
    [[budget]]
    name = "timed"
    stage = "speed"
    kind = "race"
    limit = 0.5
    what = "time"
"""


# Passes where two processes are in the same test at the same time, and writes that down.
MEETING = """
    import os
    import time
    from pathlib import Path

    def test_meeting(request):
        here, name = Path(__file__).parent, request.node.name
        met, mine = here / f"{name}.met", here / f"{name}.{os.getpid()}.present"
        end = time.monotonic() + float((here / "wait_s.txt").read_text())
        mine.touch()
        while not met.exists() and time.monotonic() < end:
            if len(list(here.glob(f"{name}.*.present"))) == 2:
                met.touch()
            time.sleep(0.01)
        mine.unlink()
"""


@dataclass(frozen=True)
class Ran:
    name: str
    start: float
    end: float

    def overlaps(self, other: Ran) -> bool:
        return self.start < other.end and other.start < self.end


@pytest.fixture
def timed_suite(suite: Any) -> Any:
    """One challenge with three timed tests and three others, and a user's file of six tests."""
    suite.write("conftest.py", CONFTEST)
    suite.write("test_ordinary.py", ORDINARY)
    suite.challenge(stages={"speed": HIDDEN.format(timed_s=0.05)}, more=BUDGET)
    suite.solve()
    return suite


def intervals(suite: Any) -> list[Ran]:
    lines = (suite.path / "intervals.txt").read_text().splitlines()
    fields = [line.split() for line in lines]
    return [Ran(name, float(start), float(end)) for name, start, end in fields]


def disturbed(ran: list[Ran]) -> list[tuple[str, str]]:
    """The timed tests during which another test ran, each with that one."""
    timed = [one for one in ran if one.name.startswith("test_timed")]
    return [(t.name, o.name) for t in timed for o in ran if o is not t and t.overlaps(o)]


@pytest.mark.parametrize("dist", DISTS)
@pytest.mark.parametrize("workers", [2, 3])
def test_nothing_else_runs_during_a_timed_test(timed_suite: Any, workers: int, dist: str) -> None:
    """With any number of workers, any --dist and any order a timed test has the machine alone."""
    plugins = ("timeout", "randomly")
    result = timed_suite.run_process(
        f"-n{workers}", f"--dist={dist}", "-q", plugins=plugins, timeout_s=HANGS_S
    )

    times = workers if dist == "each" else 1
    result.assert_outcomes(passed=12 * times)
    ran = intervals(timed_suite)
    assert len(ran) == 12 * times
    assert disturbed(ran) == []


@pytest.mark.parametrize(
    ("option", "meeting"),
    [
        pytest.param((), {"test_ordinary"}, id="lock"),
        pytest.param(("-p", "no:llmgrind-alone"), {"test_ordinary", "test_timed"}, id="no lock"),
        pytest.param(("--benchmark-disable",), {"test_ordinary", "test_timed"}, id="nothing timed"),
    ],
)
def test_only_a_timed_test_is_alone(suite: Any, option: tuple[str, ...], meeting: set[str]) -> None:
    """Ordinary tests run side by side. So would timed ones without the lock, and so they do where
    nothing is measured."""
    suite.write("meeting.py", MEETING)
    suite.write("test_ordinary.py", "from meeting import test_meeting as test_ordinary\n")
    hidden = "from meeting import test_meeting as test_timed\n"
    suite.challenge(stages={"speed": hidden}, more=BUDGET)
    suite.solve()
    suite.write("wait_s.txt", str(HANGS_S / 2) if option else "1")

    suite.run_process(
        *("-n2", "--dist=each", "-q", "-o", "pythonpath=.", *option),
        plugins=("timeout", "pytest_benchmark.plugin"),
    )

    assert {path.stem for path in suite.path.glob("*.met")} == meeting


# With loadgroup xdist 3.8 itself hangs after a crash (pytest-xdist#1323, #1327), with loadscope and
# loadfile it runs the test that crashed again until it gives up (#1371).
@pytest.mark.parametrize("dist", ["load", "worksteal"])
def test_a_crash_leaves_no_lock_behind(timed_suite: Any, dist: str) -> None:
    """A process that dies in an ordinary and one that dies in a timed test hold up nobody."""
    crash = "    if number == 1: __import__('os')._exit(7)\n"
    file = timed_suite.path / "challenges/01_sums/hidden/1_speed.py"
    file.write_text(file.read_text().replace("(number):\n", f"(number):\n{crash}", 1))
    ordinary = timed_suite.path / "test_ordinary.py"
    ordinary.write_text(ordinary.read_text() + crash)

    result = timed_suite.run_process("-n2", f"--dist={dist}", "-q", timeout_s=HANGS_S)

    failed = [line for line in result.outlines if line.startswith("FAILED ")]
    assert {line.split()[1].rpartition("::")[2] for line in failed} == {
        "test_ordinary[1]",
        "test_timed[1]",
    }
    assert disturbed(intervals(timed_suite)) == []


def test_stopping_at_the_first_failure_leaves_no_lock_behind(timed_suite: Any) -> None:
    """Under -x the run ends though other workers wait for the lock."""
    timed_suite.write("test_first.py", "def test_first(): assert 0\n")

    result = timed_suite.run_process("-n3", "-x", "-q", timeout_s=HANGS_S)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes()["failed"] == 1


def test_waiting_is_no_time_of_the_test(timed_suite: Any) -> None:
    """A timed test that waits for longer than its time-out is not timed out."""
    timed_suite.write("test_ordinary.py", "import time\ndef test_ordinary(): time.sleep(4)\n")
    timed_suite.challenge(
        stages={"speed": HIDDEN.format(timed_s=0.01)}, more=BUDGET, top="timeout = 2"
    )

    result = timed_suite.run_process("-n2", "-q")

    result.assert_outcomes(passed=7)
    assert max(one.end - one.start for one in intervals(timed_suite)) > 4


def test_other_processes_of_the_gate_are_kept_out(
    timed_suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that share LLMGRIND_LOCK keep their tests out of each other's timed tests."""
    monkeypatch.setenv("LLMGRIND_LOCK", str(timed_suite.path / "gate.lock"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "llmgrind", "challenges"]
    nothing = subprocess.DEVNULL
    processes = [
        subprocess.Popen([*command, "-k", tests], stdin=nothing, stdout=nothing)
        for tests in ("timed", "timed", "counted")
    ]

    codes = [process.wait(HANGS_S) for process in processes]

    assert codes == [0, 0, 0]
    assert len(intervals(timed_suite)) == 9
    assert disturbed(intervals(timed_suite)) == []


def test_a_lock_file_that_cannot_be_is_said_in_one_line(
    timed_suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLMGRIND_LOCK in a directory that is not there is a usage error that names the path."""
    path = timed_suite.path / "nowhere" / "lock"
    monkeypatch.setenv("LLMGRIND_LOCK", str(path))

    result = timed_suite.run("-q", "challenges")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        f"ERROR: {path}: cannot be a lock file: {os.strerror(errno.ENOENT)}"
    ]


def test_a_run_in_one_process_takes_no_lock(timed_suite: Any) -> None:
    """Without -n and without LLMGRIND_LOCK nothing is registered."""
    registered = [
        str(call.plugin)
        for call in timed_suite.pytester.inline_run("-p", "llmgrind").getcalls(
            "pytest_plugin_registered"
        )
    ]

    assert any(name.startswith("Grading(") for name in registered)
    assert not any("alone.Alone" in name for name in registered)


def test_where_there_are_no_file_locks_nothing_is_done(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, which has no fcntl, tests run without a lock."""
    monkeypatch.setattr(alone, "fcntl", None)
    monkeypatch.setenv("LLMGRIND_LOCK", str(suite.path / "gate.lock"))
    suite.challenge()
    suite.solve()

    result = suite.run("-q")

    result.assert_outcomes(passed=2)
    assert not (suite.path / "gate.lock").exists()


# -- the lock itself ------------------------------------------------------------------------------

VISITOR = """
import os, sys, time
from pathlib import Path
from pytest_llmgrind.alone import Room

path, how = sys.argv[1:]
room = Room(Path(path))
print("asks", flush=True)
with room.shared() if how == "shared" else room.alone():
    print("is in", flush=True)
    if how == "dies" and os.fork() != 0:
        os._exit(7)
    sys.stdin.read()
"""


class Visitor:
    """A process that asks for the lock, says when it has it, and holds it until told to leave."""

    def __init__(self, path: Path, how: str) -> None:
        command = [sys.executable, "-c", VISITOR, str(path), how]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"asks\n"

    def is_in(self, *, within_s: float) -> bool:
        ready, _, _ = select.select([self.process.stdout], [], [], within_s)
        return bool(ready)

    def leave(self) -> None:
        self.process.communicate(timeout=HANGS_S)


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Callable[[str], Visitor]]:
    visitors: list[Visitor] = []

    def visit(how: str) -> Visitor:
        visitors.append(Visitor(tmp_path / "lock", how))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.leave()


def test_who_waits_for_the_room_alone_is_not_overtaken(visit: Callable[[str], Visitor]) -> None:
    """While a timed test waits, ordinary tests that come later wait behind it."""
    first = visit("shared")
    assert first.is_in(within_s=HANGS_S)
    timed = visit("alone")
    assert not timed.is_in(within_s=0.2)
    later = visit("shared")
    assert not later.is_in(within_s=0.2)

    first.leave()

    assert timed.is_in(within_s=HANGS_S)
    assert not later.is_in(within_s=0.2)
    timed.leave()
    assert later.is_in(within_s=HANGS_S)


def test_many_share_the_room(visit: Callable[[str], Visitor]) -> None:
    """Ordinary tests do not wait for each other."""
    assert visit("shared").is_in(within_s=HANGS_S)

    assert visit("shared").is_in(within_s=HANGS_S)


def test_a_dead_process_is_out_though_a_child_of_it_lives(visit: Callable[[str], Visitor]) -> None:
    """A worker that dies lets go, also where a child that it forked lives on."""
    dead = visit("dies")
    assert dead.is_in(within_s=HANGS_S)
    assert dead.process.wait(HANGS_S) == 7

    assert visit("alone").is_in(within_s=HANGS_S)


# -- workers and controller agree -----------------------------------------------------------------


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_relative_path_names_the_challenge_on_workers_too(
    suite: Any, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """A challenge that the command line names is in play, from wherever pytest is called."""
    suite.challenge()
    elsewhere = suite.pytester.mkdir("elsewhere")
    monkeypatch.chdir(elsewhere)

    result = suite.run(
        workers, "-q", f"--rootdir={elsewhere}", "../challenges/01_sums/hidden/1_pairs.py"
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"todo": 1}


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_path_above_names_no_challenge_on_workers_either(suite: Any, workers: str) -> None:
    """A stub that nobody asked for is skipped."""
    suite.challenge()

    result = suite.run(workers, "-q", "challenges")

    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes() == {"skipped": 2}
