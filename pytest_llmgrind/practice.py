"""How an attempt went, and when to solve a challenge again. Knows nothing about pytest.

The days between two passes are those of FSRS (the package ``fsrs``): a pass is rated, and the
rating moves the card of the challenge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pytest_llmgrind.history import DEBUG, Attempt, History, Run
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.verdicts import NOT_RUN, WORDS

FINISHED = (WORDS["passed"], WORDS["skipped"])
"""Words of a stage at which there is nothing more to do here."""
PAUSE = timedelta(minutes=30)
"""Who is silent for longer is doing something else."""
EASY_TIME, GOOD_TIME = 0.5, 1.5
"""Shares of the challenge's own minutes."""
EASY_TRIES, GOOD_TRIES = 3, 10
"""Graded runs for each stage."""
AGAIN, HARD, GOOD, EASY = 1, 2, 3, 4
RATINGS = {AGAIN: "again", HARD: "hard", GOOD: "good", EASY: "easy"}


@dataclass(frozen=True, kw_only=True)
class Practice:
    """Where an attempt stands after a run.

    ``minutes`` of work, ``limit`` and ``left`` minutes of a timed interview (``left`` is below 0
    when it is over). ``bugs`` are the misconceptions that a debugging attempt planted, told once
    it has passed; ``of_bugs`` is how many. ``passed`` is true for the run that passed; ``rating``
    and the day ``due`` follow from it.
    """

    kind: str
    tries: int
    minutes: float
    hints: int
    of_hints: int
    limit: float | None = None
    left: float | None = None
    gave_up: bool = False
    of_bugs: int = 0
    bugs: tuple[str, ...] = ()
    passed: bool = False
    rating: str = ""
    due: str = ""


def stage_words(runs: Iterable[Run]) -> dict[str, str]:
    """The last word that a run had about each stage: ``-k`` runs some of them only."""
    words: dict[str, str] = {}
    for run in runs:
        words |= {name: word for name, word in run.stages.items() if word != WORDS[NOT_RUN]}
    return words


def minutes_spent(attempt: Attempt, until: datetime | None = None) -> float:
    """Minutes of work: from the start over every run and hint, pauses cut to half an hour.

    Ends with the pass, else with ``until``, else with the last that was heard.
    """
    heard = [
        attempt.started,
        *(run.at for run in attempt.runs),
        *(hint.at for hint in attempt.hints),
    ]
    end = attempt.passed or until
    moments = sorted(at for at in heard if end is None or at <= end)
    moments += [end] if end else []
    # As spans of whole microseconds: a sum of floats would miss the borders of a rating.
    gaps = (min(max(b - a, timedelta()), PAUSE) for a, b in itertools.pairwise(moments))
    return sum(gaps, timedelta()) / timedelta(minutes=1)


def tries(attempt: Attempt) -> int:
    """Graded runs up to the pass."""
    return sum(attempt.passed is None or run.at <= attempt.passed for run in attempt.runs)


def is_exercise(attempt: Attempt | None) -> bool:
    """A program to repair, and its bugs are still to be found."""
    if attempt is None or attempt.kind != DEBUG:
        return False
    return attempt.passed is None and attempt.gave_up is None


def rating(attempt: Attempt, manifest: Manifest) -> int:
    """How well a challenge was known, as FSRS asks: again, hard, good or easy.

    Given up is *again*. *Easy* is half of the challenge's own time or less, no hint, and at most
    three tries a stage. *Good* is up to one and a half times that time, one hint a stage and ten
    tries a stage. All else is *hard*.
    """
    if attempt.gave_up:
        return AGAIN
    stages = len(manifest.stages)
    share = minutes_spent(attempt) / manifest.minutes
    count, hints = tries(attempt), len(attempt.hints)
    if share <= EASY_TIME and not hints and count <= EASY_TRIES * stages:
        return EASY
    if share <= GOOD_TIME and hints <= stages and count <= GOOD_TRIES * stages:
        return GOOD
    return HARD


def review(history: History, attempt: Attempt, manifest: Manifest, at: datetime) -> datetime | None:
    """Rate a pass and move the challenge's card; when it is due again.

    A debugging attempt is none at the challenge itself: it moves no card.
    """
    if attempt.kind == DEBUG:
        return None
    import fsrs

    known: Any = history.cards().get(attempt.challenge)
    card = fsrs.Card.from_dict(known) if known else fsrs.Card(due=at)
    mark = rating(attempt, manifest)
    card, _ = scheduler().review_card(card, fsrs.Rating(mark), at)
    due: datetime = card.due
    history.set_card(attempt.challenge, dict(card.to_dict()), due=due, at=at, rating=mark)
    return due


def scheduler() -> Any:
    """FSRS with its published weights, in days: an hour's challenge is not repeated in minutes.

    Without its random shift of days, so that the same practice gives the same plan.
    """
    import fsrs

    return fsrs.Scheduler(learning_steps=(), relearning_steps=(), enable_fuzzing=False)
