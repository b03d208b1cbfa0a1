"""spec.md: its sections, its rules, its links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_llmgrind import spec as specs
from pytest_llmgrind.gate.finding import Finding, line_of
from pytest_llmgrind.manifest import Manifest
from pytest_llmgrind.spec import SECTIONS, Spec

MAX_LINES = 250
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LIKE_A_RULE = re.compile(r"\s*([-*+]|\d+\.)\s+\W*R\d+\b")
_MENTION = re.compile(r"\bR\d+\b")
_LINK = re.compile(r"\]\((#[^)\s]*)\)")


@dataclass(frozen=True)
class Section:
    """A ``##`` heading with the lines below it; ``line`` is the heading's."""

    name: str
    line: int
    lines: tuple[str, ...]


def check(manifest: Manifest) -> Iterator[Finding]:
    """Every finding about the text of spec.md but its table of budgets."""
    spec = specs.load(manifest.spec)
    sections = _sections(manifest.spec.read_text("utf-8"))
    if spec.title != manifest.title:
        what = f"the title is {spec.title!r}, challenge.toml says {manifest.title!r}"
        yield Finding(manifest.spec, 1, what, "make them the same")
    if spec.lines > MAX_LINES:
        what = f"the page has {spec.lines} lines, at most {MAX_LINES} are read"
        yield Finding(manifest.spec, MAX_LINES + 1, what, "shorten it")
    yield from _order(manifest, sections)
    yield from _empty(manifest, sections)
    yield from _rules(manifest, spec, sections)
    yield from _links(manifest, spec)


def _order(manifest: Manifest, sections: list[Section]) -> Iterator[Finding]:
    names = [section.name for section in sections]
    lost = [name for name in SECTIONS if name not in names]
    for name in lost:
        yield Finding(manifest.spec, 0, f"the section {name} is missing", f"write ## {name}")
    wanted = [name for name in SECTIONS if name in names]
    for section in sections:
        if section.name not in SECTIONS:
            what = f"{section.name} is no section of a spec"
            yield Finding(manifest.spec, section.line, what, f"use one of {', '.join(SECTIONS)}")
        elif wanted and section.name != wanted.pop(0):
            what = f"the section {section.name} stands in the wrong place"
            yield Finding(manifest.spec, section.line, what, f"order: {', '.join(SECTIONS)}")
            return


def _empty(manifest: Manifest, sections: list[Section]) -> Iterator[Finding]:
    for section in sections:
        if section.name != "Budgets" and not _COMMENT.sub("", "\n".join(section.lines)).strip():
            what = f"the section {section.name} is empty"
            yield Finding(manifest.spec, section.line, what, "write it")


def _rules(manifest: Manifest, spec: Spec, sections: list[Section]) -> Iterator[Finding]:
    for number, rule in enumerate(spec.rules, start=1):
        line = rule_line(manifest, rule.id)
        if rule.id != f"R{number}":
            what = f"{rule.id} stands where R{number} is due"
            yield Finding(manifest.spec, line, what, "number the rules R1, R2, … without gaps")
            break
        if not rule.sentence.endswith("."):
            yield Finding(
                manifest.spec, line, f"{rule.id} is no sentence", "end it with a full stop"
            )
    yield from _misread(manifest, spec, sections)
    known = {rule.id for rule in spec.rules}
    for section in sections:
        for offset, text in enumerate(section.lines, start=1):
            for id in _MENTION.findall(text) if section.name == "Symptoms" else ():
                if id not in known:
                    what = f"{id} is named, and there is no such rule"
                    yield Finding(manifest.spec, section.line + offset, what, "name another rule")


def _misread(manifest: Manifest, spec: Spec, sections: list[Section]) -> Iterator[Finding]:
    """Items of the list of rules that do not read as rules."""
    form = "write `- **R1** One sentence. [background](#anchor)`"
    section = next((section for section in sections if section.name == "Rules"), None)
    if section is None:
        return
    if not spec.rules:
        yield Finding(manifest.spec, section.line, "there is no rule", form)
        return
    for offset, text in enumerate(section.lines, start=1):
        if _LIKE_A_RULE.match(text) and not re.match(r"- \*\*R\d+\*\* +\S", text):
            yield Finding(
                manifest.spec, section.line + offset, "this does not read as a rule", form
            )


def _links(manifest: Manifest, spec: Spec) -> Iterator[Finding]:
    for number, line in enumerate(manifest.spec.read_text("utf-8").splitlines(), start=1):
        for anchor in _LINK.findall(line):
            if anchor not in spec.anchors:
                what = f"the link to {anchor} leads nowhere"
                yield Finding(manifest.spec, number, what, "name the anchor of a heading")


def rule_line(manifest: Manifest, rule_id: str) -> int:
    return line_of(manifest.spec, f"- **{rule_id}**")


def _sections(text: str) -> list[Section]:
    """The sections in the order of the file; headings inside fences are no headings."""
    found: list[tuple[str, int, list[str]]] = []
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= line.startswith(("```", "~~~"))
        if line.startswith("## ") and not fenced:
            found.append((line[3:].strip(), number, []))
        elif found:
            found[-1][2].append(line)
    return [Section(name, line, tuple(lines)) for name, line, lines in found]
