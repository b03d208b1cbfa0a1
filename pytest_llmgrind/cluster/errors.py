"""What goes wrong between ranks."""

from __future__ import annotations


class ClusterError(Exception):
    """The ranks of a cluster do not work together; the text names ranks and calls."""


class Deadlock(ClusterError):
    """No rank can go on. One line for each rank says what it waits for."""


class Mismatch(ClusterError):
    """Two ranks of a group made different collective calls at the same point."""


class Ended(BaseException):
    """Unwinds a rank whose run is over because another rank failed. Never reaches a caller."""
