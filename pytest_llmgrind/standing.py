"""Who stands where in one challenge: you, the reference, the baseline, other entrants.

Ranked by rules kept, then by budgets met, then by how much of the limits is used, as far as that
is not noise. Knows nothing about pytest.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

KINDS = ("you", "reference", "entrant", "baseline")
NOISE = 0.1
"""Shares that differ by no more rank the same: timings of two runs differ by some percent."""
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the standing.

    ``kept`` and ``stages`` are None where rules were not tested; then there is no rank, and
    ``reason`` may say why. ``share`` is the mean of figure / limit, where all are measured, an
    entrant's figures scaled to your run.
    """

    name: str
    kind: str
    rank: int | None = None
    kept: int | None
    stages: int | None
    figures: Mapping[str, float]
    met: int
    share: float | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What the run of another entrant gave for a challenge; ``kept`` is None where it gave none."""

    name: str
    challenge: str
    kept: int | None = None
    stages: int | None = None
    figures: Figures = field(default_factory=dict)
    reference: Figures = field(default_factory=dict)
    baseline: Figures = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the session itself measured: your figures, and those of the given code beside them."""

    kept: int
    rules: int
    green: int
    stages: int
    limits: Mapping[str, float]
    figures: Figures
    reference: Figures
    baseline: Figures


def of(run: Run, outside: Sequence[Outside] = ()) -> tuple[Entry, ...]:
    """You, the reference, the baseline where it was measured, and everyone else, ranked.

    What your run could not measure of the reference and the baseline is taken from the others':
    yours may have failed before it came to a budget.
    """
    limits = run.limits
    reference = _filled(run.reference, [other.reference for other in outside])
    baseline = _filled(run.baseline, [other.baseline for other in outside])
    # That the reference keeps every rule is what the gate proves.
    entries = [
        entry("you", figures=run.figures, limits=limits, kept=run.kept, stages=run.green),
        entry("reference", figures=reference, limits=limits, kept=run.rules, stages=run.stages),
    ]
    if any(figure is not None for figure in baseline.values()):
        entries.append(entry("baseline", figures=baseline, limits=limits))
    entries += [_entrant(other, run.limits, reference) for other in outside]
    return ranked(entries)


def among(outside: Sequence[Outside], limits: Mapping[str, float]) -> tuple[Entry, ...]:
    """Entrants beside each other alone, their figures scaled to the median of the reference's."""
    known = {b: [f for o in outside if (f := o.reference.get(b)) is not None] for b in limits}
    middle = {b: statistics.median(figures) if figures else None for b, figures in known.items()}
    return ranked(_entrant(other, limits, middle) for other in outside)


def _filled(first: Figures, others: Iterable[Figures]) -> Figures:
    filled = dict(first)
    for other in others:
        filled.update({name: other.get(name) for name, f in filled.items() if f is None})
    return filled


def _entrant(other: Outside, limits: Mapping[str, float], reference: Figures) -> Entry:
    found = entry(
        "entrant",
        name=other.name,
        kept=other.kept,
        stages=other.stages,
        figures=other.figures,
        limits=limits,
        reason=other.reason,
    )
    scaled = {
        b: f * _scale(reference.get(b), other.reference.get(b)) for b, f in found.figures.items()
    }
    return replace(found, share=_share(scaled, limits))


def _scale(ours: float | None, theirs: float | None) -> float:
    """What makes two runs comparable: the reference was measured in both.

    Beyond a factor of two it is not the machine that differed (an exponent near 0 is mere noise).
    """
    if not ours or not theirs:
        return 1.0
    return ours / theirs if 0.5 <= ours / theirs <= 2 else 1.0


def entry(
    kind: str,
    *,
    figures: Figures,
    limits: Mapping[str, float],
    kept: int | None = None,
    stages: int | None = None,
    name: str = "",
    reason: str = "",
) -> Entry:
    """An entry without a rank yet. ``figures`` and ``limits`` go by the names of the budgets."""
    found = {budget: figures.get(budget) for budget in limits}
    known = {b: f for b, f in found.items() if f is not None and math.isfinite(f)}
    return Entry(
        name=name or kind,
        kind=kind,
        kept=kept,
        stages=stages,
        figures=known,
        met=sum(figure <= limits[budget] for budget, figure in known.items()),
        share=_share(known, limits),
        reason=reason,
    )


def _share(figures: Mapping[str, float], limits: Mapping[str, float]) -> float | None:
    if not limits or len(figures) < len(limits):
        return None
    return sum(figures[budget] / limit for budget, limit in limits.items()) / len(limits)


def ranked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Best first; equals share a rank; those whose rules were not tested come last, unranked."""
    every = list(entries)
    placed: list[Entry] = []
    first: Entry | None = None
    for number, one in enumerate(sorted((e for e in every if e.kept is not None), key=_key), 1):
        if first is None or not _equal(first, one):
            first = replace(one, rank=number)
        placed.append(replace(one, rank=first.rank))
    placed += [one for one in every if one.kept is None]
    return tuple(sorted(placed, key=_order))


def _key(one: Entry) -> tuple[int, int, float]:
    return -(one.kept or 0), -one.met, math.inf if one.share is None else one.share


def _equal(first: Entry, one: Entry) -> bool:
    """Whether ``one``, which is not ahead of ``first``, is behind it by more than noise."""
    if (first.kept, first.met) != (one.kept, one.met):
        return False
    if first.share is None or one.share is None:
        return first.share is one.share
    return one.share - first.share <= NOISE * abs(first.share)


def _order(one: Entry) -> tuple[float, int, str]:
    return one.rank or math.inf, KINDS.index(one.kind), one.name
