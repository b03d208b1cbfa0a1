"""The time of day: UTC in files, local on the screen. Knows nothing about pytest.

``LLMGRIND_NOW`` holds the clock at a moment of ISO 8601, so that tests of weeks take no time.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

VARIABLE = "LLMGRIND_NOW"


class ClockError(ValueError):
    """``LLMGRIND_NOW`` is no moment; one line."""


def now() -> datetime:
    """This moment, in UTC.

    Raises
    ------
    ClockError
        ``LLMGRIND_NOW`` is set and is no moment.
    """
    held = os.environ.get(VARIABLE)
    if not held:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(held).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ClockError(
            f"{VARIABLE}: wanted a moment like 2026-11-27T09:00Z, got {held!r}"
        ) from None


def text(moment: datetime) -> str:
    """As it stands in a file; sorts as text.

    >>> text(datetime(2026, 11, 27, 9, 30, tzinfo=UTC))
    '2026-11-27T09:30:00.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """What ``text`` wrote."""
    return datetime.fromisoformat(text)


def stamp(moment: datetime) -> str:
    """For names of files.

    >>> stamp(datetime(2026, 11, 27, 9, 30, 5, 120_000, tzinfo=UTC))
    '20261127T093005.120Z'
    """
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"


def shown(moment: datetime) -> str:
    """On the screen, in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def day(moment: datetime) -> str:
    """On the screen, the local day alone."""
    return f"{moment.astimezone():%Y-%m-%d}"


def day_end(moment: datetime) -> datetime:
    """The last moment of the local day: what is due in the evening is due in the morning."""
    return moment.astimezone().replace(hour=23, minute=59, second=59, microsecond=999_999)


def span(minutes: float) -> str:
    """A stretch of time in words.

    >>> span(0.4), span(12.2), span(90), span(60 * 24 * 3)
    ('under a minute', '12 min', '1 h 30 min', '72 h')
    """
    whole = round(minutes)
    if whole < 1:
        return "under a minute"
    hours, rest = divmod(whole, 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
