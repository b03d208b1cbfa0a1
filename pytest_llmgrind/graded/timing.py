"""Races in graded mode: whose seconds count, and what the way to the worker costs.

The clocks are the grader's. A call takes the CPU time of its worker, as the kernel tells it, and
that of the grader for the messages: neither waits for a CPU that another process has. What the
way alone takes is measured beside the contenders, by the same messages to a worker of the
grader's own that answers without computing anything, and taken off.

All of them share one core meanwhile. They take turns, so nothing is lost; on two cores, of which
one has more to do than the other, two equal functions differed by 60 % for seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_llmgrind.graded.carrier import Carrier
from pytest_llmgrind.rounds import BASELINE, TRANSPORT, Cell, Plan
from pytest_llmgrind.stopwatch import Stopwatch, Switches

REFERENCE = "reference"
PLAN = Plan(settle_s=6.0, time_s=8.0)
"""Longer than in practice: of each figure the way to the worker, which varies, is taken off.
``benchmarks/graded_race.py`` shows what this gives."""
Run = Callable[..., Any]


def stopwatch(found: Mapping[str, Carrier]) -> Stopwatch:
    """Counts the CPU time of this thread and of the workers."""
    workers = list(dict.fromkeys(found.values()))

    def cpu() -> float:
        return time.thread_time() + sum(worker.cpu_s() for worker in workers)

    return Stopwatch(cpu=cpu, switches=Switches)


@contextlib.contextmanager
def on_one_core(found: Mapping[str, Carrier]) -> Iterator[None]:
    """This thread and the workers, until the end."""
    if not found or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    core = {random.SystemRandom().choice(sorted(allowed))}
    try:
        os.sched_setaffinity(0, core)
        for carrier in found.values():
            carrier.move(core)
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        for carrier in found.values():
            carrier.move(allowed)


def transport(
    found: Mapping[str, Carrier],
    implementations: Mapping[str, Any],
    run: Run,
    make: Callable[[int], tuple[Any, ...]],
    size: int,
) -> Cell:
    """A cell that sends what a trusted contender was sent, and gets what it answered."""
    who = REFERENCE if REFERENCE in found else BASELINE
    carrier = found[who]
    with carrier.recorded() as trace:
        run(implementations[who], *make(0))
    calls = [(carrier.keep(answer), args, kwargs) for args, kwargs, answer in trace]

    def replay() -> None:
        for call in calls:
            carrier.echo(*call)

    return Cell(contender=TRANSPORT, call=replay, make=lambda number: (), size=size)
