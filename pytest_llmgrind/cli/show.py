"""llmgrind show: the spec of a challenge."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click

from pytest_llmgrind import spec
from pytest_llmgrind.cli._params import ChallengeDir, NotDone, WrongUsage, manifest_of, shown
from pytest_llmgrind.cli._screen import look

READABLE = 100
LINK = re.compile(r"\[([^\]]+)\]\(#[\w-]+\)")
"""A link within the page, which a terminal cannot follow: its text names the section."""


@click.command()
@click.argument("root", metavar="ID", type=ChallengeDir())
@click.option(
    "--section", metavar="NAME", help="Show one section: rules, prefill-and-decode, #stages."
)
def show(root: Path, section: str | None) -> None:
    """Show the spec of challenge ID.

    On a terminal it is laid out, and paged if it does not fit. Into a pipe it goes as it stands,
    in Markdown. A section has the name that failures give after `spec.md#`.

    \b
    Example:
      llmgrind show 04_kv_cache
      llmgrind show 04_kv_cache --section rules
    """
    path = manifest_of(root).spec
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise NotDone(f"{shown(path)}: cannot be read: {error.strerror}") from error
    if section is not None:
        text = _section(path, text, section)
    if not sys.stdout.isatty():
        click.echo(text, nl=not text.endswith("\n"))
        return
    page = _laid_out(text)
    if page.count("\n") < shutil.get_terminal_size().lines:
        click.echo(page, nl=False)
    else:
        click.echo_via_pager(page)


def _section(path: Path, text: str, name: str) -> str:
    if found := spec.section(text, name):
        return found
    there = [spec.slug(heading) for level, heading in spec.load(path).headings if level > 1]
    raise WrongUsage(f"{shown(path)} has no section {name!r}; there are: {', '.join(there)}")


def _laid_out(text: str) -> str:
    from rich.markdown import Markdown

    from pytest_llmgrind.report.terminal import console_for, fitting

    screen = look()
    screen = replace(screen, width=min(screen.width, READABLE))
    console = console_for(screen)
    console.print(Markdown(LINK.sub(r"*\1*", text), hyperlinks=False))
    return fitting(console.file.getvalue(), screen) + "\n"  # type: ignore[attr-defined]
