"""Who stands where in one challenge: you, the reference, the baseline, other entrants.

Ranked by rules kept, then by budgets met, then by how much of the limits is used. Knows nothing
about pytest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

KINDS = ("you", "reference", "entrant", "baseline")
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the standing.

    ``kept`` and ``stages`` are None where rules were not tested; then there is no rank, and
    ``reason`` may say why. ``share`` is the mean of figure / limit, where all are measured.
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
    entries += [_entrant(other, limits) for other in outside]
    return ranked(entries)


def _filled(first: Figures, others: Iterable[Figures]) -> Figures:
    filled = dict(first)
    for other in others:
        filled.update({name: other.get(name) for name, f in filled.items() if f is None})
    return filled


def _entrant(other: Outside, limits: Mapping[str, float]) -> Entry:
    return entry(
        "entrant",
        name=other.name,
        kept=other.kept,
        stages=other.stages,
        figures=other.figures,
        limits=limits,
        reason=other.reason,
    )


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
    shares = [_rounded(figure / limits[budget]) for budget, figure in known.items()]
    return Entry(
        name=name or kind,
        kind=kind,
        kept=kept,
        stages=stages,
        figures=known,
        met=sum(figure <= limits[budget] for budget, figure in known.items()),
        share=sum(shares) / len(shares) if limits and len(shares) == len(limits) else None,
        reason=reason,
    )


def ranked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Best first; equals share a rank; those whose rules were not tested come last, unranked."""
    order = sorted(entries, key=lambda one: (KINDS.index(one.kind), one.name))
    judged = sorted((one for one in order if one.kept is not None), key=_key)
    keys = [_key(one) for one in judged]
    placed = [replace(one, rank=keys.index(key) + 1) for one, key in zip(judged, keys, strict=True)]
    return (*placed, *(one for one in order if one.kept is None))


def _key(one: Entry) -> tuple[int, int, float]:
    return -(one.kept or 0), -one.met, math.inf if one.share is None else one.share


def _rounded(share: float) -> float:
    """To two significant digits: what measures the same ranks the same."""
    return float(f"{share:.2g}")
