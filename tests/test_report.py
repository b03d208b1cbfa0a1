"""The leaderboard as a learner sees it, and the files that hold it."""

from __future__ import annotations

import json as stdlib_json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from pytest_llmgrind.advice import Step
from pytest_llmgrind.board import Board, BudgetRow, ChallengeBoard, Note, Rules, StageRow
from pytest_llmgrind.guard import ALWAYS
from pytest_llmgrind.practice import Practice
from pytest_llmgrind.report import json, markdown, words
from pytest_llmgrind.report.tables import Look
from pytest_llmgrind.report.terminal import render
from pytest_llmgrind.standing import Outside, Run
from pytest_llmgrind.standing import of as standing_of

TITLES = {
    "naive": "Generate by recomputing everything",
    "cached": "Prefill and decode with a cache that is filled once and read often",
    "ragged": "Rows of unequal lengths",
}


def stage(number: int, name: str, passed: int, total: int, word: str, **more: Any) -> StageRow:
    about = {"skipped": 0, "not_run": 0, **more}
    return StageRow(
        number=number, name=name, title=TITLES[name], passed=passed, total=total, word=word, **about
    )


def budget(name: str, kind: str, unit: str, limit: float, figure: float | None, **more: Any) -> Any:
    about = {"low": None, "high": None, "reference": None, "baseline": None, "was": None, **more}
    return BudgetRow(
        name=name,
        stage="cached",
        kind=kind,
        what="what is measured",
        unit=unit,
        limit=limit,
        figure=figure,
        verdict=about.pop("verdict", "met"),
        met=figure is not None and figure <= limit,
        **about,
    )


RACE = budget(
    "decoding_beats_recomputation", "race", "x", 0.5, 0.431, low=0.425, high=0.44, reference=0.09,
    baseline=1.0,
)  # fmt: skip
BYTES = budget(
    "the_cache_holds_key_value_heads", "count", "bytes", 15360, 61440, low=61440, high=61440,
    reference=15360, baseline=61440, verdict="over",
)  # fmt: skip
PEAK = budget(
    "prefill_makes_one_row_of_logits", "peak", "bytes", 1_200_000, None, verdict="not measured"
)
BUDGETS = (RACE, BYTES, PEAK)
STAGES = (
    stage(1, "naive", 6, 6, "ok"),
    stage(2, "cached", 8, 10, "failed"),
    stage(3, "ragged", 0, 9, "todo"),
)
RULES = Rules(
    kept=("R1", "R2", "R3", "R4", "R6"),
    broken=("R5", "R7"),
    todo=("R8", "R9", "R10"),
    untested=(),
    total=10,
)


def challenge(*outside: Outside, **more: Any) -> ChallengeBoard:
    budgets, stages = more.get("budgets", BUDGETS), more.get("stages", STAGES)
    rules = more.get("rules", RULES)
    run = Run(
        kept=len(rules.kept),
        rules=rules.total,
        green=sum(row.is_green for row in stages),
        stages=len(stages),
        limits={row.name: row.limit for row in budgets},
        figures={row.name: row.figure for row in budgets},
        reference={row.name: row.reference for row in budgets},
        baseline={row.name: row.baseline for row in budgets},
    )
    about: dict[str, Any] = {
        "id": "04_kv_cache",
        "title": "KV cache",
        "version": 1,
        "solution": "solutions/04_kv_cache.py",
        "is_stub": False,
        "stages": stages,
        "rules": rules,
        "budgets": budgets,
        "notes": (
            Note(text="printed", tests=3),
            Note(text="changed numpy's error state", tests=2),
        ),
        "standing": standing_of(run, outside),
        "next": Step(
            kind="fix",
            text="stage 2, cached: R5 failed",
            read="challenges/04_kv_cache/spec.md#caching",
        ),
        **more,
    }
    return ChallengeBoard(**about)


def stub() -> ChallengeBoard:
    rules = Rules(
        kept=(), broken=(), todo=tuple(f"R{n}" for n in range(1, 11)), untested=(), total=10
    )
    return challenge(
        solution="challenges/04_kv_cache/stub.py",
        is_stub=True,
        stages=tuple(stage(n, name, 0, 6, "todo") for n, name in enumerate(TITLES, start=1)),
        rules=rules,
        budgets=tuple(budget(row.name, row.kind, row.unit, row.limit, None) for row in BUDGETS),
        notes=(),
        next=Step(
            kind="start", text="llmgrind start 04_kv_cache", read="challenges/04_kv_cache/spec.md"
        ),
    )


ALICE = Outside(
    name="alice",
    challenge="04_kv_cache",
    kept=10,
    stages=3,
    figures={RACE.name: 0.3, BYTES.name: 15360, PEAK.name: 900_000},
)
BOB = Outside(
    name="bob-of-the-very-long-directory-name",
    challenge="04_kv_cache",
    kept=0,
    stages=0,
    reason="04_kv_cache.py:3: not Python: '(' was never closed",
)
CAROL = Outside(name="carol", challenge="04_kv_cache", reason="no result: not done after 300 s")


def text(board: ChallengeBoard | Board, width: int = 80, **more: Any) -> list[str]:
    brief = more.pop("brief", False)
    board = board if isinstance(board, Board) else Board(challenges=(board,))
    return render(board, Look(width=width, **more), brief=brief).split("\n")


# -- what a terminal shows ------------------------------------------------------------------


def test_an_untouched_stub_fits_a_small_terminal_and_says_how_to_begin() -> None:
    """Seven lines: what there is, and the command that starts it."""
    assert text(stub()) == [
        "04_kv_cache  KV cache                             challenges/04_kv_cache/stub.py",
        "  1  naive   Generate by recomputing everything                        0/6  todo",
        "  2  cached  Prefill and decode with a cache that is filled once and…  0/6  todo",
        "  3  ragged  Rows of unequal lengths                                   0/6  todo",
        "  ahead    nothing is written yet: 10 rules to keep, 3 budgets to meet",
        "next       llmgrind start 04_kv_cache",
        "read       challenges/04_kv_cache/spec.md",
    ]


def test_a_board_of_80_columns() -> None:
    """A begun solution: stages, rules, budgets with their figures, notes, standing, next."""
    assert text(challenge()) == [
        "04_kv_cache  KV cache                                   solutions/04_kv_cache.py",
        "  1  naive   Generate by recomputing everything                      6/6  ok",
        "  2  cached  Prefill and decode with a cache that is filled once …  8/10  failed",
        "  3  ragged  Rows of unequal lengths                                 0/9  todo",
        "  rules    5 of 10 kept, broken: R5 R7, todo: R8–R10",
        "  budgets  1 of 3 met, 1 over budget, 1 not measured",
        "  budget                    limit        yours  reference  baseline",
        "  decoding beats            0.50x  0.43x ±0.01     0.090x     1.00x  ok",
        "  recomputation",
        "  the cache holds key    15,360 B     61,440 B   15,360 B  61,440 B  over budget",
        "  value heads",
        "  notes    printed in 3 tests; changed numpy's error state in 2 tests: undone",
        "           after each test",
        "  standing 1 reference (10 rules, 2/3 budgets) · 2 you (5 rules, 1/3 budgets) ·",
        "           baseline (0/3 budgets)",
        "next       stage 2, cached: R5 failed",
        "read       challenges/04_kv_cache/spec.md#caching",
    ]


def test_a_board_of_60_columns_lists_budgets_in_two_lines() -> None:
    """Where a table has no room, nothing is cut: every figure has its label."""
    assert text(challenge(), width=60) == [
        "04_kv_cache  KV cache               solutions/04_kv_cache.py",
        "  1  naive   Generate by recomputing everythi…   6/6  ok",
        "  2  cached  Prefill and decode with a cache …  8/10  failed",
        "  3  ragged  Rows of unequal lengths             0/9  todo",
        "  rules    5 of 10 kept, broken: R5 R7, todo: R8–R10",
        "  budgets  1 of 3 met, 1 over budget, 1 not measured",
        "  decoding beats recomputation: ok",
        "    yours 0.43x ±0.01 · limit 0.50x · reference 0.090x ·",
        "    baseline 1.00x",
        "  the cache holds key value heads: over budget",
        "    yours 61,440 B · limit 15,360 B · reference 15,360 B ·",
        "    baseline 61,440 B",
        "  notes    printed in 3 tests; changed numpy's error state",
        "           in 2 tests: undone after each test",
        "  standing 1 reference (10 rules, 2/3 budgets) · 2 you (5",
        "           rules, 1/3 budgets) · baseline (0/3 budgets)",
        "next       stage 2, cached: R5 failed",
        "read       challenges/04_kv_cache/spec.md#caching",
    ]


def test_a_board_with_entrants_and_an_earlier_run() -> None:
    """Entrants have a table with rules, stages, figures, or the reason why they have none."""
    board = challenge(ALICE, BOB, CAROL, budgets=(replace(RACE, was=0.451), BYTES, PEAK))

    assert text(board, width=120) == [
        "04_kv_cache  KV cache                                                       "
        "solutions/04_kv_cache.py",
        "  1  naive   Generate by recomputing everything                             "
        "             6/6  ok",
        "  2  cached  Prefill and decode with a cache that is filled once and read oft"
        "en         8/10  failed",
        "  3  ragged  Rows of unequal lengths                                        "
        "             0/9  todo",
        "  rules    5 of 10 kept, broken: R5 R7, todo: R8–R10",
        "  budgets  1 of 3 met, 1 over budget, 1 not measured",
        "     budget                              limit        yours  reference  baseline    was",
        "  a  decoding beats recomputation        0.50x  0.43x ±0.01     0.090x     1.00x  0.45x  "
        "ok",
        "  b  the cache holds key value heads  15,360 B     61,440 B   15,360 B  61,440 B      –  "
        "over budget",
        "  c  prefill makes one row of logits    1.2 MB            –          –         –      –  "
        "not measured",
        "  notes    printed in 3 tests; changed numpy's error state in 2 tests: undone after "
        "each test",
        "     standing                  rules  stages  budgets       a         b       c",
        "  1  alice                     10/10     3/3      3/3   0.30x  15,360 B  900 kB",
        "  2  reference                 10/10     3/3      2/3  0.090x  15,360 B       –",
        "  3  you                        5/10     1/3      1/3   0.43x  61,440 B       –",
        "  4  bob-of-the-very-long-di…   0/10     0/3        –       –         –       –",
        "  –  carol                         –       –        –       –         –       –",
        "  –  baseline                      –       –      0/3   1.00x  61,440 B       –",
        "  bob-of-the-very-long-directory-name: 04_kv_cache.py:3: not Python: '(' was never closed",
        "  carol: no result: not done after 300 s",
        "next       stage 2, cached: R5 failed",
        "read       challenges/04_kv_cache/spec.md#caching",
    ]


def test_figures_that_have_no_room_beside_the_ranks_follow_them() -> None:
    """At 60 columns the standing is two tables."""
    lines = text(challenge(ALICE, BOB), width=60)

    first = lines.index("     standing                  rules  stages  budgets")
    assert lines[first : first + 12] == [
        "     standing                  rules  stages  budgets",
        "  1  alice                     10/10     3/3      3/3",
        "  2  reference                 10/10     3/3      2/3",
        "  3  you                        5/10     1/3      1/3",
        "  4  bob-of-the-very-long-di…   0/10     0/3        –",
        "  –  baseline                      –       –      0/3",
        "     standing                       a         b       c",
        "  1  alice                      0.30x  15,360 B  900 kB",
        "  2  reference                 0.090x  15,360 B       –",
        "  3  you                        0.43x  61,440 B       –",
        "  4  bob-of-the-very-long-di…       –         –       –",
        "  –  baseline                   1.00x  61,440 B       –",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 140, 300])
@pytest.mark.parametrize("lines", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, lines: bool) -> None:
    """Whatever the width, a terminal has nothing to wrap."""
    for board in (stub(), challenge(), challenge(ALICE, BOB, CAROL)):
        assert max(map(cell_len, text(board, width, lines=lines))) <= width


def test_a_green_board_ends_with_what_was_shown() -> None:
    """The last line says what passed, and which budgets were not decided or measured."""
    rules = Rules(
        kept=tuple(f"R{n}" for n in range(1, 11)), broken=(), todo=(), untested=(), total=10
    )
    stages = (stage(1, "naive", 6, 6, "ok"), stage(3, "ragged", 8, 9, "ok", skipped=1))
    undecided = replace(BYTES, verdict="undecided")
    board = challenge(
        rules=rules,
        stages=stages,
        budgets=(RACE, undecided, PEAK),
        notes=(),
        next=Step(kind="done", text=""),
    )

    lines = text(board, width=100)

    assert lines[1:4] == [
        "  1  naive   Generate by recomputing everything                                   6/6  ok",
        "  3  ragged  Rows of unequal lengths                                              "
        "8/9  ok, 1 skipped",
        "  rules    10 of 10 kept",
    ]
    assert lines[-2:] == [
        "done       nothing failed: 14 tests passed, 10 of 10 rules kept, 1 of 3 budgets met, "
        "1 undecided, 1",
        "           not measured",
    ]


def test_several_challenges_have_a_next_step_each() -> None:
    """Each line names its challenge, and what nobody began is one line."""
    other = replace(stub(), id="02_attention", next=replace(stub().next, text="llmgrind start 02"))
    board = Board(challenges=(other, challenge()), not_begun=("01_mlp", "03_rope"))

    assert text(board)[-5:] == [
        "not begun  01_mlp, 03_rope: llmgrind start 01_mlp",
        "next       llmgrind start 02",
        "read       challenges/04_kv_cache/spec.md",
        "next       04_kv_cache, stage 2, cached: R5 failed",
        "read       challenges/04_kv_cache/spec.md#caching",
    ]


def test_a_suite_that_nobody_began_is_one_short_line() -> None:
    """A hundred ids are not printed."""
    board = Board(not_begun=tuple(f"{n:02}_challenge" for n in range(1, 106)))

    assert text(board) == [
        "not begun  01_challenge, 02_challenge, 03_challenge, 04_challenge, 05_challenge,",
        "           06_challenge and 99 more: llmgrind start 01_challenge",
    ]


def test_a_brief_board_has_a_line_for_each_challenge() -> None:
    """With -q: how far, and what to do next."""
    assert text(challenge(), brief=True) == [
        "04_kv_cache  1/3 stages · 5/10 rules · 1/3 budgets",
        "next       stage 2, cached: R5 failed",
        "read       challenges/04_kv_cache/spec.md#caching",
    ]


def test_many_green_challenges_are_brief_by_themselves() -> None:
    """Beyond four in play, a green one takes one line; what is unfinished is shown in full."""
    done = Step(kind="done", text="")
    green = [challenge(id=f"{n:02}_x", next=done) for n in range(1, 6)]

    lines = text(Board(challenges=(*green, challenge())))

    assert lines[:5] == [f"{n:02}_x  1/3 stages · 5/10 rules · 1/3 budgets" for n in range(1, 6)]
    assert lines[6].startswith("04_kv_cache  KV cache")


def test_a_terminal_gets_bars_and_rules_under_heads() -> None:
    """Lines are drawn on a terminal alone."""
    lines = text(challenge(ALICE), width=100, lines=True)

    assert lines[2] == (
        "  2  cached  Prefill and decode with a cache that is filled once and read…  "
        "━━━━━━━━──  8/10  failed"
    )
    assert sum(set(line.strip()) == {"─"} for line in lines) == 2


def test_colour_is_escape_codes_and_nothing_else() -> None:
    """Without its codes a coloured board reads as the plain one."""
    coloured = text(challenge(ALICE), colour=True)

    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured]
    assert bare == text(challenge(ALICE))
    assert "\x1b[31mfailed" in "\n".join(coloured)
    assert "\x1b" not in "\n".join(text(challenge(ALICE)))


def test_a_terminal_without_the_characters_gets_others() -> None:
    """ASCII and Windows code pages show no escapes and no question marks."""
    lines = text(challenge(ALICE), width=60, lines=True, encoding="ascii")

    assert "\n".join(lines).isascii()
    assert "  rules    5 of 10 kept, broken: R5 R7, todo: R8-R10" in lines


def test_text_of_others_cannot_act_on_the_terminal() -> None:
    """Escapes, line ends and rich's markup in a name or a message come out as plain text."""
    evil = Outside(name="x\x1b[31m[red]\ny", challenge="04_kv_cache", reason="\x1b]0;t\x07[bold]z")
    shown = "\n".join(text(challenge(evil), colour=False))

    assert "x [31m[red] y" in shown
    assert "]0;t [bold]z" in shown
    assert "\x1b" not in shown


# -- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "unit", "value", "want"),
    [
        ("race", "x", 0.4312, "0.43x"),
        ("race", "x", 0.0432, "0.043x"),
        ("race", "x", 12.3, "12.30x"),
        ("scaling", "", 1.0, "1.00"),
        ("scaling", "", -0.02, "-0.020"),
        ("peak", "bytes", 999, "999 B"),
        ("peak", "bytes", 1_234_567, "1.23 MB"),
        ("count", "bytes", 1_234_567, "1,234,567 B"),
        ("count", "calls", 12, "12"),
        ("count", "calls", 0, "0"),
        ("count", "loads", 2.5, "2.5"),
        ("race", "x", None, "–"),
    ],
)
def test_figures_are_exact_where_they_are_counted(
    kind: str, unit: str, value: float | None, want: str
) -> None:
    """Counts have all their digits, measurements as many as mean something."""
    assert words.figure(value, budget("b", kind, unit, 1, value)) == want


def test_a_limit_names_what_is_counted() -> None:
    """The unit stands once, beside the limit."""
    row = budget("b", "count", "calls", 12, 9)

    assert (words.limit(row), words.yours(row)) == ("12 calls", "9")


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        ("", ""),
        ("R1", "R1"),
        ("R1 R2", "R1 R2"),
        ("R1 R2 R3", "R1–R3"),
        ("R1 R3 R4 R5 R9", "R1 R3–R5 R9"),
        ("R9 R10 R11 R2", "R9–R11 R2"),
    ],
)
def test_three_rules_in_a_row_are_a_span(ids: str, want: str) -> None:
    """Long lists of rules stay in one line."""
    assert words.spans(ids.split()) == want


def test_notes_say_what_was_undone() -> None:
    """What was printed stays printed, what was changed is undone, what was warned is quoted."""
    notes = [
        Note(text="printed", tests=1),
        Note(text="changed the environment", tests=2),
        Note(text="changed numpy's global seed", tests=1),
        Note(text="warned: RuntimeWarning: divide by zero", tests=4),
    ]

    assert words.notes(notes) == (
        "printed in 1 test; changed the environment in 2 tests, changed numpy's global seed in "
        "1 test: undone after each test; warned in 4 tests: RuntimeWarning: divide by zero"
    )


# -- Markdown and JSON ----------------------------------------------------------------------


def test_markdown_has_the_same_parts() -> None:
    """Tables that GitHub shows, with every text of others escaped."""
    evil = Outside(name="a|b<script>", challenge="04_kv_cache", reason="`x` *y*")
    budgets = (replace(RACE, was=0.451), BYTES)
    board = Board(challenges=(challenge(evil, budgets=budgets),), not_begun=("01_mlp",))

    assert markdown.render(board).split("\n") == [
        "## Leaderboard",
        "",
        "### 04\\_kv\\_cache · KV cache",
        "",
        "| stage |  | tests |  |",
        "| --- | --- | ---: | --- |",
        "| 1 naive | Generate by recomputing everything | 6/6 | ok |",
        "| 2 cached | Prefill and decode with a cache that is filled once and read often | 8/10 "
        "| failed |",
        "| 3 ragged | Rows of unequal lengths | 0/9 | todo |",
        "",
        "Rules: 5 of 10 kept, broken: R5 R7, todo: R8–R10",
        "",
        "| budget | limit | yours | reference | baseline | was |  |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| decoding beats recomputation | 0.50x | 0.43x ±0.01 | 0.090x | 1.00x | 0.45x | ok |",
        "| the cache holds key value heads | 15,360 B | 61,440 B | 15,360 B | 61,440 B | – "
        "| over budget |",
        "",
        "Notes: printed in 3 tests; changed numpy's error state in 2 tests: undone after each test",
        "",
        "|  | standing | rules | stages | decoding beats recomputation "
        "| the cache holds key value heads |  |",
        "| ---: | --- | ---: | ---: | ---: | ---: | --- |",
        "| 1 | reference | 10/10 | 3/3 | 0.090x | 15,360 B |  |",
        "| 2 | you | 5/10 | 1/3 | 0.43x | 61,440 B |  |",
        "| – | a\\|b&lt;script&gt; | – | – | – | – | \\`x\\` \\*y\\* |",
        "| – | baseline | – | – | 1.00x | 61,440 B |  |",
        "",
        "Next: stage 2, cached: R5 failed (challenges/04\\_kv\\_cache/spec.md\\#caching)",
        "",
        "Not begun: 01\\_mlp",
        "",
        "",
    ]


def test_json_is_the_documented_layout() -> None:
    """What docs/judging.md shows is what is written."""
    now = Practice(kind="solve", tries=3, minutes=34.2, hints=2, of_hints=12)
    mine = challenge(CAROL, budgets=(RACE,), practice=now)
    board = Board(challenges=(mine,), not_begun=("01_mlp",), due=("02_attention",))
    page = (Path(__file__).parent.parent / "docs" / "judging.md").read_text("utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    example = stdlib_json.loads(block)

    written = json.document(board, exit_code=1, at=datetime(2026, 11, 21, 9, 30, tzinfo=UTC))

    assert shape(written) == shape(example)
    assert written["schema"] == "llmgrind-leaderboard/1"
    assert written["at"] == "2026-11-21T09:30:00+00:00"
    assert written["challenges"][0]["budgets"][0]["figure"] == 0.431


def test_the_page_names_every_module_that_is_always_allowed() -> None:
    """What a refused import points to is the list that is enforced."""
    page = (Path(__file__).parent.parent / "docs" / "judging.md").read_text("utf-8")
    (block,) = re.findall(r"plain parts of the standard library:\n\n((?:    .*\n)+)", page)

    assert set(block.split()) == ALWAYS


def shape(value: Any) -> Any:
    """The keys of a JSON value, and of the first element of its lists."""
    if isinstance(value, dict):
        free = {"figures"}  # keyed by the names of budgets
        return {k: "..." if k in free else shape(v) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [shape(value[0])]
    return type(value).__name__ if isinstance(value, (list, bool)) else "value"


def test_json_never_holds_nan(tmp_path: Path) -> None:
    """A figure that is not finite is null: NaN is not JSON."""
    row = replace(RACE, figure=float("nan"), high=float("inf"))
    file = tmp_path / "deep" / "board.json"

    json.write(file, Board(challenges=(challenge(budgets=(row,)),)))

    def refuse(text: str) -> None:
        raise AssertionError(text)

    read = stdlib_json.loads(file.read_text("utf-8"), parse_constant=refuse)
    assert read["challenges"][0]["budgets"][0]["figure"] is None
    assert read["challenges"][0]["budgets"][0]["high"] is None


def test_json_is_written_at_once_or_not_at_all(tmp_path: Path, monkeypatch: Any) -> None:
    """A write that fails leaves the earlier file as it was, and nothing beside it."""
    file = tmp_path / "board.json"
    json.write(file, Board(not_begun=("01_mlp",)))
    before = file.read_bytes()

    def broken(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="No space"):
        json.write(file, Board(not_begun=("02_attention",)))

    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
