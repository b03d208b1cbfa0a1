"""The leaderboard as text for a terminal or a log. Imports rich: load it only to render."""

from __future__ import annotations

from io import StringIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pytest_llmgrind.board import Board, ChallengeBoard
from pytest_llmgrind.report import tables, words
from pytest_llmgrind.report.tables import HARD, READABLE, Look, indented

ASCII = str.maketrans("–±·…─━", "-~|.-=")
LABEL = 10  # columns for "standing", "not begun"
FULL = 4  # challenges in play that are shown in full though they were green before
NAMED = 6  # of those that nobody began


def render(board: Board, look: Look, *, brief: bool = False) -> str:
    """The whole board, or with ``brief`` a line for each challenge and what to do next."""
    console = console_for(look)
    crowded = len(board.challenges) > FULL
    for number, challenge in enumerate(board.challenges):
        passes = challenge.practice is not None and challenge.practice.passed
        if brief or (crowded and challenge.is_green and not passes):
            console.print(_brief(challenge))
            continue
        if number:
            console.print()
        console.print(_challenge(challenge, look))
    for remark in board.remarks:
        console.print(_labelled("note", remark, indent=0))
    if board.not_begun and not brief:
        start = f"llmgrind start {board.not_begun[0]}"
        text = f"{words.few(board.not_begun, NAMED)}: {start}"
        console.print(_labelled("not begun", text, indent=0))
    for challenge in board.challenges:
        console.print(_next(challenge, several=len(board.challenges) > 1))
    if board.due:
        text = f"{words.few(board.due, NAMED)}: llmgrind today"
        console.print(_labelled("due", text, indent=0))
    return fitting(console.file.getvalue(), look)  # type: ignore[attr-defined]


def console_for(look: Look) -> Console:
    """It prints into a text, ``console.file.getvalue()``."""
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
    parts: list[RenderableType] = [_heading(board, look), tables.stages(board, look)]
    for row in board.stages:
        parts += [_labelled(f"stage {row.number}", reason) for reason in row.reasons]
    if not board.is_begun:
        parts.append(_labelled("ahead", words.ahead(board)))
    else:
        parts.append(_labelled("rules", words.rules(board.rules)))
        if board.budgets:
            parts.append(_labelled("budgets", words.budgets(board.budgets)))
            parts += tables.budgets(board, look)
    if board.notes:
        parts.append(_labelled("notes", words.notes(board.notes)))
    if tables.has_entrants(board):
        parts += tables.standing(board, look)
    elif board.is_begun:
        line = " · ".join(words.standing(entry, board.budgets) for entry in board.standing)
        parts.append(_labelled("standing", line))
    parts += [_labelled(label, text) for label, text in words.practice(board)]
    return Group(*parts)


def _heading(board: ChallengeBoard, look: Look) -> Text:
    left = Text.assemble((board.id, "bold"), f"  {words.clean(board.title)}")
    where = words.clean(board.solution)
    gap = min(look.width, READABLE) - left.cell_len - cell_len(where)
    return left.append(" " * gap).append(where, style="dim") if gap >= 2 else left


def _brief(board: ChallengeBoard) -> Text:
    green = sum(stage.is_green for stage in board.stages)
    parts = [f"{green}/{words.plural(len(board.stages), 'stage')}"]
    parts.append(f"{len(board.rules.kept)}/{words.plural(board.rules.total, 'rule')}")
    if board.budgets:
        met = sum(row.met for row in board.budgets)
        parts.append(f"{met}/{words.plural(len(board.budgets), 'budget')}")
    return Text.assemble((board.id, "bold"), f"  {' · '.join(parts)}")


def _next(board: ChallengeBoard, *, several: bool) -> RenderableType:
    step, prefix = board.next, f"{board.id}, " if several else ""
    if step.kind == "done":
        return _labelled("done", f"{prefix}{words.done(board)}", indent=0)
    names_itself = step.kind in ("start", "mend")
    text = step.text if names_itself else f"{prefix}{step.text}"
    return Group(_labelled("next", text, indent=0), _labelled("read", step.read, indent=0))


def _labelled(label: str, text: str, *, indent: int = 2) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, width=LABEL - indent, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(label, Text(words.clean(text)))
    return indented(grid, by=indent)


def fitting(text: str, look: Look) -> str:
    """Without trailing blanks, and in characters that the terminal can write."""
    lines = "\n".join(line.rstrip() for line in text.replace(HARD, " ").splitlines())
    try:
        lines.encode(look.encoding)
    except UnicodeEncodeError:
        return lines.translate(ASCII).encode(look.encoding, "replace").decode(look.encoding)
    return lines
