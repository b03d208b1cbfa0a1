"""What has to be run: the stub passes no test, the reference all, and every bug is caught."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pytest_llmgrind import tiers
from pytest_llmgrind.bugs import Bug
from pytest_llmgrind.gate import coverage, figures, planted
from pytest_llmgrind.gate.files import reference_file
from pytest_llmgrind.gate.finding import Finding, count, first_line
from pytest_llmgrind.gate.leaks import Leaks
from pytest_llmgrind.gate.worker import HiddenTest, Result, Run, Worker
from pytest_llmgrind.manifest import Manifest

ELSEWHERE = "run the gate on a machine that has it"
CAUGHT = ("failed", "over budget")
NOT_RUNNABLE = ("raised NameError", "raised UnboundLocalError", "raised ImportError")
_NOT_THEIRS = re.compile(r"^nothing of yours: this challenge has a mistake \((.*)\)$")
AGAIN = 4  # chances more for what a busy machine left undecided
BUG_LIMIT_S = 10.0
"""What a test of a planted bug may take, or ten times what the reference took. Where it is timed,
the challenge's own limit holds: a busy machine measures for long."""

Step = Callable[[str], None]


def prove(manifest: Manifest, worker: Worker, step: Step) -> Iterator[Finding]:
    """Every finding that needs code to run."""
    if reason := tiers.missing_kit(manifest.kit):
        yield Finding(manifest.file, 0, f"not run here: {reason}", ELSEWHERE, note=True)
        return
    step("stub")
    stub, leaks = worker.grade(worker.solutions), Leaks(manifest)
    if broken := list(_broken(manifest, stub, "the stub")):
        yield from broken
        return
    said: set[tuple[Path, int]] = set()
    yield from _once(coverage.check(manifest, list(stub.tests.values())), said)
    yield from _once(judge_stub(manifest, stub), said)
    yield from leaks.check(stub.results)
    step("reference")
    reference = _settled(
        worker, manifest.reference, worker.grade(manifest.reference, measured=True)
    )
    yield from _broken(manifest, reference, "the reference")
    yield from _once(judge_reference(manifest, reference), said)
    yield from figures.check(
        manifest,
        reference,
        lambda rule: worker.grade(manifest.reference, rule=rule, measured=True).results,
    )
    if not _blocked(stub) and not _blocked(reference):
        step("examples")
        yield from _examples(manifest, worker.examples())
        yield from _prove_bugs(manifest, worker, reference, leaks, step)


def _once(findings: Iterable[Finding], said: set[tuple[Path, int]]) -> Iterator[Finding]:
    """The first finding about each line: one mistake of a test shows in every run of it."""
    for finding in findings:
        place = (finding.path, finding.line)
        if finding.line == 0 or place not in said:
            yield finding
        said.add(place)


def _prove_bugs(
    manifest: Manifest, worker: Worker, reference: Run, leaks: Leaks, step: Step
) -> Iterator[Finding]:
    proven = _proven_rules(reference)
    timed = coverage.budget_rules(manifest, list(reference.tests.values()))
    usable = planted.usable(manifest)
    bugs = [bug for bug in usable if bug.rule in proven]
    if lacking := [bug for bug in usable if bug.rule in _lacking_rules(reference)]:
        what = f"{count(len(lacking), 'bug')} not run here: {', '.join(b.name for b in lacking)}"
        yield Finding(manifest.bugs, 0, what, ELSEWHERE, note=True)
    for number, bug in enumerate(bugs, start=1):
        step(f"bug {number} of {len(bugs)}")
        run = _grade_bug(manifest, worker, bug, reference, measured=bug.rule in timed)
        yield from judge_bug(manifest, bug, run)
        yield from leaks.check(run.results)


def _examples(manifest: Manifest, run: Run) -> Iterator[Finding]:
    for event in run.examples:
        what = f"the example `{event['source']}` {event['text']}"
        cure = "correct it, or the reference"
        yield Finding(Path(event["path"]), event["line"], what, cure)
    for event in run.broken:
        what = f"its examples cannot run: {first_line(event['text'])}"
        yield Finding(manifest.stub, 0, what, "make stub and reference importable")
    if run.died:
        what = f"the examples of the docstrings end the process: {run.died}"
        yield Finding(manifest.stub, 0, what, "give examples that end")


def _broken(manifest: Manifest, run: Run, who: str) -> Iterator[Finding]:
    """A session that could not collect, or did not live to its end."""
    for event in run.broken:
        path = manifest.root.parent.parent / event["path"]
        where, _, reason = first_line(event["text"]).rpartition(" does not load: ")
        line = where.rpartition(":")[2]
        number = int(line) if line.isdecimal() else 0
        yield Finding(path, number, f"it does not load: {reason}", "make it importable")
    if run.died:
        test = run.tests.get(run.died_in)
        where = f" in {test.name}" if test else ""
        path, number = (test.path, test.line) if test else (manifest.root, 0)
        what = f"{who} ends the process{where}: {run.died}"
        yield Finding(path, number, what, "no test and no solution may hang or end it")


def _blocked(run: Run) -> Result | None:
    """The first result that says that nothing can be graded."""
    return next((result for result in run.results if result.outcome == "blocked"), None)


def judge_stub(manifest: Manifest, run: Run) -> Iterator[Finding]:
    """Every test of an untouched stub is TODO."""
    if blocked := _blocked(run):
        what = f"the stub cannot be graded: {first_line(blocked.saw)}"
        yield Finding(manifest.stub, 0, what, "an untouched stub has to import")
        return
    for result in run.results:
        test = result.test
        if result.outcome == "passed":
            what = f"{test.name} passes on the untouched stub"
            cure = "let it call what the learner writes, and check the result"
            yield Finding(test.path, test.line, what, cure)
        elif result.outcome not in ("todo", "no hardware"):
            what = f"{test.name} is {result.outcome} on the stub, not todo: {_saw(result)}"
            yield Finding(test.path, test.line, what, "call what is to do before anything else")


def judge_reference(manifest: Manifest, run: Run) -> Iterator[Finding]:
    """The reference passes all; what it measured is for figures.py."""
    file = reference_file(manifest)
    if blocked := _blocked(run):
        what = f"the reference cannot be graded: {first_line(blocked.saw)}"
        yield Finding(file, 0, what, "correct it, or what challenge.toml allows")
        return
    for result in run.results:
        test = result.test
        if result.outcome == "over budget":
            continue  # said with its figures
        if result.outcome not in ("passed", "no hardware"):
            what = f"the reference fails {test.name}: {_saw(result)}"
            yield Finding(test.path, test.line, what, f"correct the test or {file.name}")
    yield from _not_here(run)


def _not_here(run: Run) -> Iterator[Finding]:
    """A note for each stage with tests that this machine cannot run."""
    skipped: dict[tuple[Path, str], int] = {}
    for result in run.results:
        if result.outcome == "no hardware":
            key = (result.test.path, result.saw.removeprefix("Skipped: "))
            skipped[key] = skipped.get(key, 0) + 1
    for (path, reason), number in skipped.items():
        what = f"{count(number, 'test')} not run here: {reason}"
        yield Finding(path, 0, what, ELSEWHERE, note=True)


def _proven_rules(run: Run) -> set[str]:
    """The rules whose tests the reference passes: a failure there means something."""
    ran = [r for r in run.results if r.outcome != "no hardware"]
    failed = {rule for r in ran if r.outcome != "passed" for rule in r.test.rules}
    return {rule for r in ran for rule in r.test.rules} - failed


def _lacking_rules(run: Run) -> set[str]:
    """The rules of which no test can run on this machine."""
    ran = {rule for r in run.results if r.outcome != "no hardware" for rule in r.test.rules}
    return {rule for r in run.results for rule in r.test.rules} - ran


def _grade_bug(
    manifest: Manifest, worker: Worker, bug: Bug, reference: Run, *, measured: bool
) -> Run:
    source = reference_file(manifest).read_text("utf-8")
    (worker.solutions / f"{manifest.id}.py").write_text(bug.patched(source), "utf-8")
    took = [r.cpu_s for r in reference.results if bug.rule in r.test.rules]
    shorter = max([BUG_LIMIT_S, *(10 * t for t in took)])
    limit_s = manifest.timeout if measured else min(manifest.timeout, shorter)
    run = worker.grade(
        worker.solutions,
        rule=bug.rule,
        measured=measured,
        alone=False,  # a race holds on a busy machine
        limit_s=limit_s,
    )
    return run if _uncaught(bug, run) == ("", "") else _settled(worker, worker.solutions, run)


def _settled(worker: Worker, solutions: Path, run: Run) -> Run:
    """Measure again what a busy machine left undecided."""
    for _ in range(AGAIN):
        unsettled = {r.test.id: r.test for r in run.results if r.undecided}
        for rule in sorted({rule for test in unsettled.values() for rule in test.rules}):
            again = worker.grade(solutions, rule=rule, measured=True).results
            fresh = {r.test.id: r for r in again if r.test.id in unsettled}
            run.results = [fresh.get(r.test.id, r) for r in run.results]
    return run


def judge_bug(manifest: Manifest, bug: Bug, run: Run) -> Iterator[Finding]:
    """A planted bug fails a test of its rule, by what it returns."""
    line = planted.bug_line(manifest, bug)
    what, cure = _uncaught(bug, run)
    if what:
        yield Finding(manifest.bugs, line, f"bug {bug.name}: {what}", cure)


def _uncaught(bug: Bug, run: Run) -> tuple[str, str]:
    """What is wrong with how a bug was caught, and what to do; empty if nothing is."""
    if run.died:
        test = run.tests.get(run.died_in)
        where = f" in {test.name}" if test else ""
        return f"it ends the process{where}: {run.died}", "plant a mistake that returns"
    for result in run.results:
        if result.outcome == "timed out":
            return f"it hangs in {result.test.name}", "plant a mistake that returns"
        if result.outcome == "blocked":
            return f"it cannot be graded: {first_line(result.saw)}", "correct replace"
        if result.outcome in CAUGHT:
            if any(text in result.saw for text in NOT_RUNNABLE):
                return f"it does not run: {_saw(result)}", "correct replace"
            return "", ""
    for result in run.results:
        if result.undecided:
            data = result.budget or {}
            between = f"{data['low']:.3g} to {data['high']:.3g}, the limit is {data['limit']:g}"
            if data["low"] > data["limit"]:
                between += "; too few rounds to be sure"
            cure = f"plant one that is further over, or {figures.QUIETER}"
            return f"{result.test.name} is undecided ({between})", cure
    names = ", ".join(_names(list(run.tests.values())))
    return f"no test of {bug.rule} catches it ({names})", "sharpen one, or name another rule"


def _names(tests: list[HiddenTest]) -> list[str]:
    return list(dict.fromkeys(test.name for test in tests))


def _saw(result: Result) -> str:
    """What a learner would be told, without the words that it is not theirs to mend."""
    text = _NOT_THEIRS.sub(r"\1", first_line(result.saw))
    return text or result.outcome
