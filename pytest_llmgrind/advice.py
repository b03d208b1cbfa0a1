"""What to do next in a challenge. Knows nothing about pytest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_llmgrind import spec as specs
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.verdicts import NOT_RUN, Verdict

GREEN = ("passed", "skipped")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do, and where to read about it.

    ``kind`` is ``start`` (copy the stub), ``mend`` (the code cannot be graded), ``fix`` (a rule
    is broken), ``write`` (a stage is not written), ``run`` (tests were left out) or ``done``.
    """

    kind: str
    text: str
    read: str = ""


def step(
    manifest: Manifest, verdicts: Mapping[str, Sequence[Verdict]], spec: str, *, is_stub: bool
) -> Step:
    """The first thing that stands in the way; ``spec`` is the path of spec.md as it is shown."""
    tests = [test for stage in verdicts.values() for test in stage]
    blocked = next((test for test in tests if test.state == "blocked"), None)
    if blocked:
        return Step(kind="mend", text=blocked.saw.split("\n")[0], read=spec)
    if is_stub and {test.state for test in tests} <= {"todo", "skipped", NOT_RUN}:
        return Step(kind="start", text=f"llmgrind start {manifest.id}", read=spec)
    steps = _of_stages(manifest, verdicts, spec)
    # What failed comes before what was left out: -k and --lf leave out most.
    if found := min(steps, key=lambda found: found.kind == "run", default=None):
        return found
    if any(test.state == "passed" for test in tests):
        return Step(kind="done", text="")
    why = next((test.saw for test in tests), "it has no tests")
    return Step(kind="run", text=f"nothing ran here: {why}", read=spec)


def _of_stages(
    manifest: Manifest, verdicts: Mapping[str, Sequence[Verdict]], spec: str
) -> Iterator[Step]:
    """A step for each stage that is not green, in order."""
    for number, stage in enumerate(manifest.stages, start=1):
        where = f"stage {number}, {stage.name}"
        worst = min(verdicts[stage.name], key=lambda test: test.severity, default=None)
        if worst is None or worst.state == NOT_RUN:
            yield Step(kind="run", text=f"{where}: run all of its tests", read=spec)
        elif worst.state == "todo":
            yield Step(kind="write", text=f"{where}: {stage.title}", read=f"{spec}#stages")
        elif worst.state not in GREEN:
            read = _read(manifest, worst, spec)
            yield Step(kind="fix", text=f"{where}: {_broken(worst)}", read=read)


def _broken(test: Verdict) -> str:
    return f"{test.rule} {test.word}" if test.rule else test.word


def _read(manifest: Manifest, test: Verdict, spec: str) -> str:
    rule = specs.load(manifest.spec).rule(test.rule)
    return f"{spec}{rule.anchor}" if rule else spec
