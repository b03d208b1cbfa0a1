"""Jobs are graded in processes of their own, the same on this machine and on a Ray cluster."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ID, REFERENCE, Suite

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cohort import job as jobs
from pytest_llmgrind.cohort import on_ray
from pytest_llmgrind.cohort.executor import Executor, ExecutorError
from pytest_llmgrind.cohort.job import Roll, Settings
from pytest_llmgrind.cohort.local import Local, cores, shares_of
from pytest_llmgrind.cohort.on_ray import OnRay
from pytest_llmgrind.cohort.run import GRACE_S, Outcome
from pytest_llmgrind.graded.limits import below

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="graded mode needs POSIX")
WRONG = "def add(a, b):\n    return a - b\n\n\ndef total(xs):\n    return sum(xs)\n"
HANGS = "def add(a, b):\n    return a + b\n\n\ndef total(xs):\n    while True:\n        pass\n"
CRASHES = "import os\n\ndef add(a, b):\n    os._exit(0)\n\n\ndef total(xs):\n    return sum(xs)\n"
NO_RAY = "Ray is not installed: pip install 'pytest-llmgrind[ray]', or tox -e ray"
STORE_BYTES = 80 << 20
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Without pytester, which drops the modules that Ray imports, so that they crash when they
    are imported again."""
    return Suite(SimpleNamespace(path=tmp_path), monkeypatch)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core on this machine."""
    if not HAS_RAY:
        pytest.skip(NO_RAY)
    os.environ.update(on_ray.QUIET)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def ray(cluster: Any) -> Iterator[OnRay]:
    with closing(OnRay(2, address=cluster.address)) as made:
        yield made


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    found: Executor = Local(2) if request.param == "local" else request.getfixturevalue("ray")
    return found


def stage(body: str, rule: str = "R1", name: str = "it") -> str:
    """A hidden file with one test that does anything."""
    return f"""
        import os, signal, time
        from pathlib import Path
        from pytest_llmgrind import check, rule

        @rule("{rule}")
        def test_{name}(solution):
            {body}
    """


def handed_in(suite: Suite, **texts: str) -> None:
    for name, text in texts.items():
        suite.write(f"submissions/{name}/{ID}.py", text)


def roll(suite: Suite) -> Roll:
    roots = sorted((suite.path / "challenges").iterdir())
    return jobs.call(suite.path / "submissions", list(map(manifests.load, roots)), named=False)


def graded(executor: Executor, found: Roll, **settings: Any) -> dict[str, Outcome]:
    """Every outcome by ``entrant challenge``; one that comes twice is a mistake."""
    exams = {id: exam.files for id, exam in found.exams.items()}
    came = list(executor.run(found.jobs, exams, Settings(**settings)))
    named = {f"{job.entrant} {job.challenge}": outcome for job, outcome in came}
    assert len(named) == len(came) == len(found.jobs)
    return named


def verdicts(outcome: Outcome) -> list[str]:
    assert outcome.result is not None, outcome.reason
    return [test["verdict"] for test in outcome.result["challenges"][0]["tests"]]


def pids(log: Path, word: str) -> set[int]:
    """Of the graders that wrote such a line."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return {int(line.split()[1]) for line in lines if line.split()[:1] == [word]}


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize(
    ("at_once", "shares"),
    [
        (1, [[0, 2, 3]]),
        (2, [[0, 3], [2]]),
        (3, [[0], [2], [3]]),
        (4, [[0, 2, 3]] * 4),
    ],
)
def test_jobs_share_no_core_where_there_are_enough(at_once: int, shares: list[list[int]]) -> None:
    """Two races on one core would leave another one idle."""
    assert shares_of([0, 2, 3], at_once) == shares


@pytest.mark.skipif(len(cores()) < 2, reason="needs two cores that a process can be held to")
def test_a_job_keeps_to_its_cores(suite: Suite, tmp_path: Path) -> None:
    """Of two jobs each has half of them."""
    log = tmp_path / "cores"
    body = f"Path({str(log)!r}).open('a').write(f'{{len(os.sched_getaffinity(0))}} ')"
    suite.challenge(stages={"one": stage(body)})
    handed_in(suite, ada=REFERENCE, bob=REFERENCE)

    graded(Local(2), roll(suite))

    halves = {(len(cores()) + 1) // 2, len(cores()) // 2}
    assert set(map(int, log.read_text("utf-8").split())) <= halves


class TestEveryExecutor:
    def test_every_job_has_its_own_verdict(self, suite: Suite, executor: Executor) -> None:
        """Entrants and challenges do not touch each other; a crash costs the one that crashed."""
        suite.challenge(imports=("os",))
        suite.challenge("02_more", imports=("os",))
        handed_in(suite, ada=REFERENCE, bob=WRONG, eve=CRASHES)
        suite.write("submissions/ada/02_more/__init__.py", REFERENCE)

        found = graded(executor, roll(suite))

        assert {name: verdicts(outcome) for name, outcome in found.items()} == {
            "ada 01_sums": ["passed", "passed"],
            "ada 02_more": ["passed", "passed"],
            "bob 01_sums": ["failed", "passed"],
            "eve 01_sums": ["crashed", "passed"],
        }
        assert all(outcome.final and not outcome.reason for outcome in found.values())

    def test_time_that_is_up_keeps_what_was_reached(self, suite: Suite, executor: Executor) -> None:
        """The test that hangs counts as not run."""
        suite.challenge()
        handed_in(suite, eve=HANGS)

        cut = graded(executor, roll(suite), limit_s=8)["eve 01_sums"]

        assert verdicts(cut) == ["passed", "not run"]
        assert (cut.reason, cut.final, cut.cut_s) == ("stopped after 8 s", True, 8)
        assert cut.seconds < 8 + GRACE_S

    def test_a_grader_that_dies_costs_one_result(self, suite: Suite, executor: Executor) -> None:
        """It may be tried again, so it is not final; the others are there."""
        suite.challenge()
        suite.challenge("02_dies", stages={"one": stage("os.kill(os.getpid(), signal.SIGKILL)")})
        suite.challenge("03_ends", stages={"one": stage("os._exit(7)")})
        handed_in(suite, ada=REFERENCE)
        suite.write("submissions/ada/02_dies.py", REFERENCE)
        suite.write("submissions/ada/03_ends.py", REFERENCE)

        found = graded(executor, roll(suite))

        assert found["ada 02_dies"].reason == "its grader died of SIGKILL"
        assert found["ada 03_ends"].reason == "pytest ended with exit code 7"
        assert [found[f"ada {id}"].final for id in ("02_dies", "03_ends")] == [False, False]
        assert verdicts(found["ada 01_sums"]) == ["passed", "passed"]

    def test_what_is_refused_is_not_run(self, suite: Suite, executor: Executor) -> None:
        """A link is a verdict of its own, with its reason."""
        suite.challenge()
        handed_in(suite, ada=REFERENCE)
        (suite.path / "submissions/mal").mkdir()
        (suite.path / f"submissions/mal/{ID}.py").symlink_to("/etc/passwd")

        found = graded(executor, roll(suite))["mal 01_sums"]

        assert found == Outcome(reason="01_sums.py is a link", final=True)

    def test_the_grader_gets_the_secret_seed_and_no_other(
        self, suite: Suite, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the environment it has what it needs to run."""
        log = suite.path / "environment.txt"
        suite.challenge(stages={"one": stage(f"Path({str(log)!r}).write_text(repr(os.environ))")})
        handed_in(suite, ada=REFERENCE)
        monkeypatch.setenv("DEPLOY_TOKEN", "not for graders")

        found = graded(executor, roll(suite), seed="s3cret")["ada 01_sums"]

        assert found.result is not None
        assert found.result["seed_sha256"] == hashlib.sha256(b"s3cret").hexdigest()
        assert "PATH" in log.read_text("utf-8")
        assert "not for graders" not in log.read_text("utf-8")

    def test_closing_it_early_ends_what_runs(self, suite: Suite, executor: Executor) -> None:
        """No process is left, and the job that waits never begins."""
        log = suite.path / "pids.txt"
        body = f"open({str(log)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(60)"
        suite.challenge(stages={"one": stage(body)})
        handed_in(suite, **dict.fromkeys(("ada", "bob", "eve", "zoe"), REFERENCE))
        (suite.path / "submissions/ada/01_sums.py").unlink()
        (suite.path / "submissions/ada/01_sums.py").symlink_to("nowhere")
        found = roll(suite)
        exams = {id: exam.files for id, exam in found.exams.items()}

        with closing(executor.run(found.jobs, exams, Settings())) as outcomes:
            next(outcomes)  # the link is refused at once
            assert until(lambda: log.exists() and len(log.read_text().split()) == 2)

        pids = [int(pid) for pid in log.read_text().split()]
        assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert len(log.read_text().split()) == 2


class TestRay:
    def test_a_node_that_is_lost_loses_nothing(
        self, suite: Suite, cluster: Any, ray: OnRay
    ) -> None:
        """What ran there runs again elsewhere; what had ended is not graded twice."""
        log = suite.path / "log.txt"
        begins, ends = (
            f"open({str(log)!r}, 'a').write(f'{word} {{os.getpid()}}\\n')"
            for word in ("begins", "ends")
        )
        body = f"{begins}; time.sleep(1.5); {ends}"
        suite.challenge(stages={"one": stage(body)})
        handed_in(suite, **dict.fromkeys(map("entrant{}".format, range(6)), REFERENCE))
        doomed = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        raylet = doomed.all_processes["raylet"][0].process.pid
        lost: set[int] = set()

        def lose() -> None:
            """Once a job runs there."""
            until(lambda: bool(lost.update(set(below(raylet)) & pids(log, "begins")) or lost))
            cluster.remove_node(doomed)

        killer = threading.Thread(target=lose)
        killer.start()
        found = graded(ray, roll(suite))
        killer.join()

        assert [verdicts(outcome) for outcome in found.values()] == [["passed"]] * 6
        assert len(lost) == 1
        assert len(pids(log, "ends") - lost) == len(pids(log, "ends")) == 6

    def test_a_gpu_tier_goes_where_a_gpu_is(self, suite: Suite, cluster: Any, ray: OnRay) -> None:
        """The task takes the GPU; other challenges take none."""
        log = suite.path / "gpus.txt"
        seen = f"Path({str(log)!r}).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
        stages = {"one": stage(seen), "two": stage("pass", "R2", "fast")}
        suite.challenge(stages=stages, tiers={"two": ["gpu"]})
        suite.challenge("02_two", stages={"one": stage("pass")})
        handed_in(suite, ada=REFERENCE)
        suite.write("submissions/ada/02_two.py", REFERENCE)
        found = roll(suite)
        node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES)

        graded(ray, found)
        cluster.remove_node(node)

        assert {job.challenge: job.gpus for job in found.jobs} == {"01_sums": 1, "02_two": 0}
        assert log.read_text() == "0"
        assert ray.remarks == []

    def test_a_gpu_that_no_node_has_is_not_waited_for(self, suite: Suite, ray: OnRay) -> None:
        """It is graded without, and said."""
        suite.challenge(tiers={"lists": ["multi_gpu"]})
        handed_in(suite, ada=REFERENCE)

        found = graded(ray, roll(suite))

        assert verdicts(found["ada 01_sums"]) == ["passed", "skipped"]
        assert ray.remarks == ["01_sums can use 2 GPUs, the best node has 0"]

    def test_without_the_extra_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No traceback."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

        with pytest.raises(ExecutorError, match=r"^--executor ray needs Ray: pip install"):
            OnRay(1)

    @pytest.mark.skipif(not HAS_RAY, reason=NO_RAY)
    @pytest.mark.parametrize(
        ("address", "text"),
        [
            ("127.0.0.1:1", "nothing answers at 127.0.0.1:1: "),
            ("ray://head:10001", "ray://head:10001 is for Ray Client; "),
        ],
    )
    def test_a_cluster_that_is_not_there_is_named(self, address: str, text: str) -> None:
        """At once: Ray itself would wait for two minutes."""
        with pytest.raises(ExecutorError) as told:
            OnRay(1, address=address)

        assert str(told.value).startswith(f"Ray: {text}")
