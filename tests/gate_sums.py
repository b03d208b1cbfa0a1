"""A small challenge that counts, as files that a test may change; what the gate says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_llmgrind import gate
from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.gate.proof import prove
from pytest_llmgrind.gate.worker import Worker

ID = "01_sums"
FILES = {
    "challenges/01_sums/challenge.toml": """
title = "Sums"
track = "core"
summary = "Add."
timeout = 20

[solution]
imports = ["numpy"]

[[stage]]
name = "pairs"
file = "hidden/1_pairs.py"
title = "Add two arrays"
hints = ["where", "idea", "line"]

[[stage]]
name = "many"
file = "hidden/2_many.py"
title = "Add many numbers"
hints = ["where", "idea", "line"]

[[budget]]
name = "each_number_is_read_once"
stage = "many"
kind = "count"
limit = 16
what = "numbers read to add 8"
unit = "reads"
""",
    "challenges/01_sums/spec.md": """
# Sums

## Goal

Sums, as in every library.

## Background

### Adding

1 + 1 = 2.

## Stages

1. **pairs** 2. **many**

## Interface

`add`, `total`.

## Rules

- **R1** `add` returns the sum of two arrays. [adding](#adding)
- **R2** No call changes the arrays that it is given.
- **R3** Arrays of two shapes raise a ValueError that names b.
- **R4** `total` returns the sum of all numbers that it reads.
- **R5** Each number is read once.

## Budgets

<!-- budgets -->
| what is measured | stage | kind | at most |
|---|---|---|---|
| numbers read to add 8 | many | count | 16 reads |
<!-- /budgets -->

## Symptoms

Off by one: R4.

## References

None.

## Out of scope

Multiplication.
""",
    "challenges/01_sums/stub.py": '''
"""Stub of 01_sums."""

import numpy as np


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of two arrays (N,), float64.

    >>> add(np.array([1.0]), np.array([2.0]))
    array([3.])
    """
    raise NotImplementedError("01_sums, stage 1")


def total(read, n: int) -> float:
    """The sum of read(0) to read(n - 1)."""
    raise NotImplementedError("01_sums, stage 2")
''',
    "reference/01_sums.py": '''
"""Sums."""

import numpy as np


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of two arrays."""
    if a.shape != b.shape:
        raise ValueError(f"b: wanted shape {a.shape}, got {b.shape}")
    return a + b


def total(read, n: int) -> float:
    """The sum of read(0) to read(n - 1)."""
    result = 0.0
    for i in range(n):
        result += read(i)
    return result
''',
    "challenges/01_sums/hidden/1_pairs.py": '''
"""Stage 1: add two arrays."""

import numpy as np

from pytest_llmgrind import check, given, rule, st


@rule("R1")
@given(n=st.integers(0, 4))
def test_sum_of_a_pair(solution, n):
    x = np.arange(float(n))
    check.close(solution.add(x, x), 2 * x, what="sum", given=f"{n} numbers, twice")


@rule("R2")
def test_arguments_stay_as_they_are(solution):
    x, y = np.ones(3), np.ones(3)
    with check.unchanged(a=x, b=y):
        solution.add(x, y)


@rule("R3")
def test_another_shape_is_refused(solution):
    x, y = np.ones(3), np.ones(1)
    check.raises(ValueError, solution.add, x, y, names="b", what="add", given="3 and 1 numbers")
''',
    "challenges/01_sums/hidden/2_many.py": '''
"""Stage 2: add many numbers."""

from pytest_llmgrind import check, rule


@rule("R4")
def test_every_number_counts(solution):
    check.close(solution.total(float, 4), 6.0, what="total", given="0, 1, 2, 3", n=4)


@rule("R5")
def test_each_number_is_read_once(count):
    def reads(impl, n):
        seen = []

        def read(i):
            seen.append(i)
            return 1.0

        impl.total(read, n)
        return len(seen)

    count(reads, inputs=lambda rng: (8,), verify=lambda result, n: None)
''',
    "challenges/01_sums/hidden/baseline.py": '''
"""Reads everything three times."""


def total(read, n: int) -> float:
    return sum(sum(read(i) for i in range(n)) for _ in range(3)) / 3
''',
    "challenges/01_sums/hidden/bugs.toml": """
[[bug]]
name = "subtracts"
rule = "R1"
misconception = "the second was subtracted"
find = '''return a + b'''
replace = '''return a - b'''

[[bug]]
name = "adds_in_place"
rule = "R2"
misconception = "the sum was written into a"
find = '''    return a + b'''
replace = '''    a += b
    return a'''

[[bug]]
name = "broadcasts"
rule = "R3"
misconception = "shapes were left to broadcasting"
find = '''if a.shape != b.shape:'''
replace = '''if a.ndim != b.ndim:'''

[[bug]]
name = "begins_at_one"
rule = "R4"
misconception = "the sum began at 1"
find = '''result = 0.0'''
replace = '''result = 1.0'''

[[bug]]
name = "skips_the_last"
rule = "R4"
misconception = "the last number was left out"
find = '''in range(n)'''
replace = '''in range(n - 1)'''

[[bug]]
name = "reads_three_times"
rule = "R5"
misconception = "each number was read three times"
find = '''result += read(i)'''
replace = '''result += (read(i) + read(i) + read(i)) / 3'''
""",
}
TOML, SPEC, STUB, REFERENCE, PAIRS, MANY, BASELINE, BUGS = FILES
Change = tuple[str, str, str]
"""A file, a text in it, and what stands there instead."""


class Sums:
    """The small challenge on disk, and what the gate says of it."""

    def __init__(self, root: Path, worker: Worker | None = None) -> None:
        self.root, self.worker = root, worker

    def write(self) -> None:
        for directory in ("challenges", "reference"):
            shutil.rmtree(self.root / directory, ignore_errors=True)
        for name, text in FILES.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.lstrip("\n"), "utf-8")

    def change(self, *changes: Change) -> Sums:
        for name, old, new in changes:
            file = self.root / name
            text = file.read_text("utf-8")
            assert text.count(old) == 1, (name, old)
            file.write_text(text.replace(old, new), "utf-8")
        return self

    @property
    def manifest(self) -> manifests.Manifest:
        return manifests.load(self.root / "challenges" / ID)

    def text(self) -> list[str]:
        """The lines about what can be read without running anything."""
        return [finding.shown(self.root) for finding in gate.text_findings(self.manifest)]

    def run(self) -> list[str]:
        """The lines about what has to be run, by the worker that all tests share."""
        assert self.worker is not None
        for file in self.worker.solutions.iterdir():
            file.unlink()
        self.worker.manifest = self.manifest
        return [f.shown(self.root) for f in prove(self.manifest, self.worker, lambda what: None)]

    def keep_bugs(self, *names: str) -> None:
        """Leave only these planted bugs in the list: each costs a run."""
        kept = [bug for bug in FILES[BUGS].split("\n\n") if any(f'"{n}"' in bug for n in names)]
        (self.root / BUGS).write_text("\n\n".join(kept).lstrip("\n") + "\n", "utf-8")

    def all(self) -> list[str]:
        """The lines of the whole gate, by a worker of its own."""
        [proof] = gate.check([self.root / "challenges" / ID], jobs=1)
        return [finding.shown(self.root) for finding in proof.findings]


ANOTHER_TEST = """


@rule("R1")
def test_one_and_one(solution):
    {body}
"""


def added(file: str, body: str) -> Change:
    """A change that adds a test to a hidden file."""
    anchor = FILES[file].rstrip().rpartition("\n")[2]
    return file, anchor + "\n", anchor + ANOTHER_TEST.format(body=body)


Case = tuple[list[Change], list[tuple[str, int, str, str]]]
"""What is changed, and the findings: file, line, what is wrong, what to do."""


def lines(case: Case) -> list[str]:
    """The lines that a case expects, whole."""
    return [
        f"{path}:{line}: {what}; {cure}" if line else f"{path}: {what}; {cure}"
        for path, line, what, cure in case[1]
    ]
