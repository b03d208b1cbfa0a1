"""What was saved: watchfiles says when to look, the look says what is new.

A look compares time, size and number of each file with the look before. So it does not matter
whether an editor writes a file in place, renames another to its name, or removes and makes it anew,
and what editors put beside it is never seen. There is a look every second too, for directories that
come later, links, and file systems that tell nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmgrind.manifest import MANIFEST
from pytest_llmgrind.workspace import Workspace

SETTLED_MS = 40
"""So long nothing more has to come, until a save counts as done."""
LONGEST_MS = 200
LOOK_EVERY_MS = 1000
Print = tuple[int, int, int]


def solution_files(solutions: Path, id: str) -> list[Path]:
    """The files of a solution that are there: the file, else those of the package."""
    file, package = solutions / f"{id}.py", solutions / id
    return [file] if file.is_file() else sorted(package.rglob("*.py"))


def last_changed(workspace: Workspace) -> str | None:
    """The challenge whose solution was changed last; None where there is no solution."""
    times = {}
    for id in workspace.ids:
        found = [_print(file) for file in solution_files(workspace.solutions, id)]
        if known := [each for each in found if each]:
            times[id] = max(known)
    return max(times, key=lambda id: times[id], default=None)


@dataclass(frozen=True)
class Look:
    """Every file that counts, as it was at one moment.

    ``solutions`` are those of each challenge, ``task`` the files of the challenge ``id`` itself.
    """

    id: str
    solutions: dict[str, dict[Path, Print]]
    task: dict[Path, Print]

    @classmethod
    def at(cls, workspace: Workspace, id: str, *, alone: bool) -> Look:
        """The solutions of all challenges, or with ``alone`` of ``id``, and the task ``id``."""
        ids = (id,) if alone else Workspace(workspace.root).ids  # a new one may have been added
        solutions = {each: _prints(solution_files(workspace.solutions, each)) for each in ids}
        root = workspace.challenges / id
        hidden = [path for path in root.glob("hidden/*") if path.suffix in (".py", ".toml")]
        task = [root / MANIFEST, root / "spec.md", root / "stub.py", *hidden]
        return cls(id, solutions, _prints(task))

    def saved_since(self, before: Look) -> frozenset[str]:
        """The challenges with a file that is new or other; one that is gone is no save."""
        ids = {
            id
            for id, files in self.solutions.items()
            if files.items() - before.solutions.get(id, {}).items()
        }
        if self.id == before.id and self.task.items() - before.task.items():
            ids.add(self.id)
        return frozenset(ids)


@dataclass(eq=False)
class Saves:
    """Watches in a thread and calls ``tell`` with the ids of the challenges that were saved."""

    workspace: Workspace
    id: str
    tell: Callable[[frozenset[str]], None]
    alone: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._last = self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Saves:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> Look:
        return Look.at(self.workspace, self.id, alone=self.alone)

    def _watch(self) -> None:
        for _ in self._moments():
            before = self._last
            with contextlib.suppress(OSError):  # a directory that may not be read just now
                self._last = self._look()
            if ids := self._last.saved_since(before):
                self.tell(ids)

    def _moments(self) -> Iterator[None]:
        """When to look: at every change, and once a second."""
        while not self._stop.is_set():
            places = self._places()
            try:
                for _ in self._changes([path for path, _ in places]):
                    yield
                    if self._places() != places:  # a directory came, went or was exchanged
                        break
            except (OSError, RuntimeError):  # no inotify watch is left: look more often instead
                self._stop.wait(LONGEST_MS / 1000)
            yield

    def _changes(self, paths: list[Path]) -> Iterator[object]:
        from watchfiles import watch

        return watch(
            *paths,
            watch_filter=None,
            debounce=LONGEST_MS,
            step=SETTLED_MS,
            stop_event=self._stop,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )

    def _places(self) -> list[tuple[Path, int]]:
        found = (self.workspace.solutions, self.workspace.challenges)
        return [(path, path.stat().st_ino) for path in found if path.is_dir()]


def _prints(files: list[Path]) -> dict[Path, Print]:
    return {file: known for file in files if (known := _print(file))}


def _print(file: Path) -> Print | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
