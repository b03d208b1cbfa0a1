"""One leaderboard of everyone over all challenges."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from conftest import Suite

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.cohort import board as boards
from pytest_llmgrind.cohort.board import CohortBoard
from pytest_llmgrind.cohort.ledger import Record
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.report import cohort
from pytest_llmgrind.report.tables import Look

BUDGET = """
    [[budget]]
    name = "few_calls"
    stage = "lists"
    kind = "count"
    limit = 10
    what = "calls"
"""
NAMES = {"R1": ("pairs", "test_sum_of_a_pair"), "R2": ("lists", "test_sum_of_a_list")}


@pytest.fixture
def challenges(suite: Suite) -> list[Manifest]:
    """Two, with two rules each; the second has a budget."""
    roots = [suite.challenge(), suite.challenge("02_more", more=BUDGET)]
    return [manifests.load(root) for root in roots]


def record(
    entrant: str,
    challenge: str,
    *verdicts: str,
    figure: float | None = None,
    reference: float = 4.0,
    **fields: Any,
) -> Record:
    """Verdicts on R1, R2 and where there is a third, on the budget's test, which proves R2."""
    tests = [
        {"name": name, "stage": stage, "rule": rule, "verdict": verdict, "budget": None}
        for (rule, (stage, name)), verdict in zip(NAMES.items(), verdicts, strict=False)
    ]
    if len(verdicts) > 2:
        budget = {"name": "few_calls", "figure": figure, "reference": reference}
        tests.append({"name": "test_few_calls", "stage": "lists", "rule": "R2"})
        tests[-1] |= {"verdict": verdicts[2], "budget": None if figure is None else budget}
    document = {
        "schema": "llmgrind-cohort/1",
        "entrant": entrant,
        "challenge": challenge,
        "key": {},
        "at": "2026-11-27T10:00:00+00:00",
        "seconds": 2.0,
        "reason": "",
        "final": True,
        "cut_s": 0.0,
        "result": {"sandbox": "bubblewrap", "challenges": [{"tests": tests}]},
        **fields,
    }
    return msgspec.convert(document, Record)


def ranks(board: CohortBoard) -> list[tuple[int | None, str]]:
    return [(row.entry.rank, row.entry.name) for row in board.rows]


class TestRanks:
    def test_rules_of_all_challenges_come_first(self, challenges: list[Manifest]) -> None:
        """Two half challenges are more than one."""
        board = boards.build(
            challenges,
            [
                record("one", "02_more", "passed", "passed", "passed", figure=1.0),
                record("both", "01_sums", "passed", "passed"),
                record("both", "02_more", "passed", "todo", "todo"),
                record("none", "01_sums", "failed", "todo"),
            ],
        )

        assert ranks(board) == [(1, "both"), (2, "one"), (3, "none")]
        assert [row.entry.kept for row in board.rows] == [3, 2, 0]

    def test_then_budgets_and_how_much_of_them_is_used(self, challenges: list[Manifest]) -> None:
        """What differs by 10 % ranks the same, a missed budget does not."""
        figures = {"far": 5.0, "near": 4.3, "best": 4.0, "over": 11.0}
        board = boards.build(
            challenges,
            [
                record(name, "02_more", "passed", "passed", "passed", figure=figure)
                for name, figure in figures.items()
            ],
        )

        assert ranks(board) == [(1, "best"), (1, "near"), (3, "far"), (4, "over")]
        assert [row.entry.met for row in board.rows] == [1, 1, 1, 0]

    def test_a_slower_machine_does_not_decide(self, challenges: list[Manifest]) -> None:
        """Figures are scaled by those of the reference in the same run."""
        usual, slow = {"figure": 4.0}, {"figure": 6.0, "reference": 6.0}
        board = boards.build(
            challenges,
            [
                record("ada", "02_more", "passed", "passed", "passed", **usual),
                record("bob", "02_more", "passed", "passed", "passed", **usual),
                record("eve", "02_more", "passed", "passed", "passed", **slow),
            ],
        )

        assert ranks(board) == [(1, "ada"), (1, "bob"), (1, "eve")]

    @pytest.mark.parametrize(
        "verdict",
        ["failed", "over budget", "crashed", "time limit", "todo", "not run", "not measured"],
    )
    def test_a_rule_is_kept_by_all_its_tests(
        self, challenges: list[Manifest], verdict: str
    ) -> None:
        """One that has not passed breaks it, and its stage; its figure counts for nothing."""
        found = record("ada", "02_more", "passed", "passed", verdict, figure=1.0)

        part = boards.part(found, challenges[1])

        assert (part.kept, part.stages, part.budgets) == (1, 1, 0)

    @pytest.mark.parametrize("verdict", ["skipped", "no hardware"])
    def test_what_this_machine_lacks_takes_nothing(
        self, challenges: list[Manifest], verdict: str
    ) -> None:
        """But alone it keeps no rule."""
        beside = record("ada", "02_more", "passed", "passed", verdict)
        alone = record("ada", "01_sums", "passed", verdict)

        assert boards.part(beside, challenges[1]).kept == 2
        assert boards.part(alone, challenges[0]).kept == 1


@pytest.fixture
def board(challenges: list[Manifest]) -> CohortBoard:
    return boards.build(
        challenges,
        [
            record("bob", "01_sums", "failed", "passed"),
            record("ada", "01_sums", "passed", "passed"),
            record("ada", "02_more", "passed", "passed", "passed", figure=4.0),
            record("eve", "01_sums", "passed", "not run", reason="stopped after 300 s"),
            record("m|\x1b[31mal", "01_sums", result=None, reason="01_sums.py is a link"),
        ],
    )


class TestShown:
    def test_on_a_terminal(self, board: CohortBoard) -> None:
        """Best first; what has no result is last, with the reason."""
        assert cohort.render(board, Look()).splitlines() == [
            "     entrant    rules  stages  budgets  01_sums  02_more",
            "  1  ada          4/4     4/4      1/1      2/2      2/2",
            "  2  bob          1/4     1/4      0/1      1/2        –",
            "  2  eve          1/4     1/4      0/1      1/2        –",
            "  –  m| [31mal      –       –        –        –        –",
            "  eve, 01_sums: stopped after 300 s",
            "  m| [31mal, 01_sums: 01_sums.py is a link",
        ]

    def test_on_a_narrow_one(self, board: CohortBoard) -> None:
        """Challenges make a table of their own."""
        lines = cohort.render(board, Look(width=44)).splitlines()

        assert lines[0] == "     entrant    rules  stages  budgets"
        assert lines[5] == "     entrant    01_sums  02_more"
        assert max(map(len, lines)) <= 44

    def test_as_markdown(self, board: CohortBoard) -> None:
        """A name can make no column and no markup."""
        lines = cohort.markdown(board).splitlines()

        assert lines[2:4] == [
            "|  | entrant | rules | stages | budgets | 01\\_sums | 02\\_more |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        assert lines[7] == "| – | m\\| \\[31mal | – | – | – | – | – |"
        assert lines[-1] == "- m\\| \\[31mal, 01\\_sums: 01\\_sums.py is a link"

    def test_as_json(self, board: CohortBoard) -> None:
        """Every part of it, and null where there is none."""
        found = board.as_json()

        assert found["schema"] == "llmgrind-cohort-board/1"
        assert found["sandboxes"] == ["bubblewrap"]
        assert found["challenges"][1] == {
            "id": "02_more", "title": "02_more", "version": 1,
            "rules": 2, "stages": 2, "budgets": 1,
        }  # fmt: skip
        ada, *_, mal = found["entrants"]
        assert (ada["rank"], ada["rules"], ada["budgets"]) == (1, 4, 1)
        assert ada["figures"] == {"02_more/few_calls": 4.0}
        assert (mal["rank"], mal["rules"], mal["stages"]) == (None, None, None)
        assert mal["challenges"]["01_sums"] == {
            "kept": None, "stages": None, "budgets": None,
            "reason": "01_sums.py is a link", "seconds": 2.0,
        }  # fmt: skip

    def test_solutions_without_walls_are_said(self, challenges: list[Manifest]) -> None:
        """Such a leaderboard is for people who trust each other."""
        free = {"sandbox": "none", "challenges": [{"tests": []}]}
        made = boards.build(challenges[:1], [record("ada", "01_sums", result=free)])

        assert cohort.render(made, Look(width=100)).splitlines() == [
            "     entrant  rules  stages",
            "  1  ada        0/2     0/2",
            "  sandbox: none: solutions ran without walls; install bubblewrap, then give --again",
        ]
