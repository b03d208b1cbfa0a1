"""Processes at work beside what a benchmark measures: a busy machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """So many processes at work, every second one with memory."""
    context = multiprocessing.get_context("spawn")
    targets = [(_spin, _stream)[index % 2] for index in range(number)]
    processes = [context.Process(target=target, daemon=True) for target in targets]
    for process in processes:
        process.start()
    time.sleep(1.0)
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def _spin() -> None:
    while True:
        sum(range(1_000))


def _stream() -> None:
    """Busy with memory: 32 MB that no cache keeps."""
    array = np.ones(4_000_000)
    while True:
        array *= 1.0000001
