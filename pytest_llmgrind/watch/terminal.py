"""The terminal: keys one by one, and everything as it was when we leave it. No llmgrind here."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

CLEAR = "\x1b[H\x1b[2J"
ERASE_BELOW = "\x1b[J"
UP = "\x1b[A"
BOLD, NORMAL = "\x1b[1m", "\x1b[m"
END = "q"
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


class Terminal:
    """Keys and other events, in their order; text that can be replaced.

    Off a terminal (standard input or output is none) there are no keys and no escapes. A stop by
    Ctrl-Z gives the terminal back while it lasts. Ctrl-C, ``kill`` and a closed window are heard
    by ``next`` alone: an exception that a signal raises just anywhere can get lost.
    """

    def __init__(self) -> None:
        self.has_keys = sys.stdin.isatty() and sys.stdout.isatty()
        self.is_plain = not self.has_keys or os.environ.get("TERM", "dumb") == "dumb"
        self._events: deque[Any] = deque()
        self._hear, self._wake = os.pipe()
        os.set_blocking(self._wake, False)  # as set_wakeup_fd demands
        self._ending: int | None = None
        self._below, self._shown = 0, ""  # rows of the status that the cursor is in, and its text
        self._was_away = False  # the shell has written since
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns

    # -- in ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Keys come without Enter and are not echoed, until the block ends, however it ends."""
        if not self.has_keys:
            with self._signals():
                yield
            return
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)
        with self._signals():
            try:
                tty.setcbreak(self._descriptor, termios.TCSADRAIN)
                yield
            finally:
                self._give_back()

    def post(self, event: Any) -> None:
        """Add an event; from any thread."""
        with self._lock:
            self._events.append(event)
        os.write(self._wake, b".")

    def next(self, timeout_s: float) -> Any:
        """The next event: a key as one letter, what was posted, or None: there is none yet.

        Ctrl-C is the key q. SystemExit(128 + number of the signal) where another one ends us.
        """
        if not self._events and self._ending is None:
            sources = [self._hear, self._descriptor] if self.has_keys else [self._hear]
            ready, _, _ = select.select(sources, [], [], timeout_s)
            if self._hear in ready:
                os.read(self._hear, 4096)
            if self.has_keys and self._descriptor in ready:
                self._events.extend(self._keys())
        if self._ending == signal.SIGINT:
            return END
        if self._ending is not None:
            raise SystemExit(128 + self._ending)
        with self._lock:
            return self._events.popleft() if self._events else None

    def _keys(self) -> str:
        try:
            typed = os.read(self._descriptor, 64)
        except OSError:
            typed = b""
        if not typed or b"\x04" in typed:  # the terminal is gone; Ctrl-D
            return END
        return "" if typed.startswith(b"\x1b") else typed.decode("ascii", "ignore").lower()

    def _give_back(self) -> None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ours are handled, and wake ``next`` up, also one that comes just before it waits."""
        handlers: dict[signal.Signals, Handler] = dict.fromkeys(ENDINGS, self._end)
        if self.has_keys:
            handlers[signal.SIGTSTP] = self._suspend
        known = {sign: signal.signal(sign, handler) for sign, handler in handlers.items()}
        woken = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for sign, handler in known.items():
                signal.signal(sign, handler)

    def _end(self, sign: int, _frame: FrameType | None) -> None:
        self._ending = sign

    def _suspend(self, _sign: int, _frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._was_away = True  # not _below, which whoever is interrupted may be about to set
        with contextlib.suppress(termios.error):  # in the background it stays as it is
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)

    # -- out --------------------------------------------------------------------------------

    def clear(self) -> None:
        """An empty screen on a terminal; what was there stays in its memory."""
        if not self.is_plain:
            self._write(CLEAR)
        self._below = 0

    def say(self, text: str) -> None:
        """A line."""
        self._write(f"{self._start()}{text}\n")

    def free(self) -> None:
        """Begin a new line, for somebody else to write there."""
        self._write(self._start())

    def status(self, rows: list[str]) -> None:
        """Rows that the next status replaces if nothing else was said."""
        text = "\n".join(self.bold(row) for row in rows)
        if self.is_plain:
            self._write(f"{text}\n")
            return
        self._look()
        if self._below and text == self._shown:
            return
        again = f"\r{UP * (self._below - 1)}{ERASE_BELOW}" if self._below else ""
        self._write(f"{again}{text}")
        self._below, self._shown = len(rows), text

    def bold(self, text: str) -> str:
        """As it is where there is no terminal, or NO_COLOR is set."""
        return text if self.is_plain or os.environ.get("NO_COLOR") else f"{BOLD}{text}{NORMAL}"

    def _look(self) -> None:
        """The cursor is in no status any more where the shell has written."""
        if self._was_away:
            self._was_away, self._below = False, 0

    def _start(self) -> str:
        self._look()
        new, self._below = "\n" if self._below else "", 0
        return new

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
