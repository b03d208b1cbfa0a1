"""The table of challenges in the README: ``python -m pytest_llmgrind.catalogue README.md``.

Knows nothing about pytest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from pytest_llmgrind.manifest import Manifest, load
from pytest_llmgrind.workspace import find

_TABLE = re.compile(r"(<!-- challenges -->\n).*?(<!-- /challenges -->)", re.DOTALL)


def table(manifests: Iterable[Manifest]) -> str:
    """One row a challenge, as Markdown: what it teaches, what is measured, how long it takes."""
    rows = ["| challenge | you build | stages | budgets | minutes |", "|---|---|---|---|---|"]
    for manifest in manifests:
        link = f"[{manifest.id}](challenges/{manifest.id}/spec.md)"
        kinds = ", ".join(dict.fromkeys(budget.kind for budget in manifest.budgets)) or "–"
        cells = (link, manifest.summary, str(len(manifest.stages)), kinds, str(manifest.minutes))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def with_table(text: str, manifests: Iterable[Manifest]) -> str:
    """The page with the table between its two comments made anew."""
    made = table(manifests)
    return _TABLE.sub(lambda match: match[1] + made + match[2], text)


def main(page: Path) -> None:
    workspace = find(page.resolve().parent)
    manifests = [load(workspace.challenges / id) for id in workspace.ids]
    page.write_text(with_table(page.read_text("utf-8"), manifests), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
