"""The leaderboard as JSON; docs/judging.md describes the layout."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_llmgrind.board import Board

SCHEMA = "llmgrind-leaderboard/1"


def document(board: Board, *, exit_code: int | None = None, at: datetime | None = None) -> Any:
    """The board as JSON values: dicts, lists, texts, finite numbers, true, false and null."""
    return {
        "schema": SCHEMA,
        "at": (at or datetime.now(UTC)).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "exit_code": exit_code,
        **_plain(asdict(board)),
    }


def write(file: Path, board: Board, *, exit_code: int | None = None) -> None:
    """Write ``file`` at once or not at all; directories on the way are made.

    Raises
    ------
    OSError
        It cannot be written.
    """
    save(file, document(board, exit_code=exit_code))


def save(file: Path, value: Any) -> None:
    """Write JSON values to ``file``, at once or not at all. Raises OSError."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(file))
    if file.exists() and not file.is_file():  # a pipe, /dev/stdout
        file.write_text(text + "\n", "utf-8")
        return
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def read(file: Path) -> dict[str, dict[str, Any]]:
    """The challenges of a written board, by id.

    Raises
    ------
    ValueError
        The file is not a leaderboard of this layout. It may come from other people's code.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"wanted the schema {SCHEMA}")
    challenges = found.get("challenges")
    if not isinstance(challenges, list):
        raise ValueError("wanted a list of challenges")
    return {str(c["id"]): c for c in challenges if isinstance(c, dict) and "id" in c}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
