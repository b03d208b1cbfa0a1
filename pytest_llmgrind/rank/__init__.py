"""Real processes: one function on every rank of a torch.distributed test on this machine.

``launch`` starts the ranks, waits for all of them and gives what each returned. A rank that raises,
dies or hangs fails the call with that rank's own traceback, and no process is left behind.
``python -m pytest_llmgrind.rank FILE FUNCTION`` does the same from a shell. No pytest; the process
that calls ``launch`` never imports torch.
"""

from __future__ import annotations

from pytest_llmgrind.rank.errors import RankDied, RankError, RankHung
from pytest_llmgrind.rank.job import Process
from pytest_llmgrind.rank.launch import launch

__all__ = ["Process", "RankDied", "RankError", "RankHung", "launch"]
