"""What verbs share that print tables: they are aligned, and as wide as the screen."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pytest_llmgrind.report.tables import Look

NARROW = 6
"""Columns that the stretched cell keeps, however wide the others are."""


@dataclass(frozen=True)
class Column:
    """A column; ``fit`` gives it the room that the others leave, and cuts what is longer."""

    head: str
    right: bool = False
    fit: bool = False


def look() -> Look:
    """What standard output can show: 80 columns where it is no terminal."""
    from pytest_llmgrind.report.tables import Look

    context = click.get_current_context(silent=True)
    asked = context.color if context else None
    terminal = sys.stdout.isatty()
    return Look(
        width=shutil.get_terminal_size().columns if terminal else 80,
        colour=terminal and os.environ.get("TERM") != "dumb" if asked is None else asked,
        lines=terminal,
        encoding=getattr(sys.stdout, "encoding", None) or "utf-8",
    )


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    like: Sequence[Sequence[str]] = (),
    colours: dict[str, str] | None = None,
) -> str:
    """A head and a line for each row. ``like`` are more rows for whose cells there is room.

    ``colours`` maps the text of a cell, or its beginning, to a colour.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    from pytest_llmgrind.report.terminal import console_for, fitting

    shape = look()
    cells = [[column.head for column in columns], *(list(row) for row in (*rows, *like))]
    widths = [max(cell_len(row[n]) for row in cells) for n in range(len(columns))]
    for number, column in enumerate(columns):
        if column.fit:
            others = sum(widths) - widths[number] + 2 * (len(widths) - 1)
            widths[number] = min(widths[number], max(shape.width - others, NARROW))
    grid = Table.grid(padding=(0, 2, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=width,
        )
    grid.add_row(*(Text(column.head, style="dim") for column in columns))
    for row in rows:
        grid.add_row(*(Text(cell, style=_colour(cell, colours or {})) for cell in row))
    console = console_for(shape)
    console.print(grid)
    return fitting(console.file.getvalue(), shape)  # type: ignore[attr-defined]


def _colour(cell: str, colours: dict[str, str]) -> str:
    return next((colour for text, colour in colours.items() if cell.startswith(text)), "")
