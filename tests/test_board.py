"""The board as values: what results of graded tests add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import board as boards
from pytest_llmgrind import standing
from pytest_llmgrind.advice import Step
from pytest_llmgrind.board import Board, BudgetRow, ChallengeBoard, Note, Rules, StageRow
from pytest_llmgrind.standing import Outside
from pytest_llmgrind.verdicts import hidden_tests

ID = "01_sums"
STAGES = {
    "pairs": """
        from pytest_llmgrind import rule

        @rule("R1")
        def test_sum_of_a_pair(solution): ...

        @rule("R2")
        def test_order_does_not_matter(solution): ...
    """,
    "lists": """
        import pytest
        from pytest_llmgrind import rule

        @pytest.mark.gpu
        @rule("R3")
        def test_sum_of_a_list(solution): ...

        @rule("R3")
        def test_long_lists_are_fast(race): ...

        def helper(): ...
    """,
}
RULES = {"R1": "`add` adds. [adding](#adding)", "R2": "Order is free.", "R3": "Lists add up."}
BUDGET = """
    [[budget]]
    name = "long_lists_are_fast"
    stage = "lists"
    kind = "race"
    limit = 0.5
    what = "time of total over that of a loop"
    unit = "x"
"""
MEASURED = {
    "name": "long_lists_are_fast",
    "kind": "race",
    "limit": 0.5,
    "unit": "x",
    "what": "time of total over that of a loop",
    "figure": 0.4,
    "low": 0.39,
    "high": 0.42,
    "reference": 0.2,
    "baseline": 1.0,
    "verdict": "met",
    "laps": [],
}
PAIR, ORDER = "pairs::test_sum_of_a_pair", "pairs::test_order_does_not_matter"
LIST, FAST = "lists::test_sum_of_a_list", "lists::test_long_lists_are_fast"
ALL = (PAIR, ORDER, LIST, FAST)
RULE = {PAIR: "R1", ORDER: "R2", LIST: "R3", FAST: "R3"}


@pytest.fixture
def root(suite: Any) -> Path:
    path: Path = suite.challenge(stages=STAGES, rules=RULES, more=BUDGET)
    return path


def result(root: Path, test: str, outcome: str = "passed", **more: Any) -> dict[str, Any]:
    """What grading keeps of a test; ``test`` is one of ALL, with or without parameters."""
    stage, _, name = test.partition("::")
    status = {"passed": "passed", "skipped": "skipped"}.get(outcome, "failed")
    file = f"{list(STAGES).index(stage) + 1}_{stage}.py"
    return {
        "challenge": root.name,
        "root": str(root),
        "stage": stage,
        "rule": RULE[test.partition("[")[0]],
        "outcome": "no hardware" if outcome == "skipped" else outcome,
        "status": status,
        "saw": "",
        "budget": None,
        "notes": [],
        "solution": f"solutions/{root.name}.py",
        "is_stub": False,
        "in_play": True,
        "nodeid": f"challenges/{root.name}/hidden/{file}::{name}",
        "duration": 0.1,
        **more,
    }


def build(root: Path, *results: dict[str, Any], **more: Any) -> ChallengeBoard:
    (challenge,) = boards.build(results, start=root.parent.parent, **more).challenges
    return challenge


def green(root: Path) -> list[dict[str, Any]]:
    return [*(result(root, test) for test in ALL[:3]), result(root, FAST, budget=MEASURED)]


def words(challenge: ChallengeBoard) -> list[str]:
    return [f"{row.passed}/{row.total} {row.word}" for row in challenge.stages]


def test_a_green_challenge_has_all_its_parts(root: Path) -> None:
    """A run in which everything passed gives every part of the board."""
    challenge = build(root, *green(root))

    assert challenge.stages == (
        StageRow(
            number=1,
            name="pairs",
            title="pairs",
            passed=2,
            total=2,
            skipped=0,
            not_run=0,
            word="ok",
        ),
        StageRow(
            number=2,
            name="lists",
            title="lists",
            passed=2,
            total=2,
            skipped=0,
            not_run=0,
            word="ok",
        ),
    )
    assert challenge.rules == Rules(
        kept=("R1", "R2", "R3"), broken=(), todo=(), untested=(), total=3
    )
    assert challenge.budgets == (
        BudgetRow(
            name="long_lists_are_fast",
            stage="lists",
            kind="race",
            what="time of total over that of a loop",
            unit="x",
            limit=0.5,
            figure=0.4,
            low=0.39,
            high=0.42,
            reference=0.2,
            baseline=1.0,
            verdict="met",
            met=True,
            was=None,
        ),
    )
    assert challenge.next == Step(kind="done", text="")


@pytest.mark.parametrize(
    ("outcomes", "want"),
    [
        (("passed", "todo"), "1/2 todo"),
        (("failed", "todo"), "0/2 failed"),
        (("failed", "blocked"), "0/2 cannot be graded"),
        (("timed out", "over budget"), "0/2 timed out"),
        (("passed", "over budget"), "1/2 over budget"),
        (("passed", "skipped"), "1/2 ok"),
        (("skipped", "skipped"), "0/2 skipped"),
        (("no hardware", "passed"), "1/2 no hardware"),
    ],
)
def test_the_worst_test_gives_its_word_to_the_stage(
    root: Path, outcomes: tuple[str, str], want: str
) -> None:
    """A stage is called what its worst test is called."""
    challenge = build(root, result(root, PAIR, outcomes[0]), result(root, ORDER, outcomes[1]))

    assert words(challenge)[0] == want


def test_a_test_that_did_not_run_is_neither_passed_nor_forgotten(root: Path) -> None:
    """Tests that -k or -x left out are counted in the total, and their rules are not kept."""
    challenge = build(root, result(root, PAIR))

    assert words(challenge) == ["1/2 not run", "0/2 not run"]
    assert challenge.rules.kept == ("R1",)
    assert challenge.rules.untested == ("R2", "R3")
    assert challenge.next.text == "stage 1, pairs: run all of its tests"


def test_parameter_sets_are_one_test_and_the_worst_counts(root: Path) -> None:
    """One failing parameter set breaks the test, in whichever order they come."""
    sets = [result(root, f"{PAIR}[{n}]", outcome) for n, outcome in enumerate(["passed", "failed"])]

    for order in (sets, sets[::-1]):
        challenge = build(root, *order, result(root, ORDER))

        assert words(challenge)[0] == "1/2 failed"
        assert challenge.rules.broken == ("R1",)


def test_a_rule_is_kept_when_all_its_tests_hold_and_one_of_them_ran(root: Path) -> None:
    """A skipped test takes nothing from a rule, but shows nothing either."""
    half = build(root, result(root, LIST, "skipped"), result(root, FAST))
    none = build(root, result(root, LIST, "skipped"), result(root, FAST, "skipped"))

    assert half.rules.kept == ("R3",)
    assert none.rules.kept == ()
    assert none.rules.untested == ("R1", "R2", "R3")


def test_a_blocked_solution_breaks_no_rule(root: Path) -> None:
    """Nothing is said about rules where nothing could be graded, only what to do first."""
    saw = "01_sums.py:3: not Python: '(' was never closed\n    f(\n     ^"
    challenge = build(root, *(result(root, test, "blocked", saw=saw) for test in ALL))

    assert challenge.rules.untested == ("R1", "R2", "R3")
    assert challenge.next == Step(
        kind="mend",
        text="01_sums.py:3: not Python: '(' was never closed",
        read="challenges/01_sums/spec.md",
    )


def test_reasons_for_skips_are_said_once(root: Path) -> None:
    """Two tests skipped for one reason give one reason."""
    skipped = [result(root, test, "skipped", saw="gpu: needs one GPU") for test in (LIST, FAST)]
    challenge = build(root, *skipped)

    assert challenge.stages[1].reasons == ("gpu: needs one GPU",)


def test_an_untouched_stub_is_told_how_to_start(root: Path) -> None:
    """Nothing but todo in the stub itself means: begin."""
    todo = [result(root, test, "todo", is_stub=True) for test in ALL]

    assert build(root, *todo).next == Step(
        kind="start", text="llmgrind start 01_sums", read="challenges/01_sums/spec.md"
    )


@pytest.mark.parametrize(
    ("results", "step"),
    [
        (
            {PAIR: "failed", ORDER: "todo"},
            Step(
                kind="fix",
                text="stage 1, pairs: R1 failed",
                read="challenges/01_sums/spec.md#adding",
            ),
        ),
        (
            {PAIR: "passed", ORDER: "timed out"},
            Step(
                kind="fix",
                text="stage 1, pairs: R2 timed out",
                read="challenges/01_sums/spec.md#rules",
            ),
        ),
        (
            {PAIR: "passed", ORDER: "passed", LIST: "todo", FAST: "todo"},
            Step(
                kind="write",
                text="stage 2, lists: lists",
                read="challenges/01_sums/spec.md#stages",
            ),
        ),
        (
            {PAIR: "passed", ORDER: "passed", LIST: "passed", FAST: "over budget"},
            Step(
                kind="fix",
                text="stage 2, lists: R3 over budget",
                read="challenges/01_sums/spec.md#rules",
            ),
        ),
        (
            {LIST: "failed"},
            Step(
                kind="fix",
                text="stage 2, lists: R3 failed",
                read="challenges/01_sums/spec.md#rules",
            ),
        ),
        (
            {LIST: "passed", FAST: "passed"},
            Step(
                kind="run",
                text="stage 1, pairs: run all of its tests",
                read="challenges/01_sums/spec.md",
            ),
        ),
        (
            {PAIR: "passed", ORDER: "passed", LIST: "skipped", FAST: "skipped"},
            Step(kind="done", text=""),
        ),
        (
            dict.fromkeys(ALL, "skipped"),
            Step(
                kind="run",
                text="nothing ran here: gpu: needs one GPU",
                read="challenges/01_sums/spec.md",
            ),
        ),
    ],
)
def test_the_next_step_is_the_first_thing_in_the_way(
    root: Path, results: dict[str, str], step: Step
) -> None:
    """The first stage that is not green says what to do and where it is explained."""
    seen = [result(root, test, word, saw="gpu: needs one GPU") for test, word in results.items()]

    assert build(root, *seen).next == step


def test_a_stage_of_skips_is_not_a_stage_passed(root: Path) -> None:
    """A stage that this machine cannot run is not in the way, and not counted either."""
    seen = [result(root, t, w) for t, w in zip(ALL, ["passed"] * 2 + ["skipped"] * 2, strict=True)]
    challenge = build(root, *seen)

    (you,) = [entry for entry in challenge.standing if entry.kind == "you"]
    assert challenge.is_green
    assert you.stages == 1


def test_a_budget_without_a_figure_has_the_word_of_its_test(root: Path) -> None:
    """What was not measured is not met, and says why."""
    rows = {
        "todo": build(root, result(root, FAST, "todo")).budgets[0],
        "not run": build(root, result(root, PAIR)).budgets[0],
        "not measured": build(
            root,
            result(root, FAST, budget={**MEASURED, "figure": None, "verdict": "not measured"}),
        ).budgets[0],
    }

    for word, row in rows.items():
        assert (row.verdict, row.figure, row.met) == (word, None, False)


def test_a_budget_is_met_by_a_passed_test_within_the_limit(root: Path) -> None:
    """Undecided above the limit passes its test and still does not meet the budget."""
    over = {**MEASURED, "figure": 0.52, "verdict": "undecided"}
    wrong = {**MEASURED, "figure": 0.1}

    assert build(root, result(root, FAST, budget=MEASURED)).budgets[0].met
    assert not build(root, result(root, FAST, budget=over)).budgets[0].met
    assert not build(root, result(root, FAST, "failed", budget=wrong)).budgets[0].met


def test_an_earlier_figure_stands_beside_the_new_one(root: Path) -> None:
    """The figures of an earlier run are found by node id."""
    fast = result(root, FAST, budget=MEASURED)

    assert build(root, fast, before={fast["nodeid"]: 0.45}).budgets[0].was == 0.45


def test_a_failing_teardown_does_not_lose_the_figure(root: Path) -> None:
    """Two reports of one test give the worse outcome and the figure of either."""
    challenge = build(
        root, result(root, FAST, budget=MEASURED), result(root, FAST, "failed", saw="teardown")
    )

    assert challenge.stages[1].word == "failed"
    assert challenge.budgets[0].figure == 0.4


def test_notes_count_tests_and_not_calls(root: Path) -> None:
    """What one test reports twice is one test."""
    seen = [
        result(root, PAIR, notes=["printed"]),
        result(root, PAIR, notes=["printed"]),
        result(root, ORDER, notes=["printed", "changed the environment"]),
    ]

    assert build(root, *seen).notes == (
        Note(text="printed", tests=2),
        Note(text="changed the environment", tests=1),
    )


def test_what_nobody_began_is_named_and_no_more(suite: Any) -> None:
    """Challenges that are not in play are ids in one list, in order."""
    roots = [suite.challenge(id, stages=STAGES) for id in ("02_later", "01_sums")]
    seen = [result(root, PAIR, "todo", in_play=False) for root in roots]

    assert boards.build(seen, start=suite.path) == Board(not_begun=("01_sums", "02_later"))


def test_a_manifest_that_broke_in_the_meantime_is_one_remark(root: Path) -> None:
    """The board of everything else is not lost to a file that was saved during the run."""
    seen = result(root, PAIR)
    (root / "challenge.toml").write_text("title = 3\n")

    board = boards.build([seen], start=root.parent.parent)

    assert board.challenges == ()
    assert board.remarks == (f"{root}/challenge.toml: track: missing, wanted a text",)


def test_a_dead_worker_does_not_hide_whose_code_it_was(root: Path) -> None:
    """The report of a test whose process died names no solution; the others do."""
    dead = result(root, PAIR, "failed", solution="", rule="")

    challenge = build(root, dead, result(root, ORDER))

    assert challenge.solution == "solutions/01_sums.py"
    assert challenge.rules.broken == ("R1",)


def test_tests_and_rules_are_read_from_text_alone(root: Path) -> None:
    """Nothing is imported to know how many tests a stage has."""
    assert hidden_tests(root / "hidden/2_lists.py") == {
        "test_sum_of_a_list": "R3",
        "test_long_lists_are_fast": "R3",
    }
    assert hidden_tests(root / "hidden/no_such_file.py") == {}


def entrant(name: str, kept: int | None, figure: float | None = None, **more: Any) -> Outside:
    figures = {} if figure is None else {"long_lists_are_fast": figure}
    return Outside(name=name, challenge=ID, kept=kept, stages=2, figures=figures, **more)


def ranks(challenge: ChallengeBoard) -> list[tuple[int | None, str]]:
    return [(entry.rank, entry.name) for entry in challenge.standing]


def test_rules_come_before_budgets_and_budgets_before_figures(root: Path) -> None:
    """A wrong program is never ahead of a right one, however fast it is."""
    others = [entrant("wrong-but-fast", 2, 0.01), entrant("slow", 3, 0.9), entrant("good", 3, 0.3)]

    challenge = build(root, *green(root), outside=others)

    assert ranks(challenge) == [
        (1, "reference"),
        (2, "good"),
        (3, "you"),
        (4, "slow"),
        (5, "wrong-but-fast"),
        (None, "baseline"),
    ]


@pytest.mark.parametrize(
    ("figure", "want"),
    [
        (0.4, [(1, "reference"), (2, "you"), (2, "twin")]),
        (0.43, [(1, "reference"), (2, "you"), (2, "twin")]),
        (0.37, [(1, "reference"), (2, "you"), (2, "twin")]),
        (0.45, [(1, "reference"), (2, "you"), (3, "twin")]),
        (0.35, [(1, "reference"), (2, "twin"), (3, "you")]),
    ],
)
def test_noise_makes_no_winner(root: Path, figure: float, want: list[tuple[int, str]]) -> None:
    """Who is within a tenth of the first of a rank shares it."""
    challenge = build(root, *green(root), outside=[entrant("twin", 3, figure)])

    assert ranks(challenge)[:3] == want


def test_a_busier_machine_does_not_decide(root: Path) -> None:
    """The reference was measured in both runs; an entrant's figures are scaled by it."""
    slower = {"reference": {"long_lists_are_fast": 0.25}}  # 0.2 in your run
    faster = {"reference": {"long_lists_are_fast": 0.05}}  # more than a machine can differ

    challenge = build(
        root,
        *green(root),
        outside=[entrant("busy", 3, 0.49, **slower), entrant("odd", 3, 0.3, **faster)],
    )

    assert ranks(challenge)[:4] == [(1, "reference"), (2, "odd"), (3, "you"), (3, "busy")]
    assert dict(challenge.standing[3].figures) == {"long_lists_are_fast": 0.49}


def test_who_has_no_result_has_no_rank_but_a_reason(root: Path) -> None:
    """An entrant that gave nothing is last, and says why."""
    challenge = build(root, *green(root), outside=[entrant("gone", None, reason="it died")])

    gone = challenge.standing[2]
    assert (gone.rank, gone.name, gone.kept, gone.reason) == (None, "gone", None, "it died")


def test_a_reference_that_your_run_did_not_come_to_is_taken_from_others(root: Path) -> None:
    """Where yours failed before a budget, the figures of reference and baseline are still shown."""
    other = entrant(
        "good",
        3,
        0.3,
        reference={"long_lists_are_fast": 0.2},
        baseline={"long_lists_are_fast": 1.0},
    )

    challenge = build(root, *(result(root, test, "failed") for test in ALL), outside=[other])

    figures = {entry.name: dict(entry.figures) for entry in challenge.standing}
    assert figures["reference"] == {"long_lists_are_fast": 0.2}
    assert figures["baseline"] == {"long_lists_are_fast": 1.0}


def test_a_figure_that_is_not_finite_is_no_figure() -> None:
    """NaN would make every order of ranks as good as any other."""
    entry = standing.entry(
        "entrant", figures={"a": float("nan"), "b": 1.0}, limits={"a": 1, "b": 2}
    )

    assert entry.figures == {"b": 1.0}
    assert entry.share is None
