"""How an attempt went, and when a challenge comes back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind import practice
from pytest_llmgrind.history import DEBUG, SOLVE, Attempt, Hint, History, Run, open_history
from pytest_llmgrind.practice import AGAIN, EASY, GOOD, HARD

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def attempt(
    *,
    runs: list[float] | None = None,
    hints: list[float] | None = None,
    passed: float | None = None,
    gave_up: bool = False,
    kind: str = SOLVE,
) -> Attempt:
    """An attempt that began at noon; times are minutes after it."""
    return Attempt(
        id=1,
        challenge="01_sums",
        kind=kind,
        started=NOON,
        minutes=None,
        bugs=(),
        passed=None if passed is None else after(passed),
        gave_up=NOON if gave_up else None,
        closed=None,
        runs=tuple(run(minutes) for minutes in runs or []),
        hints=tuple(
            Hint(at=after(minutes), stage="pairs", step=step)
            for step, minutes in enumerate(hints or [], start=1)
        ),
    )


def run(minutes: float) -> Run:
    return Run(at=after(minutes), seconds=1, version=1, stages={}, rules=0, of_rules=2, done=False)


@pytest.fixture
def manifest(suite: Any) -> manifests.Manifest:
    """Two stages, and a hundred minutes of its own."""
    return manifests.load(suite.challenge(top="minutes = 100"))


class TestMinutesSpent:
    def test_work_is_what_lies_between_what_was_heard(self) -> None:
        """From the start over every run and hint to the pass."""
        assert practice.minutes_spent(attempt(runs=[10, 25], hints=[20], passed=25)) == 25

    @pytest.mark.parametrize(
        ("gap", "counted"), [(29.5, 29.5), (30, 30), (30.5, 30), (60 * 24 * 7, 30)]
    )
    def test_a_pause_counts_for_half_an_hour(self, gap: float, counted: float) -> None:
        """Who is silent for longer does something else."""
        assert practice.minutes_spent(attempt(runs=[5, 5 + gap])) == 5 + counted

    def test_every_pause_is_cut_by_itself(self) -> None:
        """Three days of an hour each are not cut to half an hour in all."""
        day = 60 * 24
        runs = [20, day, day + 20, 2 * day, 2 * day + 20]

        assert practice.minutes_spent(attempt(runs=runs)) == 3 * 20 + 2 * 30

    def test_a_hint_is_a_sign_of_life(self) -> None:
        """Between two runs an hour apart, a hint shows that there was no pause."""
        assert practice.minutes_spent(attempt(runs=[60])) == 30
        assert practice.minutes_spent(attempt(runs=[60], hints=[30])) == 60

    def test_it_ends_with_the_pass(self) -> None:
        """Runs after the pass, to play with what is done, are no work on it."""
        assert practice.minutes_spent(attempt(runs=[10, 15, 20], passed=10)) == 10
        assert practice.minutes_spent(attempt(runs=[10, 15], passed=10), after(90)) == 10

    def test_it_goes_on_until_now(self) -> None:
        """Before the pass the time since the last run counts, as far as it is no pause."""
        assert practice.minutes_spent(attempt(runs=[10])) == 10
        assert practice.minutes_spent(attempt(runs=[10]), after(25)) == 25
        assert practice.minutes_spent(attempt(runs=[10]), after(500)) == 40

    def test_a_clock_that_was_set_back_takes_nothing_off(self) -> None:
        """A moment before the start is a gap of nothing."""
        assert practice.minutes_spent(attempt(), after(-10)) == 0


class TestTries:
    def test_runs_after_the_pass_are_no_tries(self) -> None:
        """Graded runs up to the pass count, the one that passed among them."""
        assert practice.tries(attempt(runs=[1, 2, 3])) == 3
        assert practice.tries(attempt(runs=[1, 2, 3, 4], passed=3)) == 3


class TestRating:
    @pytest.mark.parametrize(
        ("minutes", "tries", "hints", "rating"),
        [
            (50, 6, 0, EASY),
            (51, 6, 0, GOOD),
            (50, 7, 0, GOOD),
            (50, 6, 1, GOOD),
            (150, 20, 2, GOOD),
            (151, 20, 2, HARD),
            (150, 21, 2, HARD),
            (150, 20, 3, HARD),
        ],
    )
    def test_the_borders(
        self, manifest: manifests.Manifest, minutes: int, tries: int, hints: int, rating: int
    ) -> None:
        """Of 100 minutes and two stages: easy to 50, 6 and 0; good to 150, 20 and 2."""
        beats = [minutes * n / tries for n in range(1, tries + 1)]
        found = attempt(runs=beats, hints=[1] * hints, passed=minutes)
        assert practice.minutes_spent(found) == minutes

        assert practice.rating(found, manifest) == rating

    def test_given_up_is_again(self, manifest: manifests.Manifest) -> None:
        """Whoever has seen the reference did not know it, however fast the pass came."""
        assert practice.rating(attempt(runs=[1], passed=1, gave_up=True), manifest) == AGAIN

    def test_every_rating_has_a_word(self) -> None:
        """The words are those of FSRS."""
        assert practice.RATINGS == {AGAIN: "again", HARD: "hard", GOOD: "good", EASY: "easy"}


@pytest.fixture
def history(tmp_path: Path) -> Any:
    with open_history(tmp_path / "workspace") as history:
        yield history


def due_after(history: History, manifest: manifests.Manifest, at: datetime) -> datetime:
    found = practice.review(history, attempt(runs=[20, 40, 60], passed=60), manifest, at)
    assert found is not None
    return found


class TestReview:
    def test_days_between_passes_grow(self, history: History, manifest: manifests.Manifest) -> None:
        """Each pass on the day that it was due puts the next one further away, as FSRS says."""
        at, days = NOON, []
        for _ in range(4):
            due = due_after(history, manifest, at)
            days.append((due - at).days)
            assert history.due(due) == {"01_sums": due}
            assert history.due(due - timedelta(microseconds=1)) == {}
            at = due

        assert days[0] == 2
        assert all(later > 2 * before for before, later in itertools.pairwise(days)), days

    def test_a_better_rating_comes_back_later(
        self, tmp_path: Path, manifest: manifests.Manifest
    ) -> None:
        """Again is back within a day, hard and good after days, easy after a week."""
        attempts = {
            "again": attempt(runs=[1], passed=1, gave_up=True),
            "hard": attempt(runs=[1] * 21, passed=1),
            "good": attempt(runs=[1], hints=[1], passed=1),
            "easy": attempt(runs=[1], passed=1),
        }
        days = {}
        for word, found in attempts.items():
            with open_history(tmp_path / word) as history:
                due = practice.review(history, found, manifest, NOON)
                assert due is not None
                days[word] = (due - NOON).days
                assert practice.RATINGS[history.ratings()["01_sums"]] == word

        assert days == {"again": 1, "hard": 1, "good": 2, "easy": 8}

    def test_the_same_practice_gives_the_same_plan(
        self, tmp_path: Path, manifest: manifests.Manifest
    ) -> None:
        """Days are not shifted at random."""
        plans = []
        for name in ("one", "two"):
            with open_history(tmp_path / name) as history:
                first = due_after(history, manifest, NOON)
                plans.append((first, due_after(history, manifest, first)))

        assert plans[0] == plans[1]

    def test_debugging_moves_no_card(self, history: History, manifest: manifests.Manifest) -> None:
        """A repaired program is no solution: nothing is due because of it, nothing is rated."""
        due = due_after(history, manifest, NOON)
        cards = history.cards()

        repaired = attempt(runs=[1], passed=1, kind=DEBUG)

        assert practice.review(history, repaired, manifest, due) is None
        assert history.cards() == cards
        assert list(history.ratings().values()) == [GOOD]
