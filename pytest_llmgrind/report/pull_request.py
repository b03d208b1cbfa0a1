"""What became of a pull request: for the terminal, and as Markdown for its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llmgrind.cohort.board import CohortBoard
from pytest_llmgrind.cohort.ledger import Record, Test
from pytest_llmgrind.pull_request import PullRequest
from pytest_llmgrind.report import cohort, words
from pytest_llmgrind.report.markdown import text
from pytest_llmgrind.report.result import PASSED
from pytest_llmgrind.report.tables import Look

MOST_RULES, MOST_FILES = 10, 5
NOT_TRIED = ("todo", "blocked", "not run", "not measured", "skipped", "no hardware")
"""Verdicts that say nothing about a rule; they are counted."""
UNUSED = "changed and not used (grader and challenges are those of the base)"
NOTHING = "no solution differs from the base: nothing was graded"


def passes(request: PullRequest, records: Sequence[Record]) -> bool:
    """Whether everything that was handed in passes whole, and nothing was refused."""
    return not request.refused and all(map(_passes, records))


def render(request: PullRequest, records: Sequence[Record], board: CohortBoard, look: Look) -> str:
    """One entrant a line, then what is wrong."""
    parts = [cohort.render(board, look).rstrip("\n")] if records else []
    for record in records:
        parts.append(f"{_title(request, record)}: {_verdict(record)}")
        parts += [f"  {wrong}" for wrong in _wrong(record, request)]
    return "\n".join([*parts, *_remarks(request)]) + "\n"


def markdown(request: PullRequest, records: Sequence[Record], board: CohortBoard) -> str:
    """The same; every text that came from elsewhere is escaped."""
    lines = ["# llmgrind", ""]
    if records:
        lines += [cohort.markdown(board)]
    for record in records:
        lines += [f"## {text(_title(request, record))}: {_verdict(record)}", ""]
        lines += [f"- {text(wrong)}" for wrong in _wrong(record, request)]
        lines.append("")
    lines += [f"- {text(remark)}" for remark in _remarks(request)]
    return "\n".join(lines).rstrip("\n") + "\n"


def document(request: PullRequest, records: Sequence[Record], board: CohortBoard) -> dict[str, Any]:
    """The same for machines."""
    return {
        **board.as_json(),
        "passed": passes(request, records),
        "solutions": [
            {
                "entrant": record.entrant,
                "challenge": record.challenge,
                "kind": request.kinds[record.entrant, record.challenge],
                "passed": _passes(record),
            }
            for record in records
        ],
        "removed": [list(name) for name in request.removed],
        "refused": list(request.refused),
        "unused": list(request.unused),
    }


def _passes(record: Record) -> bool:
    if record.result is None or record.reason:
        return False
    tests = record.result.challenges[0].tests
    return bool(tests) and all(test.verdict == PASSED for test in tests)


def _verdict(record: Record) -> str:
    return PASSED if _passes(record) else "failed"


def _title(request: PullRequest, record: Record) -> str:
    kind = request.kinds[record.entrant, record.challenge]
    return words.clean(f"{record.entrant}, {record.challenge} ({kind})")


def _wrong(record: Record, request: PullRequest) -> Iterator[str]:
    """The rules that do not hold, each by the first test of it that says so."""
    if record.result is None:
        return  # the leaderboard says why
    rules = request.roll.exams[record.challenge].rules
    tests = [test for test in record.result.challenges[0].tests if test.verdict != PASSED]
    broken: dict[str, Test] = {}
    for test in tests:
        if test.verdict not in NOT_TRIED:
            broken.setdefault(test.rule, test)
    for test in list(broken.values())[:MOST_RULES]:
        said = f"{test.rule} {test.verdict}: {rules.get(test.rule, test.name)}"
        yield words.clean(f"{said} Saw: {test.saw}" if test.saw else said)
    if len(broken) > MOST_RULES:
        yield f"and {words.plural(len(broken) - MOST_RULES, 'other rule')}"
    for verdict in NOT_TRIED:
        if count := sum(test.verdict == verdict for test in tests):
            yield f"{verdict}: {words.plural(count, 'test')}"


def _remarks(request: PullRequest) -> Iterator[str]:
    for home in request.refused:
        yield f"refused: {home} is a link"
    if not request.kinds and not request.refused:
        yield NOTHING
    for entrant, challenge in request.removed:
        yield words.clean(f"removed: {entrant}, {challenge}")
    if request.unused:
        files = words.plural(len(request.unused), "file")
        named = words.few(request.unused, MOST_FILES)
        yield words.clean(f"{UNUSED}: {files}: {named}")
