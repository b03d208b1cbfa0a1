"""Budgets in the tables, files and comparisons of pytest-benchmark."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_benchmark
from pytest_benchmark.stats import Metadata

from pytest_llmgrind import bench_bridge
from pytest_llmgrind.bench_bridge import measuring, ratios_before
from pytest_llmgrind.tiers import Hardware

BENCHMARK = ("timeout", "pytest_benchmark.plugin")
STAGE = "challenges/01_sums/hidden/1_speed.py"
RACED, SCALED, COUNTED = (f"{STAGE}::test_{n}" for n in ("adding", "growing[2]", "counting"))

# pytest-benchmark asks the processor's name of a process of its own, which takes a second.
CONFTEST = """
    import pytest

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_generate_machine_info(config):
        return {"node": "here", "machine": "x86_64", "python_implementation": "CPython",
                "python_implementation_version": "3.11.7"}
"""
# What the budget fixtures leave behind, without the measuring.
HIDDEN = """
    from pathlib import Path
    import pytest
    from pytest_llmgrind import rule
    from pytest_llmgrind.budget import MEASURED

    FACTOR = float(Path("factor.txt").read_text())

    def about(kind, figure, **more):
        return {"kind": kind, "figure": figure, "low": figure, "high": figure, "limit": 0.5,
                "unit": "x", "verdict": "met", **more}

    @rule("R1")
    def test_plain(): pass

    @rule("R1")
    def test_adding(race, request):
        laps = [["candidate", 10, [0.001 * FACTOR, 0.002 * FACTOR]], ["baseline", 5, [0.004]]]
        request.node.stash[MEASURED] = about("race", 0.25 * FACTOR, laps=laps)

    @rule("R1")
    @pytest.mark.parametrize("n", [2])
    def test_growing(scaling, request, n):
        laps = [["candidate[64]", 1, [0.01]], ["candidate[128]", 1, [0.02]]]
        request.node.stash[MEASURED] = about("scaling", 1.0, laps=laps)

    @rule("R2")
    def test_counting(count, request):
        request.node.stash[MEASURED] = about("count", 7 * FACTOR, unit="bytes", laps=[])

    @rule("R2")
    def test_not_measured(count, request):
        request.node.stash[MEASURED] = about("count", None, verdict="not measured")
"""
MORE = "".join(
    f'[[budget]]\nname = "{name}"\nstage = "speed"\nkind = "{kind}"\nlimit = 0.5\nwhat = "w"\n'
    for name, kind in (("adding", "race"), ("growing", "scaling"), ("counting", "count"))
)


class Earlier:
    """Keeps what a run knew of the run that it was compared with."""

    figures: dict[str, float]

    def pytest_terminal_summary(self, config: pytest.Config) -> None:
        self.figures = ratios_before(config)


@pytest.fixture
def measured(suite: Any) -> Any:
    """A challenge whose tests leave figures behind; ``factor.txt`` scales those of two."""
    suite.write("conftest.py", CONFTEST)
    suite.write("factor.txt", "1")
    suite.challenge(stages={"speed": HIDDEN}, more=MORE)
    suite.solve()
    return suite


def run(suite: Any, *args: str) -> pytest.RunResult:
    return suite.run(*args, plugins=BENCHMARK)  # type: ignore[no-any-return]


def saved(suite: Any, pattern: str) -> dict[str, Any]:
    [file] = suite.path.glob(pattern)
    return json.loads(file.read_text("utf-8"))  # type: ignore[no-any-return]


# -- the two contact points -----------------------------------------------------------------------


def test_the_session_has_a_list_of_benchmarks(suite: Any) -> None:
    """Contact point 1 of 2: what was measured is appended to it."""
    config = suite.pytester.parseconfigure("-p", "pytest_benchmark.plugin")

    session = getattr(config, "_benchmarksession", None)

    version = pytest_benchmark.__version__
    assert isinstance(getattr(session, "benchmarks", None), list), (
        f"pytest-benchmark {version} broke it: config._benchmarksession.benchmarks is no list"
    )


def test_metadata_takes_what_we_give() -> None:
    """Contact point 2 of 2: it is built of our values and gives them back."""
    bench = bench_bridge.benchmark(
        name="n[a]",
        fullname="f::n[a]",
        group="g",
        param="a",
        params={"contender": "a"},
        extra_info={"figure": 0.5},
        loops=10,
        seconds=[0.25, 0.75],
    )

    version = pytest_benchmark.__version__
    assert isinstance(bench, Metadata)
    broken = f"pytest-benchmark {version} broke it: stats.Metadata"
    about = bench.as_dict(include_data=True)
    assert about.pop("stats")["data"] == [0.25, 0.75], broken
    assert {key: about[key] for key in ("name", "fullname", "group", "param")} == {
        "name": "n[a]",
        "fullname": "f::n[a]",
        "group": "g",
        "param": "a",
    }, broken
    assert (about["params"], about["extra_info"]) == ({"contender": "a"}, {"figure": 0.5}), broken
    assert (bench.stats.min, bench.stats.rounds, bench.iterations) == (0.25, 2, 10), broken


def test_a_version_that_broke_them_costs_the_table_alone(
    measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts stand, and a line at the end names the version."""
    monkeypatch.delattr("pytest_benchmark.stats.Metadata")

    result = run(measured)

    result.assert_outcomes(passed=5)
    where = f"the table and files of pytest-benchmark {pytest_benchmark.__version__}"
    why = "module 'pytest_benchmark.stats' has no attribute 'Metadata'"
    assert f"llmgrind: budgets are not in {where}: {why}" in result.outlines


# -- tables and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_every_contender_is_in_the_table_and_in_the_file(measured: Any, workers: str) -> None:
    """With and without workers: a row and an entry for each, with the figures beside them."""
    options = (workers, "--benchmark-json=out.json", "--benchmark-columns=min,rounds")

    result = run(measured, *options)

    result.assert_outcomes(passed=5)
    result.stdout.re_match_lines_random(
        [
            r"-+ benchmark '01_sums adding': 2 tests -+",
            r"test_adding\[candidate\] +1\.0000 \(1\.0\) +2$",
            r"test_adding\[baseline\] +4\.0000 \(4\.00\) +1$",
            r"-+ benchmark '01_sums growing\[2\]': 2 tests -+",
            r"test_growing\[2-candidate-64\] +10\.0000 \(1\.0\) +1$",
            r"test_growing\[2-candidate-128\] +20\.0000 \(2\.00\) +1$",
        ]
    )
    file = saved(measured, "out.json")
    entries = {bench["fullname"]: bench for bench in file["benchmarks"]}
    growing = f"{STAGE}::test_growing[2-candidate-"
    assert set(entries) == {
        f"{RACED}[candidate]",
        f"{RACED}[baseline]",
        f"{growing}64]",
        f"{growing}128]",
    }
    candidate = entries[f"{RACED}[candidate]"]
    assert (candidate["stats"]["data"], candidate["stats"]["iterations"]) == ([0.001, 0.002], 10)
    assert candidate["extra_info"] == {
        "kind": "race",
        "figure": 0.25,
        "low": 0.25,
        "high": 0.25,
        "limit": 0.5,
        "unit": "x",
        "verdict": "met",
    }
    assert entries[f"{growing}64]"]["params"] == {"contender": "candidate", "size": "64"}


def test_budgets_without_laps_are_in_the_file_too(measured: Any) -> None:
    """Under the key "llmgrind" stands every figure; what was not measured has none."""
    run(measured, "--benchmark-json=out.json")

    figures = saved(measured, "out.json")["llmgrind"]
    assert {nodeid: entry["figure"] for nodeid, entry in figures.items()} == {
        RACED: 0.25,
        SCALED: 1.0,
        COUNTED: 7.0,
    }
    assert figures[COUNTED] == {
        "challenge": "01_sums",
        "stage": "speed",
        "rule": "R2",
        "solution": "solutions/01_sums.py",
        "kind": "count",
        "figure": 7.0,
        "low": 7.0,
        "high": 7.0,
        "limit": 0.5,
        "unit": "bytes",
        "verdict": "met",
    }


def test_a_run_of_counts_alone_is_saved(measured: Any) -> None:
    """pytest-benchmark saves nothing of a run without a benchmark; a count is enough."""
    result = run(measured, "-k", "counting", "--benchmark-json=out.json", "--benchmark-save=first")

    result.assert_outcomes(passed=1, deselected=4)
    assert "benchmark '" not in result.stdout.str()
    for file in ("out.json", ".benchmarks/*/0001_first.json"):
        assert saved(measured, file)["benchmarks"] == []
        assert list(saved(measured, file)["llmgrind"]) == [COUNTED]


def test_nothing_is_saved_where_nothing_was_measured(measured: Any) -> None:
    """A run of ordinary tests leaves no file behind, as pytest-benchmark says."""
    with pytest.warns(match="Not saving anything"):
        run(measured, "-k", "plain or not_measured", "--benchmark-save=first")

    assert list(measured.path.glob(".benchmarks/*/*")) == []


def test_the_last_of_several_results_of_a_test_counts(measured: Any) -> None:
    """Under --dist each every worker measures; each contender has one row."""
    options = ("-n2", "--dist=each", "--benchmark-json=out.json", "-k", "adding")

    run(measured, *options).assert_outcomes(passed=2)

    names = [bench["name"] for bench in saved(measured, "out.json")["benchmarks"]]
    assert sorted(names) == ["test_adding[baseline]", "test_adding[candidate]"]


def test_ordinary_benchmarks_stand_beside_ours(measured: Any) -> None:
    """A user's own benchmark tests are in the same file."""
    measured.write("test_own.py", "def test_own(benchmark): benchmark(len, ())\n")

    run(measured, "--benchmark-json=out.json", "--benchmark-max-time=0.01").assert_outcomes(
        passed=6
    )

    names = {bench["name"] for bench in saved(measured, "out.json")["benchmarks"]}
    assert {"test_own", "test_adding[candidate]"} <= names


@pytest.mark.parametrize("autoload", [False, True])
def test_budgets_need_no_pytest_benchmark(
    measured: Any, monkeypatch: pytest.MonkeyPatch, autoload: bool
) -> None:
    """Where it is not installed, and under -p no:benchmark, budgets are judged all the same."""
    if autoload:
        monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")

    result = measured.run_process("-W", "error", plugins=("no:benchmark",))

    result.assert_outcomes(passed=5)
    assert ("plugins: benchmark" in result.stdout.str(), result.errlines) == (False, [])


# -- measured indeed -----------------------------------------------------------------------------

MEASURING = """
    from pytest_llmgrind import check, rule

    def inputs(rng):
        return (rng.integers(0, 9, 200).tolist(),)

    def verify(result, xs):
        check.equal(result, sum(xs), what="total")

    @rule("R2")
    def test_adding(race):
        race(lambda impl, xs: impl.total(xs), inputs=inputs, verify=verify)

    @rule("R2")
    def test_counting(count):
        count(lambda impl, xs: impl.total([len(xs)]), inputs=inputs)
"""
SLOW = """
    def total(xs):
        result = 0
        for x in xs * 4:
            result += x
        return result // 4
"""
LIMITS = "".join(
    f'[[budget]]\nname = "{name}"\nstage = "speed"\nkind = "{kind}"\nlimit = {limit}\nwhat = "w"\n'
    for name, kind, limit in (("adding", "race", 0.5), ("counting", "count", 200))
)


@pytest.fixture
def measuring_suite(suite: Any) -> Any:
    """A challenge that races a sum against a loop, and counts."""
    suite.write("conftest.py", CONFTEST)
    suite.challenge(stages={"speed": MEASURING}, more=LIMITS, baseline=SLOW)
    suite.solve()
    return suite


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_race_is_in_the_file_with_all_contenders(measuring_suite: Any, workers: str) -> None:
    """Laps and figures come from the budget fixtures, with and without workers."""
    options = (workers, "--benchmark-json=out.json")

    run(measuring_suite, *options).assert_outcomes(passed=2)

    file = saved(measuring_suite, "out.json")
    medians = {bench["name"]: bench["stats"]["median"] for bench in file["benchmarks"]}
    names = [f"test_adding[{who}]" for who in ("candidate", "reference", "baseline")]
    assert set(medians) == set(names)
    ratio = file["llmgrind"][RACED]["figure"]
    assert ratio == pytest.approx(medians[names[0]] / medians[names[2]], rel=0.25)
    assert (file["llmgrind"][RACED]["verdict"], ratio < 0.5) == ("met", True)
    assert file["llmgrind"][COUNTED]["figure"] == 200


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_disabled_budget_runs_and_is_not_measured(measuring_suite: Any, workers: str) -> None:
    """--benchmark-disable runs each contender once; nothing is posted."""
    options = (workers, "--benchmark-disable", "--benchmark-json=out.json", "--benchmark-save=x")

    result = run(measuring_suite, *options)

    result.assert_outcomes(passed=2)
    assert "not measured" in result.stdout.str()
    assert list(measuring_suite.path.glob(".benchmarks/*/*")) == []


# -- comparing with a saved run -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save", "workers"), [("--benchmark-save=first", "-n0"), ("--benchmark-autosave", "-n2")]
)
def test_a_saved_run_is_compared_with(measured: Any, save: str, workers: str) -> None:
    """Its times stand in the table, and its figures are known to the board."""
    run(measured, save, workers).assert_outcomes(passed=5)
    measured.write("factor.txt", "2")
    earlier = Earlier()

    result = run(measured, "--benchmark-compare", workers)

    result.assert_outcomes(passed=5)
    result.stdout.re_match_lines_random(
        [
            r"test_adding\[candidate\] \(0001_\w+\) +1\.0000 ",
            r"test_adding\[candidate\] \(NOW\) +2\.",
        ]
    )
    assert result.stderr.str().count("Comparing against benchmarks from: ") >= 1
    measured.pytester.inline_run(
        *("-p", "llmgrind", "-p", "pytest_benchmark.plugin", "--benchmark-compare=0001"),
        plugins=[earlier],
    )
    assert earlier.figures == {RACED: 0.25, SCALED: 1.0, COUNTED: 7.0}


def test_a_slower_run_fails_where_that_was_asked_for(measured: Any) -> None:
    """--benchmark-compare-fail judges the times of every contender."""
    run(measured, "--benchmark-save=first")
    judged = ("--benchmark-compare", "--benchmark-compare-fail=min:50%")

    same = run(measured, *judged)
    measured.write("factor.txt", "2")
    slower = measured.run_process(*judged, plugins=BENCHMARK)

    assert same.ret == pytest.ExitCode.OK
    assert slower.ret != pytest.ExitCode.OK
    said = "test_adding[[]candidate[]] (0001_first) - Field 'min' has failed"
    slower.stderr.fnmatch_lines([f"*{said} PercentageRegressionCheck*"])


@pytest.mark.parametrize("compare", ["--benchmark-compare", "--benchmark-compare=0042"])
def test_no_saved_run_is_no_error(measured: Any, compare: str) -> None:
    """There is nothing to compare with on the first day, also under -W error."""
    result = measured.run_process(compare, "-W", "error", plugins=BENCHMARK)

    result.assert_outcomes(passed=5)
    assert "Traceback" not in result.stderr.str()
    result.stderr.fnmatch_lines(["*Can't compare. No benchmark files in *"])


def test_a_saved_run_of_others_has_no_figures(measured: Any) -> None:
    """A run that was saved without a challenge is compared with like any other."""
    measured.write("test_own.py", "def test_own(benchmark): benchmark(len, ())\n")
    quick = "--benchmark-max-time=0.01"
    run(measured, "test_own.py", quick, "--benchmark-save=own", "-p", "no:llmgrind")
    assert len(saved(measured, ".benchmarks/*/0001_own.json")["benchmarks"]) == 1
    earlier = Earlier()

    measured.pytester.inline_run(
        *("-p", "llmgrind", "-p", "pytest_benchmark.plugin", "--benchmark-compare", quick),
        plugins=[earlier],
    )

    assert earlier.figures == {}


@pytest.mark.parametrize(("later", "differs"), [("NVIDIA H200", False), ("NVIDIA L4", True)])
def test_runs_on_two_cards_do_not_compare_in_silence(
    measured: Any,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    later: str,
    differs: bool,
) -> None:
    """machine_info names the GPUs, when a run is saved and when it is compared with."""
    for gpu, option in (("NVIDIA H200", "--benchmark-save=first"), (later, "--benchmark-compare")):
        found = Hardware(cores=2, gpus=(gpu,))
        monkeypatch.setattr(bench_bridge, "hardware", lambda found=found: found)
        run(measured, option).assert_outcomes(passed=5)

    machine = saved(measured, ".benchmarks/*/0001_first.json")["machine_info"]
    assert machine["gpus"] == ["NVIDIA H200"]
    said = [str(warning.message) for warning in recwarn]
    assert any("machine_info is different" in text for text in said) == differs


def test_a_run_saved_before_gpus_were_named_compares_as_before(measured: Any) -> None:
    """Where a saved run names no GPUs, they are no difference, whatever others name."""
    info: dict[str, Any] = {"node": "here"}
    config = measured.pytester.parseconfig("-p", "llmgrind")

    named = []
    for machine in ({"node": "here", "gpus": []}, {"node": "here"}):
        bench_bridge.remember(config, info, {"machine_info": machine, "benchmarks": []})
        named.append("gpus" in info)

    assert named == [True, False]


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (("--benchmark-only",), {"passed": 5, "skipped": 2}),
        (("--benchmark-skip",), {"passed": 2, "skipped": 5}),
        (("--benchmark-skip", "--benchmark-only"), {"passed": 5, "skipped": 2}),
        (("--benchmark-skip", "-n2"), {"passed": 2, "skipped": 5}),
    ],
)
def test_a_test_with_a_budget_is_a_benchmark(
    measured: Any, options: tuple[str, ...], outcome: dict[str, int]
) -> None:
    """--benchmark-only runs those and a user's own, --benchmark-skip skips exactly these."""
    measured.write(
        "test_own.py",
        "def test_benchmark(benchmark): benchmark(len, ())\ndef test_other(): pass\n",
    )

    result = run(measured, *options, "--benchmark-max-time=0.01")

    assert result.parseoutcomes() == outcome


def test_the_options_leave_no_fixture_behind(measured: Any) -> None:
    """A test with a budget is called a benchmark; it does not ask for that fixture."""
    items, _ = measured.pytester.inline_genitems(
        "-p", "llmgrind", "-p", "pytest_benchmark.plugin", "--benchmark-only"
    )

    assert len(items) == 5
    assert all("benchmark" not in item.fixturenames for item in items)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), True),
        (("-n2",), True),  # where pytest-benchmark disables itself
        (("--benchmark-disable",), False),
        (("--benchmark-disable", "-n2"), False),
        (("--benchmark-disable", "--benchmark-enable"), True),
        (("--benchmark-skip",), True),
    ],
)
def test_budgets_are_measured_unless_disabled_by_the_user(
    suite: Any, options: tuple[str, ...], expected: bool
) -> None:
    """xdist alone disables nothing of ours."""
    config = suite.pytester.parseconfig("-p", "pytest_benchmark.plugin", "-p", "xdist", *options)

    assert measuring(config) is expected


def test_budgets_are_measured_without_pytest_benchmark(suite: Any) -> None:
    """Its options are not there, and nobody switched anything off."""
    assert measuring(suite.pytester.parseconfig("-p", "no:benchmark")) is True


OLD_WARNING = """
    import warnings
    import pytest

    @pytest.hookimpl(trylast=True)
    def pytest_configure():
        warnings.warn("Benchmarks are automatically disabled because xdist plugin is active."
                      "Benchmarks cannot be performed reliably in a parallelized environment.")
"""


def test_old_versions_do_not_say_that_we_are_disabled(measured: Any) -> None:
    """pytest-benchmark up to 5.2.3 warns of xdist at the start, wherever it is installed."""
    measured.write("conftest.py", OLD_WARNING)

    result = measured.run_process("-n2", "-W", "error")

    result.assert_outcomes(passed=5)
    assert "Benchmarks are" not in result.stdout.str() + result.stderr.str()


def test_elsewhere_old_versions_say_what_they_say(suite: Any) -> None:
    """A project without challenges hears the warning."""
    suite.write("conftest.py", OLD_WARNING)
    suite.write("test_own.py", "def test_own(): pass\n")

    result = suite.run_process("test_own.py", "-W", "default")

    result.stderr.fnmatch_lines(["*Benchmarks are automatically disabled *"])
