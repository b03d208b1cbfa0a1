"""The leaderboard of a cohort, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from pytest_llmgrind import spec
from pytest_llmgrind.cohort.board import CohortBoard, Part, Row
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.report import tables, words
from pytest_llmgrind.report.markdown import table, text
from pytest_llmgrind.report.tables import Column, Look
from pytest_llmgrind.report.terminal import console_for, fitting

UNFENCED = "sandbox: none: solutions ran without walls; install bubblewrap, then give --again"


def render(board: CohortBoard, look: Look) -> str:
    """Ranks, rules of each challenge, and why there are results that are missing or not whole."""
    console = console_for(look)
    fixed = tables.RANKS if board.budgets else tables.RANKS - 1
    for part in tables.ranks(_columns(board), look, fixed=fixed):
        console.print(part)
    for remark in remarks(board):
        console.print(tables.indented(Text(remark)))
    return fitting(console.file.getvalue(), look)  # type: ignore[attr-defined]


def markdown(board: CohortBoard) -> str:
    """The same for a page; every text that came from elsewhere is escaped."""
    columns = list(_columns(board))
    head = [name for name, *_ in columns]
    rows = list(zip(*(cells for _, *cells in columns), strict=True))
    lines = ["## Leaderboard", "", *table(head, "rl" + "r" * (len(columns) - 2), rows)]
    lines += [f"- {text(remark)}" for remark in remarks(board)]
    return "\n".join(lines).rstrip("\n") + "\n"


def remarks(board: CohortBoard) -> Iterator[str]:
    """One line each."""
    if "none" in board.sandboxes:
        yield UNFENCED
    for row in board.rows:
        for id, part in row.parts.items():
            if part.reason:
                yield words.clean(f"{row.entry.name}, {id}: {part.reason}")


def reached(part: Part, manifest: Manifest) -> str:
    """``18/18 rules``, or why there is none."""
    if part.kept is None:
        return words.clean(part.reason)
    rules = f"{words.part(part.kept, len(spec.load(manifest.spec).rules))} rules"
    return words.clean(f"{rules}, {part.reason}" if part.reason else rules)


def _columns(board: CohortBoard) -> Iterator[Column]:
    entries = [row.entry for row in board.rows]
    yield "", *(str(entry.rank or words.NONE) for entry in entries)
    yield "entrant", *(words.cut(entry.name) for entry in entries)
    yield "rules", *(words.part(entry.kept, board.rules) for entry in entries)
    yield "stages", *(words.part(entry.stages, board.stages) for entry in entries)
    if board.budgets:
        yield "budgets", *(_budgets(row, board.budgets) for row in board.rows)
    for course in board.courses if len(board.courses) > 1 else ():
        parts = [row.parts.get(course.id, Part()) for row in board.rows]
        yield course.id, *(words.part(part.kept, course.rules) for part in parts)


def _budgets(row: Row, total: int) -> str:
    """None where nothing was graded; an entrant that never came to a budget met 0."""
    return words.part(None if row.entry.kept is None else row.entry.met, total)
