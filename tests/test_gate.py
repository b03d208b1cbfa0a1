"""The gate as a whole: a challenge that counts, files, figures, several at a time."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from gate_sums import BASELINE, BUGS, ID, MANY, PAIRS, REFERENCE, SPEC, STUB, TOML, Sums

from pytest_llmgrind import bugs, gate, tiers
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cli import main
from pytest_llmgrind.gate import figures, proof, table
from pytest_llmgrind.gate.worker import HiddenTest, Result, Run, Stopped, Worker
from pytest_llmgrind.manifest import Manifest

ROOT = f"challenges/{ID}"


@pytest.fixture
def sums(tmp_path: Path) -> Sums:
    sums = Sums(tmp_path)
    sums.write()
    return sums


class TestTheWholeGate:
    def test_a_challenge_that_counts_has_no_line(
        self, sums: Sums, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No finding: exit code 0, one line that counts, and no file is left behind."""
        monkeypatch.chdir(sums.root)
        before = sorted(sums.root.rglob("*"))

        result = CliRunner().invoke(main, ["check"])

        assert result.output == "1 challenge, 0 findings\n"
        assert result.exit_code == 0
        assert sorted(sums.root.rglob("*")) == before

    def test_text_and_runs_are_said_together(self, sums: Sums) -> None:
        """A challenge with several mistakes gets a line for each, in one run."""
        sums.change((SPEC, "Multiplication.\n", ""), (BUGS, "return a - b", "return b + a"))

        found = sums.all()

        assert found == [
            f"{SPEC}:45: the section Out of scope is empty; write it",
            f"{BUGS}:2: bug subtracts: no test of R1 catches it (test_sum_of_a_pair); "
            "sharpen one, or name another rule",
        ]

    def test_several_at_a_time_come_in_order(self, sums: Sums) -> None:
        """Challenges are proven side by side and told in the order in which they were given."""
        sums.keep_bugs("subtracts")
        roots = [sums.root / "challenges" / id for id in ("01_sums", "02_none", "03_none")]
        for root in roots[1:]:
            root.mkdir()

        proofs = list(gate.check(roots, jobs=3))

        assert [proof.id for proof in proofs] == ["01_sums", "02_none", "03_none"]

    def test_who_stops_listening_stops_the_gate(self, sums: Sums) -> None:
        """When the caller goes away (Ctrl-C), what runs ends within seconds."""
        sums.change((REFERENCE, '"""Sums."""\n', '"""Sums."""\n\nwhile True:\n    pass\n'))
        sums.keep_bugs("subtracts")
        other = sums.root / "challenges/02_none"
        other.mkdir()
        proofs = gate.check([other, sums.root / ROOT], jobs=2)
        next(proofs)
        start = time.monotonic()

        proofs.close()

        assert time.monotonic() - start < 10


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "what"),
        [
            (SPEC, "the task and its rules"),
            (STUB, "what the learner starts from"),
            (REFERENCE, "the model solution"),
            (BUGS, "the planted bugs"),
        ],
    )
    def test_a_file_is_missing(self, sums: Sums, path: str, what: str) -> None:
        """A challenge without one of its files gets that line alone."""
        (sums.root / path).unlink()

        assert sums.all() == [f"{path}: the file is missing; write {what}"]

    def test_a_file_is_no_text(self, sums: Sums) -> None:
        """A file in another encoding is named with the byte that shows it."""
        (sums.root / PAIRS).write_bytes(b"# caf\xe9\n")

        assert sums.all() == [
            f"{PAIRS}: not UTF-8: 'utf-8' codec can't decode byte 0xe9 in position 5: "
            "invalid continuation byte; save it as UTF-8"
        ]

    def test_the_manifest_is_missing(self, sums: Sums) -> None:
        """A directory without challenge.toml is a challenge that lacks it."""
        (sums.root / TOML).unlink()

        assert sums.all() == [
            f"{TOML}: cannot be read: No such file or directory; see docs/writing-a-challenge.md"
        ]

    def test_what_nothing_reads_is_unexpected(self, sums: Sums) -> None:
        """Leftovers are named, and so is a hidden file that is no stage."""
        (sums.root / ROOT / "notes.md").write_text("")
        (sums.root / ROOT / "data").mkdir()
        (sums.root / ROOT / "data/big.bin").write_text("")
        (sums.root / ROOT / "hidden/3_more.py").write_text("")
        (sums.root / ROOT / "hidden/__pycache__").mkdir()

        assert sums.text() == [
            f"{ROOT}/data: unexpected directory; remove it",
            f"{ROOT}/hidden/3_more.py: unexpected file; list it as a [[stage]] or remove it",
            f"{ROOT}/notes.md: unexpected file; remove it",
        ]

    def test_a_helper_that_a_hidden_file_imports_is_expected(self, sums: Sums) -> None:
        """Modules that stages share stand beside them."""
        hidden = sums.root / ROOT / "hidden"
        (hidden / "common.py").write_text("from .deeper import ONE\n")
        (hidden / "deeper.py").write_text("ONE = 1\n")
        sums.change((MANY, "from pytest_llmgrind", "from . import common\nfrom pytest_llmgrind"))

        assert sums.text() == []


class TestWhatCannotRunHere:
    def test_tests_without_hardware_are_a_note(
        self, sums: Sums, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stage for hardware that is missing is noted with its bugs, and fails nothing."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        sums.change((TOML, 'title = "Add two arrays"', 'title = "Add"\ntiers = ["multi_gpu"]'))

        [proof] = gate.check([sums.root / ROOT], jobs=1)

        assert proof.counts
        tests, bugs = (finding.shown(sums.root) for finding in proof.findings)
        assert tests.startswith(f"{PAIRS}: note: 3 tests not run here: multi_gpu")
        assert tests.endswith("; run the gate on a machine that has it")
        assert bugs == (
            f"{BUGS}: note: 3 bugs not run here: subtracts, adds_in_place, broadcasts; "
            "run the gate on a machine that has it"
        )

    def test_a_stage_without_its_kit_is_still_read(
        self, sums: Sums, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rules and budgets of a stage that cannot be imported here are proven from its text."""
        hide = "import importlib.util as u\nf = u.find_spec\n"
        hide += "u.find_spec = lambda n, *a: None if n == 'triton' else f(n, *a)\n"
        (sums.root / "sitecustomize.py").write_text(hide)
        monkeypatch.setenv("PYTHONPATH", str(sums.root))
        sums.change(
            (TOML, 'title = "Add two arrays"', 'title = "Add"\nkit = "triton"'),
            (PAIRS, "import numpy as np", "import numpy as np\nimport triton"),
            (PAIRS, '@rule("R2")\n', ""),
        )

        found = [line for line in sums.all() if "note" not in line]

        assert found == [
            f"{PAIRS}:16: test_arguments_stay_as_they_are proves no rule, wanted one rule; "
            'decorate it with one @rule("R…")',
            f'{SPEC}:24: R2 has no test; write one with @rule("R2"), or remove the rule',
        ]

    def test_a_kit_that_is_not_installed_is_a_note(
        self, sums: Sums, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without torch, the text of a torch challenge is proven and the rest is noted."""
        monkeypatch.setattr(tiers, "missing_kit", lambda kit: f"needs {kit}: pip install it")
        sums.change((TOML, "timeout = 20", 'timeout = 20\nkit = "torch"'))

        [proof] = gate.check([sums.root / ROOT], jobs=1)

        assert proof.counts
        assert [finding.shown(sums.root) for finding in proof.findings] == [
            f"{TOML}: note: not run here: needs torch: pip install it; "
            "run the gate on a machine that has it"
        ]


def run_of(manifest: Manifest, **budget: Any) -> Run:
    """The reference's run of the one test that measures, with these figures."""
    test = HiddenTest(
        id="x",
        name="test_each_number_is_read_once",
        path=manifest.root / "hidden/2_many.py",
        line=11,
        stage="many",
        rules=("R5",),
        fixtures=("count",),
        tiers=("cpu",),
    )
    cpu_s = budget.pop("cpu_s", 0.1)
    return Run({"x": test}, [Result(test, "passed", "", "", budget, cpu_s)])


class TestFigures:
    @pytest.mark.parametrize(
        ("kind", "limit", "data", "want"),
        [
            ("count", 16, {"figure": 8, "baseline": 24}, []),
            ("peak", 100, {"figure": 51, "low": 51, "baseline": 150}, ["reference"]),
            ("race", 0.6, {"figure": 0.31, "low": 0.29, "high": 0.33, "baseline": 1.0}, []),
            ("race", 0.6, {"figure": 0.4, "low": 0.31, "baseline": 1.0}, ["reference"]),
            ("race", 0.7, {"figure": 0.1, "low": 0.1, "high": 0.1, "baseline": 1.0}, ["baseline"]),
            ("scaling", 1.5, {"figure": 1.12, "low": 1.1, "baseline": 1.9}, []),
            ("scaling", 1.5, {"figure": 1.2, "low": 1.15, "baseline": 1.8},
             ["reference", "baseline"]),
        ],
    )  # fmt: skip
    def test_there_is_room_on_both_sides(
        self, sums: Sums, kind: str, limit: float, data: dict[str, float], want: list[str]
    ) -> None:
        """Half and one and a half times the limit; a quarter below and above for exponents."""
        sums.change((TOML, "limit = 16", f"limit = {limit}"), (TOML, '"count"', f'"{kind}"'))

        found = list(figures.check(sums.manifest, run_of(sums.manifest, **data)))

        assert [word for f in found for word in ("reference", "baseline") if word in f.what] == want

    def test_what_was_not_measured_is_said(self, sums: Sums) -> None:
        """A budget without a figure is no budget."""
        found = list(figures.check(sums.manifest, run_of(sums.manifest, figure=None)))

        assert [f.shown(sums.root) for f in found] == [
            f"{MANY}:11: budget each_number_is_read_once was not measured; call count once"
        ]

    def test_what_is_undecided_is_said(self, sums: Sums) -> None:
        """A figure whose interval still holds the limit proves nothing on either side."""
        data = {"figure": 16.0, "low": 7.0, "high": 25.0, "baseline": 30.0, "verdict": "undecided"}

        found = list(figures.check(sums.manifest, run_of(sums.manifest, **data)))

        assert [f.shown(sums.root) for f in found] == [
            f"{TOML}:22: budget each_number_is_read_once is undecided: 7 to 25; "
            "run the gate where less else runs"
        ]

    @pytest.mark.parametrize(
        ("fresh", "said"),
        [([1.9, 1.8, 1.9, 1.9], []), ([1.9, 1.8, 1.85, 1.9], ["1.85"]), ([], ["1.8"])],
        ids=["the middle one has room", "the middle one has none", "nothing more was measured"],
    )
    def test_a_time_without_room_is_measured_again(
        self, sums: Sums, fresh: list[float], said: list[str]
    ) -> None:
        """Of five looks the middle one counts, whatever came first."""
        sums.change((TOML, "limit = 16", "limit = 1.5"), (TOML, '"count"', '"scaling"'))
        first, *others = (
            run_of(sums.manifest, figure=1.0, low=1.0, high=1.0, baseline=baseline)
            for baseline in (1.8, *fresh)
        )
        runs, asked = iter(others), []

        def again(rule: str) -> list[Result]:
            asked.append(rule)
            return next(runs, Run()).results

        found = list(figures.check(sums.manifest, first, again))

        assert [f.what.partition("baseline has ")[2].split(",")[0] for f in found] == said
        assert asked == ["R5"] * 4

    def test_what_is_counted_is_not_counted_again(self, sums: Sums) -> None:
        """A second look would see the same."""

        def again(rule: str) -> list[Result]:
            raise AssertionError(rule)

        run = run_of(sums.manifest, figure=8, baseline=23)

        assert len(list(figures.check(sums.manifest, run, again))) == 1

    def test_a_bug_at_the_limit_is_not_caught(self, sums: Sums) -> None:
        """Where no measurement decides, the bug is named with its interval."""
        data = {"figure": 16.0, "low": 15.0, "high": 17.0, "limit": 16.0, "verdict": "undecided"}
        bug = bugs.load(sums.manifest)[-1]

        found = list(proof.judge_bug(sums.manifest, bug, run_of(sums.manifest, **data)))

        assert [f.shown(sums.root) for f in found] == [
            f"{BUGS}:38: bug reads_three_times: test_each_number_is_read_once is undecided "
            "(15 to 17, the limit is 16); "
            "plant one that is further over, or run the gate where less else runs"
        ]

    def test_what_is_undecided_is_measured_again(self, sums: Sums) -> None:
        """A busy machine gets more chances; the last measurement counts."""
        runs = [
            run_of(sums.manifest, figure=9.0, verdict=verdict)
            for verdict in ("undecided", "undecided", "met")
        ]
        asked = []

        class Machine:
            def grade(self, solutions: Path, *, rule: str, measured: bool) -> Run:
                asked.append((rule, measured))
                return runs[len(asked)]

        settled = proof._settled(cast("Worker", Machine()), sums.root, runs[0])

        assert [result.undecided for result in settled.results] == [False]
        assert asked == [("R5", True), ("R5", True)]

    def test_a_budget_without_a_baseline_shows_no_gap(self, sums: Sums) -> None:
        """Where no baseline was measured, nothing shows that the naive way misses."""
        found = list(figures.check(sums.manifest, run_of(sums.manifest, figure=8, baseline=None)))

        assert [f.shown(sums.root) for f in found] == [
            f"{TOML}:22: budget each_number_is_read_once: no baseline was measured; "
            "give hidden/baseline.py the function that the test calls"
        ]

    def test_a_stage_takes_seconds_of_one_core(self, sums: Sums) -> None:
        """More than five seconds of processor time are too many, unless the tests are slow."""
        run = run_of(sums.manifest, figure=8, baseline=24, cpu_s=5.2)

        found = list(figures.check(sums.manifest, run))

        assert [f.shown(sums.root) for f in found] == [
            f"{MANY}: stage many takes 5.2 s of one core, at most 5 are fine; "
            "shorten test_each_number_is_read_once (5.2 s), or mark it slow"
        ]

    @pytest.mark.parametrize(("second_s", "said"), [(4.9, 0), (5.1, 1)])
    def test_a_slow_stage_gets_a_second_look(self, sums: Sums, second_s: float, said: int) -> None:
        """A core may be slow for a while: the lesser time of two counts."""
        first, second = (
            run_of(sums.manifest, figure=8, baseline=24, cpu_s=cpu_s) for cpu_s in (5.2, second_s)
        )

        found = list(figures.check(sums.manifest, first, lambda rule: second.results))

        assert len(found) == said


class TestTable:
    def test_every_kind_has_its_unit(self, sums: Sums) -> None:
        """Whole limits have thousands separators, an x stands at its number."""
        budget = '\n[[budget]]\nname = "b{n}"\nstage = "many"\nkind = "{kind}"\n'
        budget += 'limit = {limit}\nwhat = "w{n}"\nunit = "{unit}"\n'
        text = budget.format(n=2, kind="race", limit=0.6, unit="x")
        text += budget.format(n=3, kind="peak", limit=9437184, unit="bytes")
        text += budget.format(n=4, kind="scaling", limit=1.5, unit="")
        sums.change((TOML, 'unit = "reads"\n', f'unit = "reads"\n{text}'))

        assert table.table(sums.manifest).splitlines()[2:] == [
            "| numbers read to add 8 | many | count | 16 reads |",
            "| w2 | many | race | 0.6x |",
            "| w3 | many | peak | 9,437,184 bytes |",
            "| w4 | many | scaling | 1.5 |",
        ]

    def test_fix_leaves_the_rest_of_the_page(self, sums: Sums) -> None:
        """What fix writes is what check wants, and it writes between the comments alone."""
        text = (sums.root / SPEC).read_text()
        sums.change((SPEC, "| numbers read to add 8 | many | count | 16 reads |\n", ""))

        assert table.fix(sums.manifest)

        assert (sums.root / SPEC).read_text() == text
        assert not table.fix(sums.manifest)


class TestWorker:
    def test_a_stopped_gate_waits_for_nobody(self, sums: Sums) -> None:
        """A worker that waits for an answer gives up when the gate is stopped, and kills."""
        sums.change((REFERENCE, '"""Sums."""\n', '"""Sums."""\n\nwhile True:\n    pass\n'))
        stop = threading.Event()
        with Worker(sums.manifest, sums.root / "lock", stop) as worker:
            threading.Timer(0.5, stop.set).start()

            with pytest.raises(Stopped):
                worker.grade(sums.manifest.reference)

            process = worker._process
            assert process is not None
        assert process.returncode is not None

    def test_the_environment_of_a_run_is_its_own(
        self, sums: Sums, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Options and summaries that belong to the caller's pytest do not reach the runs."""
        monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(sums.root / "summary.md"))
        with Worker(sums.manifest, sums.root / "lock", threading.Event()) as worker:
            run = worker.grade(sums.manifest.reference, measured=True)

        assert {result.outcome for result in run.results} == {"passed"}
        assert not os.path.exists(sums.root / "summary.md")

    def test_a_run_says_what_was_measured(self, sums: Sums) -> None:
        """A budget's figures come back with the result, for all three contenders."""
        with Worker(sums.manifest, sums.root / "lock", threading.Event()) as worker:
            run = worker.grade(sums.manifest.reference, measured=True)

        [budget] = [result.budget for result in run.results if result.budget]
        assert (budget["figure"], budget["reference"], budget["baseline"]) == (8, 8, 24)
        assert (sums.root / BASELINE).is_file()
        assert manifests.load(sums.root / ROOT).budgets[0].limit == 16
