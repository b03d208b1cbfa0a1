"""The papers that specs cite, each once. Knows nothing about pytest or click."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_llmgrind import spec

NOT_READ, READING, READ = "not read", "reading", "done"
STATES = (NOT_READ, READING, READ)
_ITEM = re.compile(r"^[-*+] +(.+?)(?=^[-*+] |^#|^\s*$|\Z)", re.MULTILINE | re.DOTALL)
_ARXIV = re.compile(
    r"arxiv(?:\.org/(?:abs|pdf)/|[: ]\s*)"
    r"([a-z-]+(?:\.[A-Z]{2})?/\d{7}|\d{4}\.\d{4,5})(?:v\d+)?",
    re.IGNORECASE,
)
_TITLE = re.compile(r'\*([^*]+)\*|"([^"]+)"|“([^”]+)”|\[([^\]]+)\]\(')
_YEAR = re.compile(r"(?<![\d.:/#])(?:19|20)\d\d(?![\d.]\d|/)")
_AUTHORS = re.compile(r"[^\W\d_][^`:#/*\"“\[]*")


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper and the ids of the challenges that cite it; ``year`` and ``arxiv`` may be empty."""

    title: str
    authors: str
    year: str
    arxiv: str
    challenges: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What its state is kept under: the same whoever cites it, and however."""
        return f"arXiv:{self.arxiv}" if self.arxiv else _words(self.title)

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


class PaperError(Exception):
    """No paper, or several, are meant; one line."""


def cited(specs: Mapping[str, Path]) -> list[Paper]:
    """The papers of the spec.md of each challenge, in order of their first citation."""
    found: list[Paper] = []
    for id, path in specs.items():
        try:
            text = path.read_text("utf-8-sig", errors="replace")
        except OSError:
            continue
        for paper in of_text(text):
            cited = replace(paper, challenges=(id,))
            same = next((n for n, known in enumerate(found) if _is_same(known, paper)), None)
            if same is None:
                found.append(cited)
            else:
                found[same] = _merged(found[same], cited)
    return found


def _is_same(a: Paper, b: Paper) -> bool:
    return a.arxiv == b.arxiv if a.arxiv and b.arxiv else _words(a.title) == _words(b.title)


def _merged(known: Paper, again: Paper) -> Paper:
    """Of two citations the fuller parts: GQA in one spec may have its whole title in another."""
    return Paper(
        title=max(known.title, again.title, key=len),
        authors=known.authors or again.authors,
        year=known.year or again.year,
        arxiv=known.arxiv or again.arxiv,
        challenges=tuple(dict.fromkeys((*known.challenges, *again.challenges))),
    )


def of_text(text: str) -> Iterator[Paper]:
    """The papers under ``## References``; issues, files and other items are none."""
    for match in _ITEM.finditer(spec.section(text, "references")):
        if paper := _paper(" ".join(match[1].split())):
            yield paper


def pick(papers: Iterable[Paper], text: str) -> Paper:
    """The paper that ``text`` means: its number from 1, its arXiv id, its title or a part of it.

    Raises
    ------
    PaperError
        None or several answer to it.
    """
    papers = list(papers)
    if text.isdecimal():
        if 0 < int(text) <= len(papers):
            return papers[int(text) - 1]
        raise PaperError(f"there is no paper {text}; they are 1 to {len(papers)}")
    wanted = _words(text)
    arxiv = re.sub(r"^arxiv:", "", text.strip(), flags=re.IGNORECASE)
    exact = [p for p in papers if wanted and (arxiv == p.arxiv or wanted == _words(p.title))]
    near = exact or [p for p in papers if wanted and wanted in _words(f"{p.authors} {p.title}")]
    if len(near) == 1:
        return near[0]
    if near:
        titles = "; ".join(f"{papers.index(p) + 1} {p.title}" for p in near)
        raise PaperError(f"{text!r} may be several: {titles}")
    raise PaperError(f"no paper is called {text!r}; `llmgrind reading` lists them")


def _paper(item: str) -> Paper | None:
    id, rest = _ARXIV.search(item), _ARXIV.sub("", item)
    title, year = _TITLE.search(rest), _YEAR.search(rest)
    ends = [match.start() for match in (title, year) if match]
    authors = rest[: min(ends)].strip(" ,.:(") if ends else ""
    authors = authors if _AUTHORS.fullmatch(authors) else ""
    when = year[0] if year else ""
    name = next(filter(None, title.groups()), "").strip(" .,") if title else ""
    if not (id or (authors and when and name)):
        return None
    arxiv = id[1].lower() if id else ""
    authors += "." if authors.endswith("et al") else ""
    name = name or f"{authors} {when}".strip() or f"arXiv:{arxiv}"
    return Paper(title=name, authors=authors, year=when, arxiv=arxiv)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
