"""The leaderboard as text for a terminal or a log. Imports rich: load it only to render."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pytest_llmgrind.board import Board, ChallengeBoard
from pytest_llmgrind.report import words
from pytest_llmgrind.standing import Entry

# A line under the head of a table, and no other.
RULED = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
COLOURS = {"ok": "green", "todo": "yellow", "skipped": "yellow", "not run": "yellow"}
ASCII = str.maketrans({"–": "-", "±": "+", "·": "|", "…": ".", "─": "-", "�": "?"})
LABEL = 9
RANK_COLUMNS = 46  # what a standing takes without its figures
FIGURE_COLUMN = 11


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the terminal can show."""

    width: int = 80
    colour: bool = False
    lines: bool = False
    encoding: str = "utf-8"


def render(board: Board, look: Look, *, brief: bool = False) -> str:
    """The whole board, or with ``brief`` a line for each challenge and what to do next."""
    console = _console(look)
    blocks = [_brief(c) if brief else _challenge(c, look) for c in board.challenges]
    for number, block in enumerate(blocks):
        if number and not brief:
            console.print()
        console.print(block)
    for remark in board.remarks:
        console.print(_labelled("note", remark))
    if board.not_begun and not brief:
        console.print(_labelled("not begun", _not_begun(board), indent=0))
    for challenge in board.challenges:
        console.print(_next(challenge, several=len(board.challenges) > 1))
    return _fitting(console.file.getvalue(), look)  # type: ignore[attr-defined]


def _console(look: Look) -> Console:
    return Console(
        file=StringIO(),
        width=look.width,
        height=25,  # given, or a dumb terminal would be 80 columns wide
        color_system="standard" if look.colour else None,
        force_terminal=look.colour,
        no_color=not look.colour,
        force_jupyter=False,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _challenge(board: ChallengeBoard, look: Look) -> Group:
    parts: list[RenderableType] = [_heading(board, look), _stages(board, look)]
    parts += _reasons(board)
    if board.is_begun:
        parts.append(_labelled("rules", words.rules(board.rules)))
        parts += _budgets(board, look)
    if board.notes:
        parts.append(_labelled("notes", words.notes(board.notes)))
    if any(entry.kind == "entrant" for entry in board.standing):
        parts.append(_standing(board, look))
    elif board.is_begun:
        line = " · ".join(words.standing(entry, board.budgets) for entry in board.standing)
        parts.append(_labelled("standing", line))
    return Group(*parts)


def _heading(board: ChallengeBoard, look: Look) -> RenderableType:
    left = Text(board.id, style="bold").append(f"  {board.title}", style="not bold")
    right = Text(words.clean(board.solution), style="dim")
    room = look.width - left.cell_len - 2
    if right.cell_len > room:
        return left
    return left + Text(" " * (look.width - left.cell_len - right.cell_len)) + right


def _grid(look: Look, *, head: bool) -> Table:
    return Table(
        box=RULED if head and look.lines else None,
        show_header=head,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )


def _stages(board: ChallengeBoard, look: Look) -> RenderableType:
    grid = _grid(look, head=False)
    grid.expand = True
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    for row in board.stages:
        count = f"{row.passed}/{row.total}"
        word = Text(words.stage_word(row), style=COLOURS.get(row.word, "red"))
        grid.add_row(str(row.number), row.name, Text(row.title, style="dim"), count, word)
    return Padding(grid, (0, 0, 0, 2))


def _reasons(board: ChallengeBoard) -> Iterator[RenderableType]:
    for row in board.stages:
        for reason in row.reasons:
            yield _labelled(f"stage {row.number}", words.clean(reason))


def _budgets(board: ChallengeBoard, look: Look) -> Iterator[RenderableType]:
    if not board.budgets:
        return
    measured = [row for row in board.budgets if row.figure is not None]
    met = sum(row.met for row in board.budgets)
    why = words.unmeasured(board.budgets)
    text = f"{met} of {len(board.budgets)} met" + (f", {why}" if why else "")
    yield _labelled("budgets", text)
    if not measured:
        return
    grid = _grid(look, head=True)
    letters = _letters(board)
    if letters:
        grid.add_column("", no_wrap=True)
    grid.add_column("budget", ratio=1)
    for name in ("limit", "yours", "reference", "baseline"):
        grid.add_column(name, justify="right", no_wrap=True)
    was = any(row.was is not None for row in measured)
    if was:
        grid.add_column("was", justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for row in measured:
        cells = [letters[row.name]] if letters else []
        cells += [words.title(row), words.limit(row), words.yours(row)]
        cells += [words.figure(value, row) for value in (row.reference, row.baseline)]
        cells += [words.figure(row.was, row)] if was else []
        word = words.verdict(row)
        grid.add_row(*cells, Text(word, style=COLOURS.get(word, "red")))
    yield Padding(grid, (0, 0, 0, 2))


def _letters(board: ChallengeBoard) -> dict[str, str]:
    """Names for the budgets that head the columns of a standing."""
    if not any(entry.kind == "entrant" for entry in board.standing):
        return {}
    return {row.name: chr(ord("a") + number) for number, row in enumerate(board.budgets)}


def _standing(board: ChallengeBoard, look: Look) -> RenderableType:
    grid, letters = _grid(look, head=True), _letters(board)
    room = look.width - RANK_COLUMNS
    rows = [row for row in board.budgets if any(row.name in e.figures for e in board.standing)]
    shown = rows if len(rows) * FIGURE_COLUMN <= room else []
    grid.add_column("", justify="right", no_wrap=True)
    grid.add_column("standing", no_wrap=True, overflow="ellipsis", max_width=20)
    for name in ("rules", "stages", "budgets"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        grid.add_column(letters[row.name], justify="right", no_wrap=True)
    grid.add_column("", overflow="fold")
    for entry in board.standing:
        figures = [words.figure(entry.figures.get(row.name), row) for row in shown]
        style = "bold" if entry.kind == "you" else ""
        grid.add_row(*_entry(entry, board), *figures, words.clean(entry.reason), style=style)
    return Padding(grid, (0, 0, 0, 2))


def _entry(entry: Entry, board: ChallengeBoard) -> Sequence[str]:
    kept = words.NONE if entry.kept is None else f"{entry.kept}/{board.rules.total}"
    stages = words.NONE if entry.stages is None else f"{entry.stages}/{len(board.stages)}"
    met = f"{entry.met}/{len(board.budgets)}" if entry.figures else words.NONE
    return str(entry.rank or words.NONE), words.clean(entry.name), kept, stages, met


def _brief(board: ChallengeBoard) -> RenderableType:
    green = sum(stage.is_green for stage in board.stages)
    parts = [f"{green}/{words.plural(len(board.stages), 'stage')}"]
    parts.append(f"{len(board.rules.kept)}/{words.plural(board.rules.total, 'rule')}")
    if board.budgets:
        met = sum(row.met for row in board.budgets)
        parts.append(f"{met}/{words.plural(len(board.budgets), 'budget')}")
    return Text(f"{board.id}  {' · '.join(parts)}")


def _next(board: ChallengeBoard, *, several: bool) -> RenderableType:
    label = f"next {board.id}" if several else "next"
    step = board.next
    if step.kind == "done":
        return _labelled(board.id if several else "done", words.done(board), indent=0)
    return _labelled(label, f"{words.clean(step.text)}\n{words.clean(step.read)}", indent=0)


def _labelled(label: str, text: str, *, indent: int = 2) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, width=max(LABEL - indent, len(label)), style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(label, text)
    return Padding(grid, (0, 0, 0, indent))


def _not_begun(board: Board) -> str:
    return f"{', '.join(board.not_begun)}: llmgrind start {board.not_begun[0]}"


def _fitting(text: str, look: Look) -> str:
    """Without trailing blanks, and in characters that the terminal can write."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    try:
        lines.encode(look.encoding)
    except (UnicodeEncodeError, LookupError):
        return lines.translate(ASCII)
    return lines
