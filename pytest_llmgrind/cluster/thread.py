"""The thread of a rank. It runs only while it holds the baton."""

from __future__ import annotations

import contextvars
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pytest_llmgrind.cluster.errors import ClusterError, Ended
from pytest_llmgrind.cluster.memory import Tracer

PATIENCE_S = 2.0
_HERE = str(Path(__file__).parent)


class RankThread:
    """Runs a program on a thread of its own, a step at a time."""

    def __init__(self, rank: int, *, size: int, tracer: Tracer | None) -> None:
        self.rank = rank
        self.size = size
        self.finished = True
        self.result: Any = None
        self._error: BaseException | None = None
        self._thrown: BaseException | None = None
        self._ending = False
        self._tracer = tracer
        self._go, self._back = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    # -- on the engine's thread -------------------------------------------------------------

    def start(
        self, program: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Make the thread; it waits for the first step."""
        self._go.acquire()
        self._back.acquire()
        self.finished = False
        run = contextvars.copy_context().run  # NumPy's error state, among others
        self._thread = threading.Thread(
            target=self._main, args=(run, program, args, kwargs), name=f"rank {self.rank}"
        )
        self._thread.daemon = True
        self._thread.start()

    def step(self) -> None:
        """Hand over the baton until it comes back; raises what the program raised."""
        self._go.release()
        try:
            self._back.acquire()
        except BaseException as error:  # a time-out or Ctrl-C, while the rank is running
            self._ending = True
            _append(error, self._frames())
            raise
        if self._error is not None:
            raise self._error

    def throw(self, error: BaseException) -> None:
        """Raise ``error`` where the rank waits, so that its traceback leads there.

        A rank that catches it may run on; it is not waited for longer than a moment.
        """
        self._thrown, self._ending = error, True
        self._go.release()
        self._back.acquire(timeout=PATIENCE_S)

    def end(self) -> None:
        """Unwind the rank if it has not returned. No thread is left that Python can end."""
        self._ending = True
        if self._thread is None:
            return
        if not self.finished and self._go.locked():
            self._go.release()
        deadline = time.monotonic() + PATIENCE_S
        self._thread.join(0.05)
        while self._thread.is_alive() and time.monotonic() < deadline:
            _interrupt(self._thread)
            self._thread.join(0.05)

    def _frames(self) -> list[FrameType]:
        """Where the rank is, outermost frame first, without ours."""
        ident = self._thread.ident if self._thread else None
        frame = sys._current_frames().get(ident or 0)
        frames = []
        while frame is not None:
            if not frame.f_code.co_filename.startswith(_HERE):
                frames.append(frame)
            frame = frame.f_back
        return frames[::-1]

    # -- on the rank's own thread ------------------------------------------------------------

    def _main(
        self,
        run: Callable[..., Any],
        program: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._go.acquire()
        try:
            if not self._ending:
                self._trace(on=True)
                self.result = run(program, *args, **kwargs)
        except Ended:
            pass
        except BaseException as error:
            if not self._ending:
                error.add_note(f"on rank {self.rank} of {self.size}")
                self._error = error
        finally:
            self._trace(on=False)
            self.finished = True
            self._back.release()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While an operation of ``Comm`` runs: it is not the program that allocates."""
        if threading.current_thread() is not self._thread:
            raise ClusterError(f"the comm of rank {self.rank} was used outside its rank")
        if self._ending:
            raise Ended
        self._trace(on=False)
        try:
            yield
        finally:
            self._trace(on=True)

    def switch(self) -> None:
        """Give the baton back and wait for it."""
        self._back.release()
        self._go.acquire()
        if self._thrown is not None:
            raise self._thrown
        if self._ending:
            raise Ended

    def _trace(self, *, on: bool) -> None:
        if self._tracer is not None:
            self._tracer.resume() if on else self._tracer.pause()


def _interrupt(thread: threading.Thread) -> None:
    """Raise Ended in a thread that runs on without asking for anything."""
    if thread.ident is not None:
        ident = ctypes.c_ulong(thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Ended))


def _append(error: BaseException, frames: list[FrameType]) -> None:
    """Lead the traceback of ``error`` on to where a rank was."""
    chain: TracebackType | None = None
    for frame in reversed(frames):
        chain = TracebackType(chain, frame, frame.f_lasti, frame.f_lineno)
    tail = error.__traceback__
    while tail is not None and tail.tb_next is not None:
        tail = tail.tb_next
    if tail is not None:
        tail.tb_next = chain
