"""The tables of a challenge on the board, in the width that there is. Imports rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.box import Box
from rich.cells import cell_len
from rich.console import JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmgrind.board import BudgetRow, ChallengeBoard, StageRow
from pytest_llmgrind.report import words

# A line under the head of a table, and no other.
RULED = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
COLOURS = {
    "ok": "green",
    "todo": "yellow",
    "skipped": "yellow",
    "not run": "yellow",
    "undecided": "yellow",
    "not measured": "yellow",
}
READABLE = 100  # columns that a title and its score may be apart
NAME = 20  # columns that the name of a budget needs in a table
BAR = 10
FIGURES = ("yours", "reference", "baseline", "was")
RANKS = 5  # columns of a standing before its figures
HARD = "\ue000"  # a blank at which no line ends

Column = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the terminal can show."""

    width: int = 80
    colour: bool = False
    lines: bool = False
    encoding: str = "utf-8"


def stages(board: ChallengeBoard, look: Look) -> RenderableType:
    """A line for each stage: number, name, title, tests passed, word."""
    width = min(look.width, READABLE)
    grid = _grid(look, width=width - 2)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    bars = look.lines and width >= 80
    if bars:
        grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    for row in board.stages:
        cells: list[RenderableType] = [str(row.number), row.name, Text(words.clean(row.title))]
        cells += [_bar(row)] if bars else []
        cells += [f"{row.passed}/{row.total}", _word(words.stage_word(row), row.word)]
        grid.add_row(*cells)
    return indented(grid)


def budgets(board: ChallengeBoard, look: Look) -> Iterator[RenderableType]:
    """The budgets that have a figure: a table, or where it has no room two lines for each."""
    others = {name for entry in board.standing for name in entry.figures}
    rows = [row for row in board.budgets if row.figure is not None or row.name in others]
    if not rows:
        return
    names = _letters(board)
    columns = list(_budget_columns(rows, names))
    needed = _width(columns)
    longest = max(len(words.title(row)) for row in rows)
    if needed - max(longest - NAME, 0) > look.width:
        for row in rows:
            yield from _listed(row, names.get(row.name, ""))
        return
    grid = _grid(look, head=True)
    for name, *_ in columns:
        side: JustifyMethod = "right" if name in ("limit", *FIGURES) else "left"
        grid.add_column(name, justify=side, no_wrap=name != "budget")
    for number, row in enumerate(rows, start=1):
        *cells, word = (column[number] for column in columns)
        grid.add_row(*cells, _word(word, words.verdict(row)))
    yield indented(grid)


def standing(board: ChallengeBoard, look: Look) -> Iterator[RenderableType]:
    """One table, or where it has no room a table of ranks and others of figures."""
    bold = [entry.kind == "you" for entry in board.standing]
    yield from ranks(_standing_columns(board), look, bold=bold)
    for entry in board.standing:
        if entry.reason:
            yield indented(Text(f"{words.clean(entry.name)}: {words.clean(entry.reason)}"))


def ranks(
    columns: Iterable[Column], look: Look, *, fixed: int = RANKS, bold: Sequence[bool] = ()
) -> Iterator[RenderableType]:
    """Columns, each with its head: the first is a rank, the second a name.

    Where not all have room, the first ``fixed`` make a table, and the others more of them.
    """
    for chosen in _chosen(columns, fixed, look.width):
        grid = _grid(look, head=True)
        for number, (head, *_) in enumerate(chosen):
            grid.add_column(head, justify="left" if number == 1 else "right", no_wrap=True)
        for number, cells in enumerate(zip(*(column[1:] for column in chosen), strict=True)):
            grid.add_row(*cells, style="bold" if number < len(bold) and bold[number] else "")
        yield indented(grid)


def has_entrants(board: ChallengeBoard) -> bool:
    return any(entry.kind == "entrant" for entry in board.standing)


def indented(what: RenderableType, *, by: int = 2) -> Padding:
    return Padding(what, (0, 0, 0, by))


def _bar(row: StageRow) -> Text:
    done = BAR * row.passed // row.total if row.total else 0
    return Text.assemble(("━" * done, _colour(row.word)), ("─" * (BAR - done), "dim"))


def _word(text: str, word: str) -> Text:
    return Text(text, style=_colour(word))


def _colour(word: str) -> str:
    return COLOURS.get(word, "red")


def _letters(board: ChallengeBoard) -> dict[str, str]:
    """Names for budgets where they head the columns of a standing."""
    if not has_entrants(board):
        return {}
    return {row.name: chr(ord("a") + number) for number, row in enumerate(board.budgets)}


def _budget_columns(rows: Sequence[BudgetRow], letters: Mapping[str, str]) -> Iterator[Column]:
    if letters:
        yield "", *(letters[row.name] for row in rows)
    yield "budget", *map(words.title, rows)
    yield "limit", *map(words.limit, rows)
    yield "yours", *map(words.yours, rows)
    for name in FIGURES[1:]:
        if name != "was" or any(row.was is not None for row in rows):
            yield name, *(words.figure(getattr(row, name), row) for row in rows)
    yield "", *map(words.verdict, rows)


def _listed(row: BudgetRow, letter: str) -> Iterator[RenderableType]:
    word = words.verdict(row)
    title = f"{letter}  {words.title(row)}" if letter else words.title(row)
    figures = [f"yours {words.yours(row)}", f"limit {words.limit(row)}"]
    for name in FIGURES[1:]:
        if getattr(row, name) is not None:
            figures.append(f"{name} {words.figure(getattr(row, name), row)}")
    yield indented(Text.assemble(f"{title}: ", (word, _colour(word))))
    yield indented(Text(" · ".join(text.replace(" ", HARD) for text in figures)), by=4)


def _standing_columns(board: ChallengeBoard) -> Iterator[Column]:
    entries, letters = board.standing, _letters(board)
    yield "", *(str(entry.rank or words.NONE) for entry in entries)
    yield "standing", *(words.cut(entry.name) for entry in entries)
    yield "rules", *(words.part(entry.kept, board.rules.total) for entry in entries)
    yield "stages", *(words.part(entry.stages, len(board.stages)) for entry in entries)
    met = [entry.met if entry.figures else None for entry in entries]
    yield "budgets", *(words.part(count, len(board.budgets)) for count in met)
    for row in board.budgets:
        if any(row.name in entry.figures for entry in entries):
            figures = [words.figure(entry.figures.get(row.name), row) for entry in entries]
            yield letters[row.name], *figures


def _chosen(every: Iterable[Column], fixed: int, width: int) -> Iterator[Sequence[Column]]:
    """All columns, or the first ``fixed`` and then the others, as many at once as have room."""
    columns = list(every)
    if _width(columns) <= width:
        yield columns
        return
    yield columns[:fixed]
    names, rest = columns[:2], columns[fixed:]
    while rest:
        count = 1
        while count < len(rest) and _width([*names, *rest[: count + 1]]) <= width:
            count += 1
        yield [*names, *rest[:count]]
        rest = rest[count:]


def _width(columns: Sequence[Column]) -> int:
    """What a table takes: its columns, each with two blanks, of which one pair is the indent."""
    return sum(max(map(cell_len, column)) + 2 for column in columns)


def _grid(look: Look, *, head: bool = False, width: int | None = None) -> Table:
    ruled = head and look.lines
    return Table(
        box=RULED if ruled else None,
        show_header=head,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if ruled else 2, 0, 0),  # the box puts a blank between columns
        header_style="dim",
        width=width,
    )
