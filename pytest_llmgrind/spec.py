"""Rules and sections of a challenge's spec.md. Knows nothing about pytest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SECTIONS = (
    "Goal",
    "Background",
    "Stages",
    "Interface",
    "Rules",
    "Budgets",
    "Symptoms",
    "References",
    "Out of scope",
)
_HEADING = re.compile(r"^(#{1,4}) +(.+?) *$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^- \*\*(R\d+)\*\* +(.+?)(?=^- |^#|^\s*$|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\s*\[[^\]]*\]\((#[\w-]+)\)\.?\s*$")
_MARKUP = re.compile(r"[`*]")


@dataclass(frozen=True)
class Rule:
    """One rule: its id, its sentence without markup, and the anchor that explains it."""

    id: str
    sentence: str
    anchor: str


@dataclass(frozen=True)
class Spec:
    """The parts of a spec.md that tests and failures quote."""

    path: Path
    title: str
    headings: tuple[tuple[int, str], ...]
    rules: tuple[Rule, ...]
    lines: int

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(text for level, text in self.headings if level == 2)

    @property
    def anchors(self) -> frozenset[str]:
        return frozenset("#" + slug(text) for _, text in self.headings)

    def rule(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, hyphens for spaces, no punctuation."""
    text = _MARKUP.sub("", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def section(text: str, name: str) -> str:
    """The section of a Markdown text that ``name`` means: a heading, its anchor, or its beginning.

    From its heading to the next one of its level or above; empty where there is none.
    """
    lines, wanted = text.splitlines(), slug(name.removeprefix("#"))
    headings = list(_headings(lines))
    found = [h for h in headings if slug(h[2]) == wanted]
    found = found or [h for h in headings if wanted and slug(h[2]).startswith(wanted)]
    if not found:
        return ""
    first, level, _ = found[0]
    last = next((n for n, other, _ in headings if n > first and other <= level), len(lines))
    return "\n".join(lines[first:last]).strip() + "\n"


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Number of its line, level and text of each heading outside of code."""
    fence = ""
    for number, text in enumerate(lines):
        if fence or text.startswith(("```", "~~~")):
            fence = "" if fence and text.startswith(fence) else fence or text[:3]
        elif match := _HEADING.match(text):
            yield number, len(match[1]), match[2]


def load(path: Path) -> Spec:
    """Parse ``path``; a missing file is a spec without a title, sections or rules."""
    try:
        stat = path.stat()
    except OSError:
        return Spec(path, "", (), (), 0)
    return _load(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _load(path: Path, _mtime_ns: int, _size: int) -> Spec:
    text = path.read_text("utf-8-sig", errors="replace")
    outside = _FENCE.sub("", text)
    headings = tuple((len(m[1]), m[2]) for m in _HEADING.finditer(outside))
    title = next((heading for level, heading in headings if level == 1), "")
    return Spec(path, title, headings, tuple(_rules(outside)), text.count("\n"))


def _rules(text: str) -> list[Rule]:
    found = []
    for match in _ITEM.finditer(text):
        body = " ".join(match[2].split())
        link = _LINK.search(body)
        sentence = _MARKUP.sub("", _LINK.sub("", body)).strip()
        found.append(Rule(match[1], sentence, link[1] if link else "#rules"))
    return found
