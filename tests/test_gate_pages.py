"""The gate on challenge.toml, spec.md, stub and reference, from their text."""

from __future__ import annotations

from pathlib import Path

import pytest
from gate_sums import BUGS, FILES, REFERENCE, SPEC, STUB, TOML, Case, Sums, lines

SPEC_RULES = FILES[SPEC][FILES[SPEC].index("- **R1**") : FILES[SPEC].index("## Budgets")]
ORDER = "Goal, Background, Stages, Interface, Rules, Budgets, Symptoms, References, Out of scope"
ORDER_CURE, SECTIONS_CURE = f"order: {ORDER}", f"use one of {ORDER}"

TEXT_CASES: dict[str, Case] = {
    "two hints": (
        [
            (
                TOML,
                'arrays"\nhints = ["where", "idea", "line"]',
                'arrays"\nhints = ["where", "idea"]',
            )
        ],
        [
            (
                TOML,
                10,
                "stage pairs has 2 hints, wanted 3",
                "write where to look, the idea, almost the line",
            )
        ],
    ),
    "need": (
        [(TOML, "timeout = 20", 'timeout = 20\nneeds = ["02_products"]')],
        [(TOML, 5, "needs names 02_products, which does not exist", "name some of 01_sums")],
    ),
    "todo": (
        [(SPEC, "Sums, as", "TODO Sums, as")],
        [(SPEC, 5, "1 line says TODO", "write what is missing")],
    ),
    "title": (
        [(SPEC, "# Sums\n", "# Sum\n")],
        [(SPEC, 1, "the title is 'Sum', challenge.toml says 'Sums'", "make them the same")],
    ),
    "no section": (
        [(SPEC, "## References\n\nNone.\n", "")],
        [(SPEC, 0, "the section References is missing", "write ## References")],
    ),
    "unknown section": (
        [(SPEC, "## Out of scope", "## Also\n\nMore.\n\n## Out of scope")],
        [(SPEC, 45, "Also is no section of a spec", SECTIONS_CURE)],
    ),
    "order": (
        [
            (
                SPEC,
                "## Symptoms\n\nOff by one: R4.\n\n## References\n\nNone.\n",
                "## References\n\nNone.\n\n## Symptoms\n\nOff by one: R4.\n",
            )
        ],
        [(SPEC, 37, "the section References stands in the wrong place", ORDER_CURE)],
    ),
    "empty section": (
        [(SPEC, "Multiplication.\n", "")],
        [(SPEC, 45, "the section Out of scope is empty", "write it")],
    ),
    "long": (
        [(SPEC, "Multiplication.\n", "Multiplication.\n" * 210)],
        [(SPEC, 251, "the page has 256 lines, at most 250 are read", "shorten it")],
    ),
    "gap": (
        [(SPEC, "**R5**", "**R6**")],
        [
            (SPEC, 27, "R6 stands where R5 is due", "number the rules R1, R2, … without gaps"),
            (
                BUGS,
                38,
                "bug reads_three_times: there is no rule R5",
                "name the rule that it breaks: R1, R2, R3, R4, R6",
            ),
        ],
    ),
    "no stop": (
        [(SPEC, "read once.", "read once")],
        [(SPEC, 27, "R5 is no sentence", "end it with a full stop")],
    ),
    "misread": (
        [(SPEC, "- **R5** Each", "- R5: Each")],
        [
            (
                SPEC,
                27,
                "this does not read as a rule",
                "write `- **R1** One sentence. [background](#anchor)`",
            ),
            (
                BUGS,
                38,
                "bug reads_three_times: there is no rule R5",
                "name the rule that it breaks: R1, R2, R3, R4",
            ),
        ],
    ),
    "no rules": (
        [
            (
                SPEC,
                SPEC_RULES,
                "None.\n\n",
            ),
            (SPEC, "one: R4", "one"),
        ],
        [(SPEC, 21, "there is no rule", "write `- **R1** One sentence. [background](#anchor)`")],
    ),
    "symptom": (
        [(SPEC, "one: R4", "one: R9")],
        [(SPEC, 39, "R9 is named, and there is no such rule", "name another rule")],
    ),
    "anchor": (
        [(SPEC, "(#adding)", "(#subtracting)")],
        [(SPEC, 23, "the link to #subtracting leads nowhere", "name the anchor of a heading")],
    ),
    "no comments": (
        [(SPEC, "<!-- /budgets -->", "")],
        [
            (
                SPEC,
                29,
                "wanted <!-- budgets --> and after it <!-- /budgets -->, once each",
                "write the two comments under ## Budgets",
            )
        ],
    ),
    "table": (
        [(TOML, "limit = 16", "limit = 17")],
        [
            (
                SPEC,
                31,
                "the table of budgets is not what challenge.toml says",
                "llmgrind check --fix 01_sums",
            )
        ],
    ),
    "stub syntax": (
        [(STUB, "def total(read, n: int)", "def total(read, n: int")],
        [(STUB, 15, "not Python: invalid syntax", "correct it")],
    ),
    "only in stub": (
        [(STUB, "def total(", 'def mean(xs):\n    """Mean."""\n    return xs\n\n\ndef total(')],
        [
            (
                STUB,
                15,
                "mean is in the stub and not in the reference",
                "add it there, or remove it here",
            )
        ],
    ),
    "only in reference": (
        [(REFERENCE, "def total(", "def mean(xs):\n    return xs\n\n\ndef total(")],
        [
            (
                REFERENCE,
                13,
                "mean is in the reference and not in the stub",
                "add it there, or give it a leading underscore here",
            )
        ],
    ),
    "signature": (
        [(REFERENCE, "n: int) -> float", "n: int = 1) -> float")],
        [
            (
                STUB,
                15,
                (
                    "the stub has `def total(read, n: int) -> float`, the reference `def "
                    "total(read, n: int=1) -> float`"
                ),
                "make them the same",
            )
        ],
    ),
    "docstring": (
        [(STUB, '    """The sum of read(0) to read(n - 1)."""\n', "")],
        [(STUB, 15, "total has no docstring", "say shapes, dtypes, units and errors")],
    ),
    "no example": (
        [(STUB, ">>> add", "add")],
        [
            (
                STUB,
                1,
                "no docstring has an example",
                "give one that can be checked by hand, with >>>",
            )
        ],
    ),
    "todo text": (
        [(STUB, '"01_sums, stage 2"', '"01_sums, stage 3"')],
        [
            (
                STUB,
                15,
                "total raises NotImplementedError('01_sums, stage 3')",
                'write "01_sums, stage N" with N from 1 to 2',
            )
        ],
    ),
}


@pytest.mark.parametrize("case", TEXT_CASES.values(), ids=TEXT_CASES)
def test_one_mistake_is_one_line(tmp_path: Path, case: Case) -> None:
    """A challenge with one mistake in its text gets the line that names it, and no other."""
    sums = Sums(tmp_path)
    sums.write()

    found = sums.change(*case[0]).text()

    assert found == lines(case)
