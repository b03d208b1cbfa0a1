"""Rules and sections of a challenge's spec.md. Knows nothing about pytest."""

from __future__ import annotations

import re
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
