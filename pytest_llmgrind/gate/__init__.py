"""The gate, ``llmgrind check``: what makes a challenge count, proven by running it."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.gate import files, hidden, planted, specification, table, twins
from pytest_llmgrind.gate.finding import Finding
from pytest_llmgrind.gate.proof import prove
from pytest_llmgrind.gate.worker import Worker
from pytest_llmgrind.manifest import MANIFEST, Manifest, ManifestError

__all__ = ["Finding", "Gate", "Proof", "check", "cores", "text_findings"]

Step = Callable[[str, str], None]
"""Takes a challenge's id and what is being done with it."""


@dataclass(frozen=True)
class Proof:
    """What the gate found in one challenge; it counts if nothing but notes was found."""

    id: str
    findings: tuple[Finding, ...]
    seconds: float
    fixed: bool = False

    @property
    def counts(self) -> bool:
        return all(finding.note for finding in self.findings)


def check(
    roots: list[Path], *, jobs: int, fix: bool = False, step: Step = lambda id, what: None
) -> Iterator[Proof]:
    """Prove challenges, ``jobs`` at a time, in the order given."""
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="llmgrind-lock-") as scratch,
        ThreadPoolExecutor(max_workers=jobs) as pool,
    ):
        gate = Gate(Path(scratch) / "lock", stop, fix, step)
        proofs = [pool.submit(gate.prove, root) for root in roots]
        try:
            yield from (proof.result() for proof in proofs)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Gate:
    """What the proofs of one run share."""

    lock: Path
    stop: threading.Event
    fix: bool = False
    step: Step = lambda id, what: None

    def prove(self, root: Path) -> Proof:
        """Prove one challenge, in a process of its own as far as code has to run."""
        start, fixed = time.monotonic(), False
        try:
            manifest = manifests.load(root)
            fixed = self.fix and table.fix(manifest)
            found = list(self._findings(manifest))
        except ManifestError as error:
            file = root / MANIFEST
            what = str(error).removeprefix(f"{file}: ")
            found = [Finding(file, 0, what, "see docs/writing-a-challenge.md")]
        self.step(root.name, "")
        return Proof(root.name, tuple(dict.fromkeys(found)), time.monotonic() - start, fixed)

    def _findings(self, manifest: Manifest) -> Iterator[Finding]:
        self.step(manifest.id, "text")
        unusable = list(files.unusable(manifest))
        yield from unusable or text_findings(manifest)
        if not unusable and twins.readable(manifest):
            with Worker(manifest, self.lock, self.stop) as worker:
                yield from prove(manifest, worker, lambda what: self.step(manifest.id, what))


def text_findings(manifest: Manifest) -> Iterator[Finding]:
    """Every finding that needs no code to run. All files are there."""
    yield from files.unexpected(manifest)
    yield from files.left_to_write(manifest)
    yield from files.metadata(manifest)
    yield from specification.check(manifest)
    yield from table.check(manifest)
    yield from twins.check(manifest)
    yield from hidden.check(manifest)
    yield from planted.check(manifest)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
