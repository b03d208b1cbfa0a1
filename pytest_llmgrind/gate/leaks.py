"""No failure text holds a line of hidden or reference code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_llmgrind.gate.files import hidden_sources, reference_file
from pytest_llmgrind.gate.finding import Finding
from pytest_llmgrind.gate.worker import Result
from pytest_llmgrind.manifest import Manifest

SHORTEST = 20
"""Non-blank characters; a shorter line may stand in a sentence by chance."""
_FRAME = re.compile(r"^ +\S+:\d+: in \S+$")


class Leaks:
    """Remembers the lines that must not be shown; each is reported once."""

    def __init__(self, manifest: Manifest) -> None:
        public = _lines(manifest.spec) | _lines(manifest.stub)
        self._secret: dict[str, Path] = {}
        for path in [*hidden_sources(manifest), reference_file(manifest)]:
            lines = (line for line in _lines(path) if line not in public)
            self._secret |= {line: path for line in lines if len(line) - line.count(" ") > SHORTEST}

    def check(self, results: Iterable[Result]) -> Iterator[Finding]:
        """Findings for the failure texts of a run; a learner's own frames are not ours."""
        for result in results:
            for text in _said(result.text):
                for line in [line for line in self._secret if line in text]:
                    path = self._secret.pop(line)
                    what = f"a failure of {result.test.name} shows a line of {path.name}: {line}"
                    cure = "say what was seen in other words, through check"
                    yield Finding(result.test.path, result.test.line, what, cure)


def _said(text: str) -> Iterator[str]:
    """The lines of a failure text but the learner's frames, which quote their own code."""
    skip = False
    for line in text.splitlines():
        if skip or _FRAME.match(line):
            skip = not skip
            continue
        yield " ".join(line.split())


def _lines(path: Path) -> set[str]:
    return {" ".join(line.split()) for line in path.read_text("utf-8").splitlines()}
