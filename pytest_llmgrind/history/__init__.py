"""What was practised: attempts, runs, hints, reviews, papers, in one SQLite file.

``.llmgrind/history.db`` lies in the workspace. Write-ahead logging and short transactions let two
terminals use it at once. Times are UTC. A file that cannot be read is set aside and never deleted,
and the latest of the daily backups takes its place. Knows nothing about pytest.
"""

from pytest_llmgrind.history.file import DIRECTORY, backup_of, file_of, glance, open_history
from pytest_llmgrind.history.store import History
from pytest_llmgrind.history.values import (
    DEBUG,
    SOLVE,
    Attempt,
    Change,
    Hint,
    HistoryError,
    Run,
)

__all__ = [
    "DEBUG",
    "DIRECTORY",
    "SOLVE",
    "Attempt",
    "Change",
    "Hint",
    "History",
    "HistoryError",
    "Run",
    "backup_of",
    "file_of",
    "glance",
    "open_history",
]
