"""The pages that list challenges: ``python -m pytest_llmgrind.catalogue`` makes their tables anew.

In ``README.md`` and ``challenges/README.md`` a table lies between two comments. The comment in
front of a path says what belongs to which day: ``<!-- path: 01_mlp, 02_attention; 03_rope -->``.

Knows nothing about pytest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_llmgrind.manifest import Manifest, load
from pytest_llmgrind.workspace import Workspace, find

PAGES = ("README.md", "challenges/README.md")
_TABLE = re.compile(r"(<!-- challenges -->\n).*?(<!-- /challenges -->)", re.DOTALL)
_MAP = re.compile(r"(<!-- map -->\n).*?(<!-- /map -->)", re.DOTALL)
_PATH = re.compile(r"(<!-- path: ([^>]*) -->\n).*?(<!-- /path -->)", re.DOTALL)


class PathError(Exception):
    """A path names a challenge that there is not, names one twice, or puts it before its needs."""


def page(text: str, manifests: Iterable[Manifest]) -> str:
    """The page with everything between its comments made anew.

    Raises
    ------
    PathError
        A path cannot be gone.
    """
    known = {manifest.id: manifest for manifest in manifests}
    text = _TABLE.sub(lambda found: found[1] + table(known.values()) + found[2], text)
    text = _MAP.sub(lambda found: found[1] + chart(known) + found[2], text)
    return _PATH.sub(lambda found: found[1] + path(found[2], known) + found[3], text)


def table(manifests: Iterable[Manifest]) -> str:
    """One row a challenge: what it teaches, what is measured, how long it takes."""
    rows = [("challenge", "you build", "stages", "budgets", "minutes")]
    for manifest in manifests:
        kinds = ", ".join(dict.fromkeys(budget.kind for budget in manifest.budgets)) or "–"
        link = f"[{manifest.id}](challenges/{manifest.id}/spec.md)"
        stages, minutes = str(len(manifest.stages)), str(manifest.minutes)
        rows.append((link, manifest.summary, stages, kinds, minutes))
    return _table(rows)


def chart(known: Mapping[str, Manifest]) -> str:
    """A table for each track, as the directory of challenges sees them."""
    tracks = dict.fromkeys(manifest.track for manifest in known.values())
    return "\n".join(
        f"### {track}\n\n{_table(_chart([m for m in known.values() if m.track == track]))}"
        for track in tracks
    )


def path(plan: str, known: Mapping[str, Manifest]) -> str:
    """A row a day. ``plan`` holds ids, with commas between them and semicolons between days."""
    rows, gone = [("day", "challenges", "time")], set[str]()
    for number, day in enumerate(plan.split(";"), 1):
        ids = [id.strip() for id in day.split(",")]
        for id in ids:
            if id not in known or id in gone:
                wrong = "comes twice" if id in gone else "is no challenge"
                raise PathError(f"day {number}: {id} {wrong}")
            missing = [need for need in known[id].needs if need not in gone]
            if missing:
                raise PathError(f"day {number}: {id} comes before {', '.join(missing)}")
            gone.add(id)
        minutes = sum(known[id].minutes for id in ids)
        rows.append((str(number), ", ".join(map(_link, ids)), _time(minutes)))
    return _table(rows)


def main() -> None:
    workspace = find(Path.cwd())
    for name in PAGES:
        file = workspace.root / name
        file.write_text(page(file.read_text("utf-8"), _manifests(workspace)), "utf-8")


def _manifests(workspace: Workspace) -> list[Manifest]:
    return [load(workspace.challenges / id) for id in workspace.ids]


def _chart(manifests: Iterable[Manifest]) -> Iterator[Sequence[str]]:
    yield "challenge", "you build", "stages", "tier", "time", "after"
    for manifest in manifests:
        tiers = ", ".join(dict.fromkeys(t for stage in manifest.stages for t in stage.tiers))
        kits = dict.fromkeys(stage.kit for stage in manifest.stages if stage.kit)
        needs = ", ".join(map(_link, manifest.needs)) or "–"
        where = f"{tiers}; {', '.join(kits)} for a part" if kits else tiers
        stages = str(len(manifest.stages))
        yield _link(manifest.id), manifest.summary, stages, where, _time(manifest.minutes), needs


def _link(id: str) -> str:
    return f"[{id}]({id}/spec.md)"


def _time(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0))


def _table(rows: Iterable[Sequence[str]]) -> str:
    head, *others = (f"| {' | '.join(row)} |\n" for row in rows)
    rule = "|" + "---|" * (head.count("|") - 1) + "\n"
    return head + rule + "".join(others)


if __name__ == "__main__":
    main()
