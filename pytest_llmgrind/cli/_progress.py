"""What verbs share that take minutes: how far they are, on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Silent:
    """No progress: standard error is no terminal."""

    def step(self, id: str, what: str) -> None:
        pass

    def hidden(self) -> AbstractContextManager[None]:
        return nullcontext()


class Bar(Silent):
    """A bar of what is done, and what is being done now."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        busy = TextColumn(
            "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")
        )
        columns = (BarColumn(), MofNCompleteColumn(), busy)
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=total)
        self._now: dict[str, str] = {}

    def step(self, id: str, what: str) -> None:
        """Called from several threads; ``what`` is empty when a challenge is done."""
        self._now[id] = what
        if not what:
            self._progress.advance(self._task)
        busy = ", ".join(f"{id} {what}" for id, what in list(self._now.items()) if what)
        self._progress.update(self._task, description=busy)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        self._progress.stop()
        yield
        self._progress.start()

    @contextmanager
    def shown(self) -> Iterator[Bar]:
        with self._progress:
            yield self


def progress(total: int) -> AbstractContextManager[Silent]:
    """A bar where standard error is a terminal."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bar(total).shown()
    return nullcontext(Silent())
