"""Results as JUnit XML, the format in which CI systems show tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from pytest_llmgrind.cohort.ledger import Record, Test
from pytest_llmgrind.plain import line
from pytest_llmgrind.report.result import PASSED

BESIDE = {"skipped", "no hardware", "not run", "not measured"}


def write(file: Path, records: Iterable[Record]) -> None:
    """A suite for each record. Raises OSError."""
    root = ElementTree.Element("testsuites")
    for record in records:
        root.append(_suite(record))
    file.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _suite(record: Record) -> ElementTree.Element:
    title = line(f"{record.entrant}/{record.challenge}")
    tests = record.result.challenges[0].tests if record.result is not None else []
    cases = [_case(title, test) for test in tests]
    if record.reason or not tests:
        case = ElementTree.Element("testcase", classname=title, name="graded")
        ElementTree.SubElement(case, "error", message=line(record.reason, 300))
        cases.append(case)
    counts = {
        name: str(sum(case.find(kind) is not None for case in cases))
        for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    size = {"name": title, "tests": str(len(cases)), "time": f"{record.seconds:.3f}"}
    suite = ElementTree.Element("testsuite", size | counts)
    suite.extend(cases)
    return suite


def _case(suite: str, test: Test) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=f"{suite}.{test.stage}", name=f"{test.rule} {test.name}"
    )
    if test.verdict in BESIDE:
        ElementTree.SubElement(case, "skipped", message=test.verdict)
    elif test.verdict != PASSED:
        ElementTree.SubElement(case, "failure", message=line(f"{test.verdict}: {test.saw}", 300))
    return case
