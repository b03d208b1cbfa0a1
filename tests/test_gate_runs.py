"""The gate on what has to be run: stub, reference and planted bugs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from gate_sums import BUGS, MANY, PAIRS, REFERENCE, SPEC, STUB, TOML, Case, Sums, added, lines

import pytest_llmgrind
from pytest_llmgrind.gate import proof
from pytest_llmgrind.gate.worker import Worker


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sums]:
    root = tmp_path_factory.mktemp("gate")
    sums = Sums(root)
    sums.write()
    with Worker(sums.manifest, root / "lock", threading.Event()) as worker:
        yield Sums(root, worker)


@pytest.fixture
def sums(shared: Sums) -> Sums:
    """The challenge as it counts, and a process that is started once for all tests."""
    shared.write()
    return shared


RUN_CASES: dict[str, Case] = {
    "example": (
        [(STUB, "array([3.])", "array([4.])")],
        [
            (
                STUB,
                9,
                "the example `add(np.array([1.0]), np.array([2.0]))` gives array([3.])",
                "correct it, or the reference",
            )
        ],
    ),
    "examples that end the process": (
        [(REFERENCE, '"""Sums."""\n', '"""Sums.\n\n>>> import os\n>>> os._exit(3)\n"""\n')],
        [
            (
                STUB,
                0,
                "the examples of the docstrings end the process: exit code 3",
                "give examples that end",
            )
        ],
    ),
    "hidden import": (
        [(MANY, "import check, rule", "import chek, rule")],
        [
            (
                MANY,
                3,
                (
                    "it does not load: ImportError: cannot import name 'chek' from "
                    f"'pytest_llmgrind' ({pytest_llmgrind.__file__})"
                ),
                "make it importable",
            )
        ],
    ),
    "stub import": (
        [(STUB, "import numpy as np\n", "import numpy as np\nimport nump\n")],
        [
            (
                STUB,
                0,
                (
                    "the stub cannot be graded: stub.py:4: import of nump is not allowed in this "
                    "challenge; it allows numpy and the plain parts of the standard library "
                    "(docs/judging.md)"
                ),
                "an untouched stub has to import",
            )
        ],
    ),
    "stub passes": (
        [added(MANY, 'check.that(True, saw="nothing")')],
        [
            (
                MANY,
                27,
                "test_one_and_one passes on the untouched stub",
                "let it call what the learner writes, and check the result",
            )
        ],
    ),
    "stub fails": (
        [added(MANY, 'check.that(not callable(solution.total), saw="it calls")')],
        [
            (
                MANY,
                27,
                "test_one_and_one is failed on the stub, not todo: it calls",
                "call what is to do before anything else",
            )
        ],
    ),
    "no rule": (
        [(MANY, '@rule("R4")\n', "")],
        [
            (
                MANY,
                6,
                "test_every_number_counts proves no rule, wanted one rule",
                'decorate it with one @rule("R…")',
            ),
            (SPEC, 26, "R4 has no test", 'write one with @rule("R4"), or remove the rule'),
        ],
    ),
    "two rules": (
        [(MANY, '@rule("R4")\n', '@rule("R4")\n@rule("R1")\n')],
        [
            (
                MANY,
                8,
                "test_every_number_counts proves R1 and R4, wanted one rule",
                'decorate it with one @rule("R…")',
            )
        ],
    ),
    "unknown rule": (
        [(PAIRS, '@rule("R2")', '@rule("R8")')],
        [
            (
                PAIRS,
                16,
                "test_arguments_stay_as_they_are proves R8, which the spec does not have",
                "name one of its rules, or add the rule",
            ),
            (SPEC, 24, "R2 has no test", 'write one with @rule("R2"), or remove the rule'),
        ],
    ),
    "no test": (
        [(PAIRS, "def test_arguments", "def arguments")],
        [(SPEC, 24, "R2 has no test", 'write one with @rule("R2"), or remove the rule')],
    ),
    "stage without tests": (
        [(MANY, "def test_every", "def every"), (MANY, "def test_each", "def each")],
        [
            (MANY, 0, "stage many has no test", "write functions named test_…"),
            (SPEC, 26, "R4 has no test", 'write one with @rule("R4"), or remove the rule'),
            (SPEC, 27, "R5 has no test", 'write one with @rule("R5"), or remove the rule'),
            (
                TOML,
                22,
                "budget each_number_is_read_once has no test",
                "write test_each_number_is_read_once in its stage",
            ),
        ],
    ),
    "budget test": (
        [(MANY, "def test_each_number_is_read_once", "def test_numbers_are_read_once")],
        [
            (
                TOML,
                22,
                "budget each_number_is_read_once has no test",
                "write test_each_number_is_read_once in its stage",
            ),
            (
                MANY,
                12,
                "test_numbers_are_read_once measures (count) without a budget",
                'add [[budget]] with name = "numbers_are_read_once"',
            ),
        ],
    ),
    "budget kind": (
        [(TOML, 'kind = "count"', 'kind = "peak"')],
        [
            (
                MANY,
                12,
                "budget each_number_is_read_once is a peak, and its test does not measure one",
                "take the fixture peak",
            )
        ],
    ),
    "budget stage": (
        [(TOML, 'stage = "many"', 'stage = "pairs"')],
        [
            (
                TOML,
                22,
                "budget each_number_is_read_once is of stage pairs, its test of many",
                "make them the same",
            )
        ],
    ),
    "not measured": (
        [
            (
                MANY,
                "def test_each_number_is_read_once(count)",
                "def test_each_number_is_read_once(solution, count)",
            ),
            (
                MANY,
                "    count(reads, inputs=lambda rng: (8,), verify=lambda result, n: None)\n",
                '    check.equal(reads(solution, 8), 8, what="reads")\n',
            ),
        ],
        [
            (
                MANY,
                12,
                "the reference fails test_each_number_is_read_once: "
                "test_each_number_is_read_once takes count and does not call it",
                "correct the test or 01_sums.py",
            )
        ],
    ),
    "reference fails": (
        [(MANY, "6.0", "7.0")],
        [
            (
                MANY,
                7,
                "the reference fails test_every_number_counts: 0, 1, 2, 3: total differed by 1",
                "correct the test or 01_sums.py",
            )
        ],
    ),
    "reference blocked": (
        [(REFERENCE, "import numpy as np\n", "import os\n\nimport numpy as np\n")],
        [
            (
                REFERENCE,
                0,
                (
                    "the reference cannot be graded: 01_sums.py:3: import of os is not allowed "
                    "in this challenge; it allows numpy and the plain parts of the standard "
                    "library (docs/judging.md)"
                ),
                "correct it, or what challenge.toml allows",
            )
        ],
    ),
    "no room": (
        [(TOML, "limit = 16", "limit = 15")],
        [
            (
                TOML,
                22,
                "budget each_number_is_read_once: the reference has 8, at most 7.5 is room",
                "raise the limit, or count something else",
            )
        ],
    ),
    "over": (
        [(TOML, "limit = 16", "limit = 7")],
        [
            (
                TOML,
                22,
                "budget each_number_is_read_once: the reference has 8, at most 3.5 is room",
                "raise the limit, or count something else",
            )
        ],
    ),
    "baseline meets": (
        [(TOML, "limit = 16", "limit = 17")],
        [
            (
                TOML,
                22,
                "budget each_number_is_read_once: the baseline has 24, at least 25.5 misses",
                "lower the limit, or count something else",
            )
        ],
    ),
    "leak": (
        [(PAIRS, 'given=f"{n} numbers, twice")', 'given="x = np.arange(float(n))")')],
        [
            (
                PAIRS,
                10,
                (
                    "a failure of test_sum_of_a_pair shows a line of 1_pairs.py: x = "
                    "np.arange(float(n))"
                ),
                "say what was seen in other words, through check",
            )
        ],
    ),
}


@pytest.mark.parametrize("case", RUN_CASES.values(), ids=RUN_CASES)
def test_one_mistake_is_one_line(sums: Sums, case: Case) -> None:
    """A challenge that shows its mistake when it is run gets the line that names it."""
    sums.keep_bugs("subtracts")

    found = sums.change(*case[0]).run()

    assert found == lines(case)


BUG_CASES: dict[str, Case] = {
    "uncaught": (
        [(BUGS, "return a - b", "return b + a")],
        [
            (
                BUGS,
                2,
                "bug subtracts: no test of R1 catches it (test_sum_of_a_pair)",
                "sharpen one, or name another rule",
            )
        ],
    ),
    "hangs": (
        [(BUGS, "result = 1.0", "while True: pass")],
        [
            (
                BUGS,
                9,
                "bug begins_at_one: it hangs in test_every_number_counts",
                "plant a mistake that returns",
            )
        ],
    ),
    "kills": (
        [(BUGS, "result = 1.0", "np.ctypeslib.ctypes.string_at(0)")],
        [
            (
                BUGS,
                9,
                "bug begins_at_one: it ends the process in test_every_number_counts: SIGSEGV",
                "plant a mistake that returns",
            )
        ],
    ),
    "forbidden": (
        [(BUGS, "result = 1.0", "import os")],
        [
            (
                BUGS,
                9,
                (
                    "bug begins_at_one: it cannot be graded: 01_sums.py:15: import of os is not "
                    "allowed in this challenge; it allows numpy and the plain parts of the "
                    "standard library (docs/judging.md)"
                ),
                "correct replace",
            )
        ],
    ),
    "NameError": (
        [(BUGS, "result = 1.0", "result = one")],
        [
            (
                BUGS,
                9,
                ("bug begins_at_one: it does not run: raised NameError: name 'one' is not defined"),
                "correct replace",
            )
        ],
    ),
}


@pytest.mark.parametrize("case", BUG_CASES.values(), ids=BUG_CASES)
def test_a_planted_bug_is_caught_by_its_rule(
    sums: Sums, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug that no test of its rule catches, or that is caught for another reason, is named."""
    monkeypatch.setattr(proof, "BUG_LIMIT_S", 1.0)

    sums.keep_bugs("subtracts", "begins_at_one", "skips_the_last")

    found = sums.change(*case[0]).run()

    assert found == lines(case)
