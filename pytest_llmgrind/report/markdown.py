"""The leaderboard as Markdown, for the summary page of a CI run."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence

from pytest_llmgrind.board import Board, ChallengeBoard, StageRow
from pytest_llmgrind.report import words
from pytest_llmgrind.standing import Entry


def render(board: Board) -> str:
    """The whole board; every text that came from elsewhere is escaped."""
    lines = ["## Leaderboard", ""]
    for challenge in board.challenges:
        lines += _challenge(challenge)
    for remark in board.remarks:
        lines += [text(remark), ""]
    if board.not_begun:
        lines += [f"Not begun: {', '.join(map(text, board.not_begun))}", ""]
    return "\n".join(lines) + "\n"


def _challenge(board: ChallengeBoard) -> Iterator[str]:
    yield f"### {text(board.id)} · {text(board.title)}"
    yield ""
    rows = [
        (f"{row.number} {row.name}", row.title, f"{row.passed}/{row.total}", _word(row))
        for row in board.stages
    ]
    yield from table(("stage", "", "tests", ""), "llrl", rows)
    yield f"Rules: {text(words.rules(board.rules))}"
    yield ""
    if board.budgets:
        yield from _budgets(board)
    if board.notes:
        yield f"Notes: {text(words.notes(board.notes))}"
        yield ""
    if board.is_begun:
        yield from _standing(board)
    yield _next(board)
    yield ""


def _word(row: StageRow) -> str:
    return "; ".join([words.stage_word(row), *row.reasons])


def _budgets(board: ChallengeBoard) -> Iterator[str]:
    rows = [
        (
            words.title(row),
            words.limit(row),
            words.yours(row),
            words.figure(row.reference, row),
            words.figure(row.baseline, row),
            words.figure(row.was, row),
            words.verdict(row),
        )
        for row in board.budgets
    ]
    head = ("budget", "limit", "yours", "reference", "baseline", "was", "")
    yield from table(head, "lrrrrrl", rows)


def _standing(board: ChallengeBoard) -> Iterator[str]:
    head = ("", "standing", "rules", "stages", *(words.title(row) for row in board.budgets), "")
    rows = [_entry(entry, board) for entry in board.standing]
    yield from table(head, f"rlrr{'r' * len(board.budgets)}l", rows)


def _entry(entry: Entry, board: ChallengeBoard) -> Sequence[str]:
    figures = [words.figure(entry.figures.get(row.name), row) for row in board.budgets]
    kept = words.part(entry.kept, board.rules.total)
    stages = words.part(entry.stages, len(board.stages))
    return (str(entry.rank or words.NONE), entry.name, kept, stages, *figures, entry.reason)


def _next(board: ChallengeBoard) -> str:
    if board.is_green:
        return text(words.done(board))
    return f"Next: {text(board.next.text)} ({text(board.next.read)})"


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """``align`` has an l or an r for each column."""
    yield _row(head)
    yield _row(["---:" if side == "r" else "---" for side in align], escape=False)
    for row in rows:
        yield _row(row)
    yield ""


def _row(cells: Iterable[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(text(cell) if escape else cell for cell in cells)} |"


def text(text: str) -> str:
    """Nothing in it is Markdown or HTML."""
    escaped = html.escape(words.clean(text), quote=False)
    for character in "\\`*_[]|#~":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
