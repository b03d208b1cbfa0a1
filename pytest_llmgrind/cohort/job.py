"""What there is to grade: every entrant of a directory, every challenge that it has a file for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pytest_llmgrind import spec
from pytest_llmgrind.cohort import bundle
from pytest_llmgrind.cohort.bundle import Bundle, Refused
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.plain import line
from pytest_llmgrind.tiers import GPUS_NEEDED


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for all jobs of a run. It goes to other machines with them."""

    limit_s: float = 300.0
    """Seconds that a job may take before what it has is its result."""
    seed: str = field(default="", repr=False)
    """The secret that ``LLMGRIND_SEED`` holds."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One entrant's solution of one challenge.

    ``gpus`` are those that its tiers can use, ``refused`` says why it is not run.
    """

    entrant: str
    challenge: str
    gpus: int = 0
    solution: Bundle
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A challenge as it is handed to whoever grades it."""

    manifest: Manifest
    files: Bundle

    @cached_property
    def rules(self) -> Mapping[str, str]:
        """The sentence of each rule, by its id."""
        return {rule.id: rule.sentence for rule in spec.load(self.manifest.spec).rules}

    @classmethod
    def of(cls, manifest: Manifest) -> Exam:
        """Raises OSError where its files cannot be read."""
        return cls(manifest=manifest, files=bundle.of_challenge(manifest))


@dataclass(frozen=True, kw_only=True)
class Roll:
    """The jobs of a directory of submissions, by entrant and challenge; remarks of one line."""

    jobs: Sequence[Job]
    exams: Mapping[str, Exam]
    remarks: Sequence[str]

    @property
    def entrants(self) -> list[str]:
        return list(dict.fromkeys(job.entrant for job in self.jobs))


def call(directory: Path, manifests: Sequence[Manifest], *, named: bool) -> Roll:
    """Who is there, and with what.

    Without ``named``, challenges that nobody has a file for are left out.

    Raises
    ------
    OSError
        The directory, or a challenge, cannot be read.
    """
    jobs: list[Job] = []
    remarks: list[str] = []
    for home, wrong in _homes(directory):
        found = [] if wrong else list(of_entrant(home.name, home, manifests))
        if not found:
            wrong = wrong or "has a solution of none of the challenges"
            name = line(home.name.encode("utf-8", "replace").decode())
            remarks.append(f"{name}: left out: {wrong}")
        jobs += found
    there = {job.challenge for job in jobs}
    exams = {m.id: Exam.of(m) for m in manifests if named or m.id in there}
    return Roll(jobs=jobs, exams=exams, remarks=remarks)


def _homes(directory: Path) -> Iterator[tuple[Path, str]]:
    """What lies there, in order, and why it is no entrant; what is hidden is nobody."""
    for path in sorted(directory.iterdir()):
        if path.name[0] in "._":
            continue
        if path.is_symlink():
            yield path, "it is a link"
        elif not path.is_dir():
            yield path, "it is no directory"
        elif not os.access(path, os.R_OK | os.X_OK):
            yield path, "it cannot be read"
        elif not _is_text(path.name):
            yield path, "its name is not UTF-8"
        else:
            yield path, ""


def of_entrant(name: str, home: Path, manifests: Sequence[Manifest]) -> Iterator[Job]:
    """What lies in the entrant's directory."""
    for manifest in manifests:
        refused, solution = "", None
        try:
            solution = bundle.of_solution(manifest, home)
        except Refused as why:
            refused = str(why)
        if solution is not None or refused:
            yield Job(
                entrant=name,
                challenge=manifest.id,
                gpus=_gpus(manifest),
                solution=solution or Bundle({}),
                refused=refused,
            )


def _gpus(manifest: Manifest) -> int:
    """As many as the most demanding of its stages can use."""
    tiers = [tier for stage in manifest.stages for tier in stage.tiers]
    return max((GPUS_NEEDED.get(tier, 0) for tier in tiers), default=0)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
