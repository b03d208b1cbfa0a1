"""Budgets of hidden tests: figures, verdicts, records, texts, and whose mistake it is."""

from __future__ import annotations

import re
import textwrap
import tracemalloc
from typing import Any

import pytest

from pytest_llmgrind.budget import OverBudget, _places

HEAD = """
    import numpy as np
    from pytest_llmgrind import check, rule

    def inputs(rng, size=200):
        return (rng.integers(0, 9, size).tolist(),)

    def verify(result, xs):
        check.equal(result, sum(xs), what="total", given="a timed call")

    def run(impl, xs):
        return impl.total(xs)
"""
SLOW = """
def total(xs):
    result = 0
    for x in xs * 4:
        result += x
    return result // 4
"""
STUB = '''
def total(xs):
    """The sum of a list of numbers."""
    raise NotImplementedError("01_sums, stage 1")
'''
REFERENCE = '''
def total(xs):
    """The sum of a list of numbers."""
    return sum(xs)
'''
WITHOUT_LAPS = ("name", "kind", "limit", "unit", "what", "verdict")


class Bench:
    """A challenge with one budget and its test."""

    def __init__(self, suite: Any) -> None:
        self.suite = suite

    def lay_out(
        self,
        body: str,
        *,
        kind: str = "race",
        limit: float = 0.5,
        unit: str = "",
        solution: str = REFERENCE,
        reference: str = REFERENCE,
        baseline: str = SLOW,
        budget: str = "adding",
    ) -> None:
        table = f'[[budget]]\nname = "{budget}"\nstage = "speed"\nkind = "{kind}"\n'
        table += f'limit = {limit}\nwhat = "time of total"\nunit = "{unit}"\n'
        test = textwrap.dedent(HEAD) + '\n\n@rule("R2")\n' + textwrap.dedent(body).lstrip("\n")
        self.suite.challenge(
            stages={"speed": test}, more=table, stub=STUB, reference=reference, baseline=baseline
        )
        self.suite.solve(solution)

    def measure(self, body: str, *args: str, **layout: Any) -> dict[str, Any]:
        """Grade; what the report of the one test holds."""
        self.lay_out(body, **layout)
        (report,) = self.suite.reports("challenges", *args)
        return report

    def text(self, body: str, **layout: Any) -> str:
        """Grade; the text of the one failure."""
        self.lay_out(body, **layout)
        lines = self.suite.run("challenges").outlines
        start = next(i for i, line in enumerate(lines) if line.startswith("R2  "))
        end = next(i for i, line in enumerate(lines) if line.startswith("  read   "))
        return "\n".join(lines[start : end + 1])


@pytest.fixture
def bench(suite: Any) -> Bench:
    return Bench(suite)


RACE = """
    def test_adding(race):
        race(run, inputs=inputs, verify=verify)
"""
SCALING = """
    def test_adding(scaling):
        scaling(run, sizes=(200, 50, 100), inputs=inputs, verify=verify)
"""
COUNTS = """
    def test_adding(scaling):
        scaling(
            lambda impl, n: impl.total([1] * n), sizes=(4, 8, 16),
            inputs=lambda rng, n: (n,), of="count",
        )
"""
PEAK = """
    def test_adding(peak):
        peak(run, inputs=inputs, verify=verify)
"""
COUNT = """
    def test_adding(count):
        count(lambda impl, n: impl.total([1] * n), inputs=lambda rng: (64,))
"""
QUADRATIC = """
def total(xs):
    result = 0
    for _ in xs:
        for x in xs:
            result += x
    return result // len(xs) if xs else 0
"""
GREEDY = """
def total(xs):
    copies = [bytearray(1_000_000) for _ in range(3)]
    return sum(xs)
"""


# -- figures and records --------------------------------------------------------------------


def test_a_race_leaves_a_record_of_builtins(bench: Bench) -> None:
    """Name, limit, figures of all three, verdict and laps; nothing that xdist cannot carry."""
    report = bench.measure(RACE, unit="x")

    record = report["budget"]
    assert {key: record[key] for key in WITHOUT_LAPS} == {
        "name": "adding",
        "kind": "race",
        "limit": 0.5,
        "unit": "x",
        "what": "time of total",
        "verdict": "met",
    }
    assert 0 < record["low"] <= record["figure"] <= record["high"] < 0.5
    assert 0 < record["reference"] < 0.5
    assert record["baseline"] == 1.0
    assert [lap[0] for lap in record["laps"]] == ["candidate", "reference", "baseline"]
    assert _types(record) == {dict, list, str, float, int}
    assert report["outcome"] == "passed"


def test_the_exponent_of_a_loop_is_below_that_of_two(bench: Bench) -> None:
    """Sizes may come in any order; the baseline's exponent stands beside yours. How near they come
    to 1 and 2 is shown where no other process runs: tests/test_race.py, with a clock of its own."""
    record = bench.measure(
        SCALING, kind="scaling", limit=1.5, solution=SLOW, baseline=QUADRATIC
    )["budget"]  # fmt: skip

    assert record["low"] <= record["figure"] <= record["high"] < 1.5
    assert record["figure"] < record["baseline"]
    assert record["verdict"] == "met"
    sizes = ["50", "100", "200"]
    whos = ["candidate", "reference", "baseline"]
    assert {lap[0] for lap in record["laps"]} == {f"{who}[{n}]" for who in whos for n in sizes}


def test_the_exponent_of_a_count_is_exact(bench: Bench) -> None:
    """A count of n^2 has the exponent 2, without an interval and without laps."""
    record = bench.measure(
        COUNTS, kind="scaling", limit=1.5,
        baseline="def total(xs):\n    return len(xs) ** 2\n",
    )["budget"]  # fmt: skip

    figures = [record[key] for key in ("figure", "low", "high", "reference", "baseline")]
    assert figures == pytest.approx([1, 1, 1, 1, 2])
    assert (record["verdict"], record["laps"]) == ("met", [])


def test_a_peak_is_what_one_call_allocates(bench: Bench) -> None:
    """Three megabytes that live at once are three megabytes; arguments do not count."""
    record = bench.measure(PEAK, kind="peak", limit=5e6, solution=GREEDY)["budget"]

    assert 3_000_000 <= record["figure"] < 3_010_000
    assert record["low"] == record["figure"] == record["high"]
    assert record["reference"] < 10_000
    assert record["verdict"] == "met"


def test_a_count_is_what_run_returns(bench: Bench) -> None:
    """At the limit is within the limit."""
    record = bench.measure(COUNT, kind="count", limit=64)["budget"]

    assert (record["figure"], record["low"], record["high"]) == (64, 64, 64)
    assert (record["reference"], record["baseline"]) == (64, 64)
    assert record["verdict"] == "met"


def test_an_integer_of_numpy_is_a_count(bench: Bench) -> None:
    """It becomes a builtin on the record."""
    solution = "import numpy as np\ndef total(xs):\n    return np.int64(sum(xs))\n"

    record = bench.measure(COUNT, kind="count", limit=64, solution=solution)["budget"]

    assert record["figure"] == 64
    assert float in _types(record)
    assert _types(record) <= {dict, list, str, float, int}


def test_a_budget_needs_no_baseline_but_for_a_race(bench: Bench) -> None:
    """Without hidden/baseline.py its figure is None."""
    record = bench.measure(COUNT, kind="count", limit=64, baseline="")["budget"]

    assert (record["figure"], record["baseline"]) == (64, None)


def test_inputs_are_the_same_in_every_run(bench: Bench) -> None:
    """What is counted depends on the test's id alone."""
    body = """
        def test_adding(count):
            count(lambda impl, n: n, inputs=lambda rng: (int(rng.integers(1, 10**9)),))
    """
    bench.lay_out(body, kind="count", limit=1e9)

    figures = [bench.suite.reports("challenges")[0]["budget"]["figure"] for _ in range(2)]

    assert figures[0] == figures[1] > 0


# -- the text of a broken budget ------------------------------------------------------------


def test_a_lost_race_says_by_how_much(bench: Bench) -> None:
    """The figure with its interval, and the limit, under the rule; the status has its own word."""
    text = bench.text(RACE, unit="x", solution=SLOW)

    assert re.sub(r"\d+\.\d\dx", "N", text) == (
        "R2  total returns the sum of a list.\n"
        "  saw    time of total: N (99 % interval N to N), the limit is N\n"
        "  read   challenges/01_sums/spec.md#rules"
    )
    assert "the limit is 0.50x" in text


def test_a_steep_curve_says_so(bench: Bench) -> None:
    """An exponent has no unit."""
    text = bench.text(SCALING, kind="scaling", limit=1.5, solution=QUADRATIC)

    pattern = (
        r"  saw    time of total: \d\.\d\d \(99 % interval \d+\.\d\d to \d+\.\d\d\), "
        r"the limit is 1\.50"
    )
    assert re.fullmatch(pattern, text.split("\n")[1])


def test_too_many_calls_are_counted(bench: Bench) -> None:
    """A count is exact, and so is its text."""
    text = bench.text(COUNT, kind="count", limit=16, unit="calls")

    assert text.split("\n")[1] == "  saw    time of total: 64 calls, the limit is 16 calls"


def test_an_exponent_of_counts_has_no_interval(bench: Bench) -> None:
    """It is exact."""
    text = bench.text(COUNTS, kind="scaling", limit=0.75)

    assert text.split("\n")[1] == "  saw    time of total: 1.00, the limit is 0.75"


def test_too_much_memory_is_said_in_bytes(bench: Bench) -> None:
    """With separators."""
    text = bench.text(PEAK, kind="peak", limit=1_200_000, unit="bytes", solution=GREEDY)

    pattern = r"  saw    time of total: 3,00\d,\d\d\d bytes, the limit is 1,200,000 bytes"
    assert re.fullmatch(pattern, text.split("\n")[1])


def test_over_budget_has_its_own_word(bench: Bench) -> None:
    """The report's outcome is a failure, its word OVER BUDGET, and the record is there."""
    bench.lay_out(COUNT, kind="count", limit=16)

    result = bench.suite.run("challenges", "-v")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*::test_adding OVER BUDGET*"])
    (report,) = bench.suite.reports("challenges")
    assert (report["outcome"], report["budget"]["verdict"]) == ("over budget", "over")


@pytest.mark.parametrize(
    ("low", "limit", "places"), [(0.91, 0.5, 2), (0.5004, 0.5, 4), (0.012, 0.01, 3), (0.5, 0.5, 6)]
)
def test_a_figure_shows_enough_decimals_to_differ_from_its_limit(
    low: float, limit: float, places: int
) -> None:
    """0.5004 is not 0.50 at a limit of 0.50."""
    assert _places(low, limit) == places


def test_what_was_seen_is_an_attribute() -> None:
    """Whoever renders the failure finds the sentence there."""
    assert OverBudget("too slow").saw == "too slow"


# -- wrong and unfinished solutions ---------------------------------------------------------

FORGETFUL = """
kept = []
def total(xs):
    kept.append(sum(xs))
    return kept[0]
"""
COUNTED_CHEAT = """
calls = []
def total(xs):
    calls.append(1)
    return sum(xs) if len(calls) == 1 else -1
"""


@pytest.mark.parametrize("solution", [FORGETFUL, COUNTED_CHEAT], ids=["cached", "by call number"])
@pytest.mark.parametrize(("kind", "body"), [("race", RACE), ("scaling", SCALING), ("peak", PEAK)])
def test_an_answer_that_is_not_computed_is_wrong_not_fast(
    bench: Bench, kind: str, body: str, solution: str
) -> None:
    """Results of calls that were measured are verified on fresh inputs."""
    report = bench.measure(body, kind=kind, limit=1e9, solution=solution)

    assert report["outcome"] == "failed"
    assert report["saw"].startswith("a timed call: total came back as ")
    assert report["budget"] is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [("race", RACE), ("scaling", SCALING), ("peak", PEAK), ("count", COUNT), ("scaling", COUNTS)],
)
def test_a_solution_that_raises_is_its_authors(bench: Bench, kind: str, body: str) -> None:
    """The learner sees the exception and the line."""
    solution = "def total(xs):\n    return xs[1_000]\n"

    text = bench.text(body, kind=kind, solution=solution)

    assert "  saw    raised IndexError: list index out of range" in text


def test_a_stub_is_still_to_do(bench: Bench) -> None:
    """NotImplementedError is no broken budget."""
    report = bench.measure(RACE, solution=STUB)

    assert (report["outcome"], report["budget"]) == ("todo", None)


@pytest.mark.parametrize(
    ("returned", "seen"),
    [("64.0", "a float (64.0)"), ("True", "a bool (True)"), ("None", "None")],
)
def test_a_count_that_is_no_int_is_named(bench: Bench, returned: str, seen: str) -> None:
    """The reference returns one, so it is the learner's mistake."""
    solution = f"def total(xs):\n    return {returned}\n"

    report = bench.measure(COUNT, kind="count", solution=solution)

    assert report["saw"] == f"the count is {seen}, wanted an int"


# -- the author's mistakes ------------------------------------------------------------------


def _broken(text: str) -> str:
    return f"nothing of yours: this challenge has a mistake ({text})"


RAISES = 'def total(xs):\n    raise ValueError("no")\n'
WRONG = "def total(xs):\n    return -1\n"


@pytest.mark.parametrize(
    ("kind", "body"), [("race", RACE), ("scaling", SCALING), ("peak", PEAK), ("count", COUNT)]
)
@pytest.mark.parametrize("who", ["reference", "baseline"])
def test_a_reference_or_baseline_that_raises_is_not_the_learners(
    bench: Bench, kind: str, body: str, who: str
) -> None:
    """The text says who failed."""
    report = bench.measure(body, kind=kind, limit=1e9, **{who: RAISES})

    assert report["saw"] == _broken(f"the {who} fails its budget's test: ValueError: no")
    assert report["outcome"] == "failed"


@pytest.mark.parametrize("who", ["reference", "baseline"])
def test_a_reference_or_baseline_that_is_wrong_is_not_the_learners(bench: Bench, who: str) -> None:
    """It is verified before the race."""
    report = bench.measure(RACE, **{who: WRONG})

    text = "RuleBroken: a timed call: total came back as -1, which is not right"
    assert report["saw"] == _broken(f"the {who} fails its budget's test: {text}")


def test_a_reference_that_counts_in_floats_is_not_the_learners(bench: Bench) -> None:
    """Where both return a float it is the test that is wrong."""
    floats = "def total(xs):\n    return 64.0\n"

    report = bench.measure(COUNT, kind="count", solution=floats, baseline="", reference=floats)

    text = "RuleBroken: the count is a float (64.0), wanted an int"
    assert report["saw"] == _broken(f"the reference fails its budget's test: {text}")


MISTAKES = {
    "no call": (
        "def test_adding(race):\n    pass\n",
        {},
        "test_adding takes race and does not call it",
    ),
    "two calls": (
        "def test_adding(count):\n    for _ in range(2):\n        count(lambda impl: 1)\n",
        {"kind": "count", "limit": 9},
        "test_adding measures twice; a budget is measured once",
    ),
    "no budget": (
        RACE,
        {"budget": "something_else"},
        'test_adding takes race, and challenge.toml has no [[budget]] with name = "adding"',
    ),
    "another kind": (RACE, {"kind": "count"}, "test_adding takes race, challenge.toml says count"),
    "no baseline": (
        RACE,
        {"baseline": ""},
        "race: there is no hidden/baseline.py to race against",
    ),
    "a baseline that does not load": (
        RACE,
        {"baseline": "import nothing_of_the_kind\n"},
        "hidden/baseline.py does not load: "
        "ModuleNotFoundError: No module named 'nothing_of_the_kind'",
    ),
    "no verify": (
        "def test_adding(race):\n    race(run, inputs=inputs)\n",
        {},
        "test_adding: race needs verify=",
    ),
    "no inputs": (
        "def test_adding(race):\n    race(run, verify=verify)\n",
        {},
        "test_adding: race needs inputs=",
    ),
    "two sizes": (
        "def test_adding(scaling):\n    scaling(run, sizes=(1, 2), inputs=inputs, verify=verify)\n",
        {"kind": "scaling"},
        "scaling: wanted three sizes above 0 or more, got (1, 2)",
    ),
    "of what": (
        "def test_adding(scaling):\n    scaling(run, sizes=(1, 2, 3), inputs=inputs, of='x')\n",
        {"kind": "scaling"},
        "scaling: wanted of='time' or of='count', got 'x'",
    ),
    "inputs that raise": (
        "def test_adding(race):\n    race(run, inputs=lambda rng: 1 / 0, verify=verify)\n",
        {},
        "inputs raised ZeroDivisionError: division by zero",
    ),
    "inputs without a tuple": (
        "def test_adding(race):\n    race(run, inputs=lambda rng: [1, 2], verify=verify)\n",
        {},
        "inputs returned a list, wanted a tuple of arguments",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_author_is_called_one(bench: Bench, mistake: str) -> None:
    """It fails, says what to mend, and does not blame the learner."""
    body, layout, text = MISTAKES[mistake]

    report = bench.measure(body, **layout)

    assert report["saw"] == _broken(text)
    assert report["outcome"] == "failed"


def test_a_check_before_the_measure_speaks_for_itself(bench: Bench) -> None:
    """That the fixture was not called yet is no mistake then."""
    body = """
        def test_adding(race):
            check.that(False, saw="the list is empty")
    """

    assert bench.measure(body)["saw"] == "the list is empty"


# -- around a measurement -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "calls"),
    [("race", RACE, 3), ("scaling", SCALING, 3), ("peak", PEAK, 3), ("count", COUNT, 3)],
)
def test_a_disabled_budget_runs_each_contender_once(
    bench: Bench, kind: str, body: str, calls: int
) -> None:
    """With --benchmark-disable each result is verified once, and nothing is measured."""
    counting = f"""
        seen = []
        def run(impl, xs):
            seen.append("run")
            return impl.total(xs)

        def verify(result, xs):
            seen.append("verify")

        def test_adding({kind}):
            {{}}
            check.that(seen == ["run", "verify"] * {calls}, saw=str(seen))
    """
    measure = {
        "race": "race(run, inputs=inputs, verify=verify)",
        "scaling": "scaling(run, sizes=(1, 2, 3), inputs=inputs, verify=verify)",
        "peak": "peak(run, inputs=inputs, verify=verify)",
        "count": "count(run, inputs=inputs, verify=verify)",
    }[kind]
    bench.lay_out("pass\n", kind=kind)
    text = textwrap.dedent(HEAD) + textwrap.dedent(counting).format(measure).replace(
        f"def test_adding({kind})", f'@rule("R2")\ndef test_adding({kind})'
    )
    bench.suite.write("challenges/01_sums/hidden/1_speed.py", text)

    (report,) = bench.suite.reports(
        "challenges", "--benchmark-disable", plugins=("timeout", "benchmark")
    )

    assert (report["outcome"], report["saw"]) == ("passed", "")
    record = report["budget"]
    assert record["verdict"] == "not measured"
    assert [record[key] for key in ("figure", "low", "high", "reference", "baseline")] == [None] * 5
    assert record["laps"] == []


def test_a_disabled_budget_still_finds_a_wrong_answer(bench: Bench) -> None:
    """verify is called."""
    bench.lay_out(RACE, solution=WRONG)

    (report,) = bench.suite.reports(
        "challenges", "--benchmark-disable", plugins=("timeout", "benchmark")
    )

    assert (report["outcome"], report["budget"]) == ("failed", None)


def test_enabling_wins_over_disabling(bench: Bench) -> None:
    """As pytest-benchmark has it."""
    bench.lay_out(COUNT, kind="count", limit=64)

    (report,) = bench.suite.reports(
        "challenges", "--benchmark-disable", "--benchmark-enable", plugins=("timeout", "benchmark")
    )

    assert report["budget"]["verdict"] == "met"


@pytest.mark.parametrize("tracing", [False, True])
@pytest.mark.parametrize("solution", [REFERENCE, RAISES], ids=["right", "raises"])
def test_tracing_is_as_it_was_before(bench: Bench, tracing: bool, solution: str) -> None:
    """Memory is traced during the calls alone, unless somebody traced it already."""
    seen = "import tracemalloc\ndef total(xs):\n    {}\n"
    raising = seen.format('raise ValueError(f"tracing: {tracemalloc.is_tracing()}")')
    if tracing:
        tracemalloc.start()
    try:
        bench.measure(PEAK, kind="peak", limit=1e6, solution=solution or raising)
        after = tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()

    assert after is tracing


def _types(value: Any) -> set[type]:
    found = {type(value)}
    if isinstance(value, dict):
        return found.union(*(_types(v) for v in value.values()), *(_types(k) for k in value))
    if isinstance(value, list):
        return found.union(*map(_types, value))
    return found
