"""A pull request: which solutions its head changes, and what else.

Of the head, nothing is read but regular files below the directories of solutions. The grader,
the challenges, their hidden tests and the references are those of the base.

Knows nothing about pytest, click or git: base and head are two directories.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind.cohort import job
from pytest_llmgrind.cohort.job import Exam, Job, Roll
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.plain import line
from pytest_llmgrind.workspace import Workspace

SOLUTIONS = "solutions"
SUBMISSIONS = "submissions"
"""Holds a directory for each entrant."""
NEW, CHANGED = "new", "changed"


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """What the head hands in, and what it changes beside that.

    ``kinds`` says for each job, by entrant and challenge, whether it is new or changed; ``removed``
    are those of the base that the head has not; ``refused`` are directories of solutions that are
    links, ``unused`` all other files that differ.
    """

    roll: Roll
    kinds: Mapping[tuple[str, str], str]
    removed: Sequence[tuple[str, str]]
    refused: Sequence[str]
    unused: Sequence[str]


def read(base: Workspace, head: Path, manifests: Sequence[Manifest]) -> PullRequest:
    """Compare two checkouts. Raises OSError where one cannot be read."""
    alone = Path(SOLUTIONS)
    if base.solutions.is_relative_to(base.root):
        alone = base.solutions.relative_to(base.root)
    refused: list[str] = []
    before = dict(_jobs(base.root, alone, manifests, []))
    now = dict(_jobs(head, alone, manifests, refused))
    kinds = {
        name: CHANGED if name in before else NEW
        for name, it in now.items()
        if it.refused or name not in before or before[name].solution.digest != it.solution.digest
    }
    touched = {id for _, id in kinds}
    return PullRequest(
        roll=Roll(
            jobs=[now[name] for name in kinds],
            exams={m.id: Exam.of(m) for m in manifests if m.id in touched},
            remarks=(),
        ),
        kinds=kinds,
        removed=sorted(before.keys() - now.keys()),
        refused=refused,
        unused=sorted(_differing(base.root, head, {alone.parts[0], SUBMISSIONS})),
    )


def _jobs(
    root: Path, alone: Path, manifests: Sequence[Manifest], refused: list[str]
) -> Iterator[tuple[tuple[str, str], Job]]:
    """By entrant and challenge; an entrant is named by its directory: submissions/ada."""
    homes = [alone]
    if (root / SUBMISSIONS).is_dir() and not (root / SUBMISSIONS).is_symlink():
        names = sorted(path.name for path in (root / SUBMISSIONS).iterdir())
        homes += [Path(SUBMISSIONS, name) for name in names if name[0] not in "._"]
    elif (root / SUBMISSIONS).is_symlink():
        refused.append(SUBMISSIONS)
    for home in homes:
        if any((root / part).is_symlink() for part in (home, *home.parents[:-1])):
            refused.append(line(str(home)))
        elif (root / home).is_dir():
            for found in job.of_entrant(str(home), root / home, manifests):
                yield (found.entrant, found.challenge), found


def _differing(base: Path, head: Path, solutions: set[str]) -> Iterator[str]:
    """Files outside the directories of solutions that are not alike, by their relative path."""
    theirs, ours = set(_walk(head, solutions)), set(_walk(base, solutions))
    for name in theirs | ours:
        if name not in theirs or name not in ours or not _alike(base / name, head / name):
            yield line(name)


def _walk(root: Path, solutions: set[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name not in solutions]
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = [name for name in folders if name == ".github" or not _is_litter(name)]
        for name in {*files, *linked} - {".git"}:
            yield str(Path(folder, name).relative_to(root))


def _is_litter(name: str) -> bool:
    """What tools leave behind and git does not hold."""
    return name.startswith(".") or name in {"__pycache__", "node_modules", "venv"}


def _alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        linked = one.is_symlink() and other.is_symlink()
        return linked and os.readlink(one) == os.readlink(other)
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
