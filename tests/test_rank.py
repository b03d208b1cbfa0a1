"""Real ranks: what they return, how they fail, and that nothing of them is left."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rank_programs as programs

from pytest_llmgrind.cluster import per_rank
from pytest_llmgrind.rank import RankDied, RankError, RankHung, launch, wire

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
SOON_S = 5.0


def lines(error: BaseException) -> list[str]:
    """The source lines that a traceback leads through."""
    return [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)]


def alive(directory: Path) -> list[int]:
    """The processes that left a pid file and still run."""
    return [pid for pid in pids(directory) if _runs(pid)]


def pids(directory: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in directory.glob("pid-*")]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def until(condition: Callable[[], object], *, within_s: float = SOON_S) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# -- what comes back ----------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_find_each_other_without_a_port(world_size):
    """The default rendezvous is a file, and every rank gets the sum."""
    xs = [np.arange(3.0) + rank for rank in range(world_size)]

    results = launch(programs.all_reduce, world_size, per_rank(xs))

    assert [result["who"] for result in results] == [(r, world_size) for r in range(world_size)]
    assert all(np.array_equal(result["sum"], sum(xs)) for result in results)


@needs_torch
def test_ranks_can_be_new_interpreters():
    """Without fork the results are the same."""
    results = launch(programs.all_reduce, 2, np.ones(3), fork=False)

    assert [result["sum"].tolist() for result in results] == [[2, 2, 2]] * 2


@needs_torch
def test_a_forked_rank_may_compute():
    """Large products run on one thread, and do not wait for threads that the fork has lost."""
    [(total, threads)] = launch(programs.multiply, 1, 600)

    assert (total, threads) == (600.0**3, 1)


@needs_torch
def test_a_port_works_too(capsys):
    """tcp:// with a free port connects the ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    results = launch(programs.all_reduce, 2, np.ones(1), init_method=f"tcp://127.0.0.1:{port}")

    assert results[1]["sum"].tolist() == [2]


@needs_torch
def test_what_ranks_print_is_printed_here(capsys):
    """In the order of the ranks, after all have ended."""
    launch(programs.say, 3)

    assert capsys.readouterr().out == "rank 0 was here\nrank 1 was here\nrank 2 was here\n"


@needs_torch
def test_of_a_rank_that_prints_much_the_ends_are_shown(capsys):
    """The first and the last lines of each rank, and how much was left out between them."""
    launch(programs.say_much, 2, 5000)

    out = capsys.readouterr().out
    assert len(out) < 200_000
    assert out.count("the first line\n") == out.count("the last line\n") == 2
    assert len(re.findall(r"^… 4,[0-9]{3},[0-9]{3} bytes of rank [01] left out …$", out, re.M)) == 2


@needs_torch
def test_what_a_rank_writes_is_limited():
    """A rank that fills the disk gets an OSError at the line that did."""
    with pytest.raises(OSError, match="File too large") as caught:
        launch(programs.write_for_ever, 1)

    assert lines(caught.value)[-1] == "output.truncate(2**40)"


@needs_torch
def test_ranks_import_the_solution_anew(tmp_path):
    """The module that is tested is found by its file."""
    (tmp_path / "mine.py").write_text("def answer():\n    return 42\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import mine

        results = launch(programs.answer, 2, solution=mine)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mine", None)

    assert results == [42, 42]


# -- how ranks fail -----------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("rank", [0, 2])
def test_an_exception_comes_with_that_rank_s_traceback(rank):
    """The first cause is raised, not the broken connections of the others."""
    with pytest.raises(ValueError, match="heads: 3 ranks do not divide 4 heads") as caught:
        launch(programs.raise_on, 3, rank)

    assert lines(caught.value)[-1] == 'raise ValueError("heads: 3 ranks do not divide 4 heads")'
    assert caught.value.__notes__ == [f"on rank {rank} of 3"]


@needs_torch
def test_an_exception_of_an_unknown_type_keeps_its_name():
    """What is not builtin becomes a RankError."""
    with pytest.raises(RankError, match="Odd: nobody knows me") as caught:
        launch(programs.raise_foreign, 2)

    assert caught.value.rank in (0, 1)
    assert lines(caught.value)[-1] == 'raise Odd("nobody knows me")'


@needs_torch
def test_an_exception_that_has_no_text_is_still_told():
    """Its type and its place are, where its own __str__ raises."""
    with pytest.raises(RankError, match=r"^Mute: <its text raised RuntimeError>") as caught:
        launch(programs.raise_without_text, 1)

    assert lines(caught.value)[-1] == "raise Mute"


@needs_torch
@pytest.mark.parametrize("code", [0, 3])
def test_a_rank_that_exits_is_named(code):
    """Any exit without a result is a death, and the others do not wait for their time-out."""
    start = time.monotonic()

    with pytest.raises(RankDied, match=f"rank 1 of 3 ended with exit code {code} before it ret"):
        launch(programs.exit_on, 3, 1, code, timeout_s=60)

    assert time.monotonic() - start < 30


@needs_torch
def test_a_rank_that_crashes_shows_where():
    """A segmentation fault leaves the Python stack of its rank."""
    with pytest.raises(RankDied, match="rank 2 of 3 was ended by SIGSEGV before it ret") as caught:
        launch(programs.crash_on, 3, 2)

    assert "ctypes.string_at(0)" in lines(caught.value)


@needs_torch
def test_a_rank_that_hangs_is_told_from_those_that_wait_for_it():
    """The time-out blames the rank that runs, and shows where it was."""
    with pytest.raises(RankHung) as caught:
        launch(programs.hang_on, 3, 1, timeout_s=1.5)

    said = re.sub(r":\d+", ":N", str(caught.value))
    assert said == (
        "no answer from ranks 0, 1, 2 within 1.5 s\n"
        "  rank 0 waits for others at rank_programs.py:N in hang_on\n"
        "  rank 1 runs at rank_programs.py:N in hang_on\n"
        "  rank 2 waits for others at rank_programs.py:N in hang_on"
    )
    assert lines(caught.value)[-1] in ("while process.rank == rank:", "time.sleep(0.01)")


@needs_torch
@pytest.mark.parametrize("how", ["recv", "irecv"])
def test_ranks_that_wait_for_each_other_are_named(how):
    """Where all wait, the first one's stack is shown."""
    with pytest.raises(RankHung) as caught:
        launch(programs.wait_for_each_other, 3, how, timeout_s=1.5)

    said = re.sub(r":\d+", ":N", str(caught.value))
    assert said == (
        "no answer from ranks 0, 1 within 1.5 s\n"
        "  rank 0 waits for others at rank_programs.py:N in wait_for_each_other\n"
        "  rank 1 waits for others at rank_programs.py:N in wait_for_each_other\n"
        "  rank 2 returned"
    )
    assert any("torch.zeros(3), 1 - process.rank" in line for line in lines(caught.value))


@needs_torch
def test_a_rank_that_returns_early_is_named():
    """The others lose their connection; a note says to whom."""
    with pytest.raises(RuntimeError, match="by peer") as caught:
        launch(programs.return_early, 2)

    assert caught.value.__notes__ == ["on rank 0 of 2", "rank 1 had returned by then"]


@needs_torch
def test_a_result_that_cannot_travel_says_so():
    """The type and what is possible are named."""
    with pytest.raises(TypeError, match="a value of type set cannot go to another process"):
        launch(programs.give_a_set, 1)


@needs_torch
def test_a_failed_launch_does_not_spoil_the_next():
    """Ranks that failed leave a server that works."""
    with pytest.raises(RankDied):
        launch(programs.exit_on, 2, 0, 1)

    assert launch(programs.echo, 2, "again") == [["again"], ["again"]]


# -- nothing is left ----------------------------------------------------------------------------


@needs_torch
def test_processes_of_a_rank_end_with_it(tmp_path):
    """What a rank started in the background is ended when the launch is over."""
    launch(programs.leave_a_process, 2, str(tmp_path))

    assert len(pids(tmp_path)) == 4
    assert until(lambda: not alive(tmp_path))


@needs_torch
@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
def test_processes_in_a_session_of_their_own_end_too(tmp_path):
    """A rank that starts a daemon leaves none."""
    launch(programs.leave_a_session, 2, str(tmp_path))

    assert len(pids(tmp_path)) == 2
    assert until(lambda: not alive(tmp_path))


@needs_torch
def test_a_rank_that_leaves_its_group_is_ended_in_time(tmp_path):
    """A rank with a session of its own that hangs is named, and gone."""
    with pytest.raises(RankHung, match=r"rank 1 runs at rank_programs\.py:"):
        launch(programs.leave_the_group, 2, str(tmp_path), timeout_s=1.5)

    assert len(pids(tmp_path)) == 1
    assert until(lambda: not alive(tmp_path))


@needs_torch
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_its_launch(tmp_path, how):
    """After Ctrl-C, SIGTERM or SIGKILL of the process that launched, ranks and server are gone."""
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import rank_programs
        from pytest_llmgrind.rank import launch
        launch(rank_programs.leave_and_hang, 2, {str(tmp_path)!r}, timeout_s=60)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, start_new_session=True
    )
    assert until(lambda: len(list(tmp_path.glob("ready-*"))) == 2, within_s=60)
    assert len(alive(tmp_path)) == 4

    parent.send_signal(how)
    _, errors = parent.communicate(timeout=30)

    assert until(lambda: not alive(tmp_path))
    if how == signal.SIGINT:
        assert b"KeyboardInterrupt" in errors


# -- what is refused before anything starts -----------------------------------------------------


@needs_torch
def test_a_port_in_use_is_named_at_once():
    """The text names the port, and the way that needs none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ValueError, match=r".") as caught:
            launch(programs.echo, 2, init_method=f"tcp://127.0.0.1:{port}")

    assert str(caught.value) == (
        f"init_method: port {port} of 127.0.0.1 cannot be used: Address already in use; give "
        "another one, or leave init_method out: a file needs no port"
    )


@needs_torch
@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("world_size: wanted 1 or more, got 0", lambda: launch(programs.echo, 0)),
        (
            "init_method: wanted file://PATH or tcp://HOST:PORT, got env://",
            lambda: launch(programs.echo, 1, init_method="env://"),
        ),
        (
            "function: wanted a function at the top of a file, "
            "got test_bad_arguments_are_named.<locals>.inner",
            lambda: test_bad_arguments_are_named.inner(),
        ),
        (
            "args: per_rank wants 2 values, got 3",
            lambda: launch(programs.echo, 2, per_rank([1, 2, 3])),
        ),
    ],
)
def test_bad_arguments_are_named(text, call):
    """ValueError with the argument, before any process starts."""

    def inner(process):
        return None

    test_bad_arguments_are_named.inner = lambda: launch(inner, 1)

    with pytest.raises(ValueError, match=r".") as caught:
        call()

    assert str(caught.value) == text


def test_without_torch_the_text_says_what_to_install(monkeypatch):
    """No process is started to find out."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ModuleNotFoundError) as caught:
        launch(programs.echo, 2)

    assert str(caught.value) == "launch needs torch: pip install pytest-llmgrind[torch]"


# -- the command line ---------------------------------------------------------------------------


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_llmgrind.rank", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_torch
def test_the_command_line_runs_all_ranks():
    """FILE and FUNCTION run on every rank, and each result is printed."""
    done = shell(str(Path(programs.__file__)), "echo", "--world-size", "3")

    assert done.stdout == "rank 0: []\nrank 1: []\nrank 2: []\n"
    assert done.returncode == 0


@needs_torch
def test_the_command_line_runs_one_rank(tmp_path):
    """With --rank this process is that rank."""
    done = shell(
        str(Path(programs.__file__)), "echo", "--world-size", "4", "--rank", "2",
        "--init-method", f"file://{tmp_path}/meet",
    )  # fmt: skip

    assert done.stdout == "rank 2: []\n"


@needs_torch
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py", "main"], "there is no file nowhere.py"),
        ([__file__, "main", "--rank", "0"], "--rank needs --init-method: how the ranks find"),
        ([programs.__file__, "lose"], "rank_programs.py has no function lose"),
    ],
)
def test_the_command_line_says_what_is_missing(arguments, said):
    """Exit code 2 and one line, never a traceback."""
    done = shell(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# -- values between processes -------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -0.5, float("inf"), "text\n", [], (), {}, [1, (2, [3])],
        {"a": {"b": (None,)}}, 10**30,
    ],
)  # fmt: skip
def test_plain_values_come_back_equal(value):
    """Numbers, texts and containers keep type and content."""
    back = wire.loads(wire.dumps(value))

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "c16", "i1", "u8", "?", "U3"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 3)])
def test_arrays_come_back_equal(dtype, shape):
    """Arrays keep dtype, shape and bytes, also between other values, and can be written to."""
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)

    first, number, second = wire.loads(wire.dumps([array.T, np.float32(2.5), array]))

    assert np.array_equal(first, array.T)
    assert (number, number.dtype) == (2.5, np.float32)
    assert (second.dtype, second.shape) == (array.dtype, array.shape)
    assert np.array_equal(second, array)
    second[...] = 0


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({1}, "a value of type set"),
        (object(), "a value of type object"),
        ([lambda: 0], "a value of type function"),
        ({1: 2}, "a value of type dict"),
        (np.array([None]), "an array of dtype object"),
    ],
)
def test_other_values_are_refused(value, name):
    """What would need pickle does not travel."""
    with pytest.raises(TypeError, match=f"{name} cannot go to another process"):
        wire.dumps(value)


@pytest.mark.parametrize("data", [b"", b"123", wire.dumps([1])[:-1], wire.dumps([1]) + b"x"])
def test_damaged_bytes_are_refused(data):
    """Bytes that are cut or too many raise ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        wire.loads(data)


def test_nothing_of_a_graded_solution_runs_without_walls(monkeypatch):
    """The ranks of a solution that lives in a worker are left to who carries it."""
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "torch")
    carrier = SimpleNamespace(launch=lambda *args, **how: asked.append((args, how)) or ["done"])
    solution = SimpleNamespace(_llmgrind_carrier=carrier)

    assert launch(programs.multiply, 2, per_rank([3, 4]), solution=solution) == ["done"]

    how = {"backend": "gloo", "init_method": "", "timeout_s": 10.0}
    assert asked == [((programs.multiply, [[3], [4]]), how)]
