"""Which rank failed first, and the exception that says so."""

from __future__ import annotations

import linecache
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmgrind.rank.errors import Place, RankDied, RankHung, of_type, with_places
from pytest_llmgrind.rank.job import Job

_STACK_LINE = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_HERE = str(Path(__file__).parent)
_DISTRIBUTED = re.compile(r"[/\\]torch[/\\]distributed[/\\]")
_CONSEQUENCE = re.compile(r"connection (was )?(closed|reset|aborted)|socket|broken pipe", re.I)


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit code, below zero for a signal; whether time was up for it."""

    code: int
    late: bool


def failure(job: Job, endings: list[Ending]) -> Exception | None:
    """The exception of the rank that failed first; None where all returned.

    When a rank fails, others fail because of it: their connection to it breaks. So what a rank
    died of comes before broken connections, and of several the earliest.
    """
    told = {rank: _told(job, rank) for rank in range(job.world_size)}
    raised = {r: (each["at_s"], each["text"]) for r, each in told.items() if "type" in each}
    silent = [
        rank for rank, ending in enumerate(endings)
        if not told[rank] and not ending.late and not _killed(ending)
    ]  # fmt: skip
    rank = first(raised, silent)
    if rank is not None:
        return _raised(job, told, rank) if rank in raised else _died(job, rank, endings[rank])
    late = [rank for rank, ending in enumerate(endings) if ending.late]
    return _hung(job, late) if late else None


def first(raised: Mapping[int, tuple[float, str]], died: Sequence[int]) -> int | None:
    """The rank whose failure is not a consequence, of those that raised (when, and the text) or
    died; None where none did."""
    own = {rank: at_s for rank, (at_s, text) in raised.items() if not _CONSEQUENCE.search(text)}
    if own:
        return min(own, key=lambda rank: own[rank])
    if died:
        return died[0]
    return min(raised, key=lambda rank: raised[rank]) if raised else None


def _told(job: Job, rank: int) -> dict[str, Any]:
    try:
        return job.read("result", rank) or {}
    except ValueError:
        return {}


def _killed(ending: Ending) -> bool:
    """Ended by us, when another rank had failed."""
    return ending.code == -signal.SIGKILL


def _raised(job: Job, told: dict[int, dict[str, Any]], rank: int) -> Exception:
    result = told[rank]
    error = of_type(result["type"], result["args"], result["text"], rank=rank)
    error.add_note(f"on rank {rank} of {job.world_size}")
    returned = [other for other, result in told.items() if "value" in result]
    if returned and _CONSEQUENCE.search(result["text"]):
        error.add_note(f"{names(returned)} had returned by then")
    return with_places(error, _outside([Place(*place) for place in result["places"]]))


def _died(job: Job, rank: int, ending: Ending) -> Exception:
    how = f"ended with exit code {ending.code}"
    if ending.code < 0:
        how = f"was ended by {signal.Signals(-ending.code).name}"
    text = f"rank {rank} of {job.world_size} {how} before it returned"
    return with_places(RankDied(text, rank=rank), _stack(job, rank))


def _hung(job: Job, late: list[int]) -> Exception:
    """Blame a rank that runs; if all wait for others, the first of them."""
    stacks = {rank: _stack(job, rank) for rank in late}
    waiting = [rank for rank in late if _waits(stacks[rank])]
    running = [rank for rank in late if rank not in waiting]
    rank = (running or waiting)[0]
    lines = [f"no answer from {names(late)} within {job.timeout_s:g} s"]
    for each in range(job.world_size):
        what = "runs" if each in running else "waits for others" if each in waiting else "returned"
        lines.append(f"rank {each} {what}{_at(stacks.get(each, []))}")
    return with_places(RankHung("\n  ".join(lines), rank=rank), _outside(stacks[rank]))


def _waits(stack: list[Place]) -> bool:
    """Inside torch.distributed, or at the wait of something that it gave."""
    if not stack:
        return False
    line = linecache.getline(stack[-1].file, stack[-1].line)
    return _DISTRIBUTED.search(stack[-1].file) is not None or ".wait(" in line


def _at(stack: list[Place]) -> str:
    """The innermost place outside torch."""
    own = [place for place in stack if not _DISTRIBUTED.search(place.file)]
    return f" at {Path(own[-1].file).name}:{own[-1].line} in {own[-1].name}" if own else ""


def _stack(job: Job, rank: int) -> list[Place]:
    """Where the rank's function was when it was asked, or when it crashed; innermost last."""
    try:
        text = job.path("stack", rank).read_text("utf-8", "replace")
    except FileNotFoundError:
        return []
    for thread in re.split(r"\n\n", text):
        lines = map(_STACK_LINE.match, thread.splitlines())
        places = [Place(m[1], int(m[2]), m[3]) for m in lines if m][::-1]
        if any(place.file.startswith(_HERE) and place.name == "call" for place in places):
            return _outside(places)
    return []


def _outside(places: list[Place]) -> list[Place]:
    """Without the lines that start a rank."""
    ours = [index for index, place in enumerate(places) if place.file.startswith(_HERE)]
    return places[ours[-1] + 1 :] if ours else places


def names(ranks: Sequence[int]) -> str:
    listed = ", ".join(map(str, ranks))
    return f"rank {listed}" if len(ranks) == 1 else f"ranks {listed}"
