"""Figures, lists and notes as short texts, the same in every rendering."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from pytest_llmgrind import plain
from pytest_llmgrind.board import BudgetRow, ChallengeBoard, Note, Rules, StageRow
from pytest_llmgrind.clock import span
from pytest_llmgrind.practice import Practice
from pytest_llmgrind.standing import Entry

NONE = "–"
BYTES = ("B", "kB", "MB", "GB", "TB")
VERDICTS = {"met": "ok", "over": "over budget"}


def figure(value: float | None, row: BudgetRow) -> str:
    """A figure of a budget with its unit: ``0.43x``, ``1.20 MB``, ``15,360 B``, ``12``."""
    if value is None:
        return NONE
    if row.unit == "bytes":
        return _bytes(value) if row.kind == "peak" else f"{_number(value)} B"
    if row.kind in ("race", "scaling"):
        return f"{_decimal(value)}{row.unit}"
    return _number(value)


def limit(row: BudgetRow) -> str:
    """The limit of a budget; says what is counted where ``figure`` does not."""
    text = figure(row.limit, row)
    named = row.unit in ("", "bytes") or text.endswith(row.unit)
    return text if named else f"{text} {row.unit}"


def yours(row: BudgetRow) -> str:
    """Your figure with its interval, as the wider of its two sides: ``0.43x ±0.01``."""
    text = figure(row.figure, row)
    if row.figure is None or row.low is None or row.high is None or row.low == row.high:
        return text
    side = max(row.high - row.figure, row.figure - row.low)
    if row.kind not in ("race", "scaling") or not math.isfinite(side):
        return text
    places = _places(row.figure)
    steps = math.ceil(round(side * 10**places, 6))  # outwards, but not for a rounding error
    return f"{text} ±{steps / 10**places:.{places}f}"


def verdict(row: BudgetRow) -> str:
    return VERDICTS.get(row.verdict, row.verdict)


def title(row: BudgetRow) -> str:
    """The budget's name as words."""
    return row.name.replace("_", " ")


def stage_word(row: StageRow) -> str:
    """``ok``, ``failed``, ``2 not run``, ``ok, 1 skipped``."""
    if row.not_run == row.total or row.skipped == row.total:
        return row.word
    parts = [] if row.word == "not run" else [row.word]
    parts += [f"{row.not_run} not run"] if row.not_run else []
    parts += [f"{row.skipped} skipped"] if row.skipped and row.word == "ok" else []
    return ", ".join(parts)


def rules(kinds: Rules) -> str:
    """``9 of 12 kept, broken: R4 R7, todo: R8–R12``."""
    parts = [f"{len(kinds.kept)} of {kinds.total} kept"]
    for label, ids in (
        ("broken", kinds.broken),
        ("todo", kinds.todo),
        ("not tested", kinds.untested),
    ):
        if ids:
            parts.append(f"{label}: {spans(ids)}")
    return ", ".join(parts)


def spans(ids: Sequence[str]) -> str:
    """``R1 R4–R7``: three or more in a row are one span."""
    runs: list[list[str]] = []
    for rule in ids:
        if runs and _index(rule) == _index(runs[-1][-1]) + 1:
            runs[-1].append(rule)
        else:
            runs.append([rule])
    texts = [[f"{run[0]}–{run[-1]}"] if len(run) > 2 else run for run in runs]
    return " ".join(text for run in texts for text in run)


def notes(found: Sequence[Note]) -> str:
    """``printed in 3 tests; changed the environment in 1: undone after each test``."""
    parts: list[str] = []
    undone = [note for note in found if note.text.startswith("changed ")]
    warned = [note for note in found if note.text.startswith("warned: ")]
    parts += [_times(note.text, note) for note in found if note not in undone + warned]
    if undone:
        parts.append(", ".join(_times(note.text, note) for note in undone))
        parts[-1] += ": undone after each test"
    parts += [f"{_times('warned', note)}: {note.text.removeprefix('warned: ')}" for note in warned]
    return "; ".join(clean(part) for part in parts)


def budgets(rows: Sequence[BudgetRow], *, noun: str = "") -> str:
    """``3 of 6 met, 1 undecided, 2 not measured``; with a noun, ``3 of 6 budgets met``."""
    met = sum(row.met for row in rows)
    others = [verdict(row) for row in rows if not row.met]
    of = plural(len(rows), noun) if noun else str(len(rows))
    return ", ".join([f"{met} of {of} met", *counted(others)])


def counted(texts: Sequence[str]) -> list[str]:
    """``2 over budget``, ``1 todo``: each text once, with how often it is there."""
    return [f"{texts.count(text)} {text}" for text in dict.fromkeys(texts)]


def ahead(board: ChallengeBoard) -> str:
    """What there is to do where nothing is done."""
    text = f"nothing is written yet: {plural(board.rules.total, 'rule')} to keep"
    count = len(board.budgets)
    return f"{text}, {plural(count, 'budget')} to meet" if count else text


def done(board: ChallengeBoard) -> str:
    """What a run without a failure has shown, and what not: green is one that met its budgets."""
    tests = sum(stage.passed for stage in board.stages)
    parts = [f"{plural(tests, 'test')} passed"]
    parts.append(f"{len(board.rules.kept)} of {plural(board.rules.total, 'rule')} kept")
    if board.budgets:
        parts.append(budgets(board.budgets, noun="budget"))
    green = all(row.met for row in board.budgets)
    return f"{'all green' if green else 'nothing failed'}: {', '.join(parts)}"


def practice(board: ChallengeBoard) -> Iterator[tuple[str, str]]:
    """What the history knows of the attempt, as labelled lines; nothing of a plain first try."""
    now = board.practice
    if now is None:
        return
    if now.limit is not None:
        yield "timed", _interview(board, now, now.limit)
    if now.kind == "debug":
        yield "debug", _debugging(now)
        for misconception in now.bugs:
            yield "planted", misconception
    elif now.passed:
        yield "passed", f"{_effort(now)}; rated {now.rating}, again on {now.due}"
    elif now.tries > 1 or now.hints or now.gave_up:
        yield "attempt", _effort(now)


def _effort(now: Practice) -> str:
    hints = f", {now.hints} of {plural(now.of_hints, 'hint')}" if now.hints else ""
    given_up = ", given up" if now.gave_up else ""
    return f"try {now.tries}, {span(now.minutes)}{hints}{given_up}"


def _debugging(now: Practice) -> str:
    planted = plural(now.of_bugs, "bug")
    if now.bugs:
        return f"repaired: {_effort(now)}; planted were {planted}"
    return f"{_effort(now)}; planted: {planted}"


def _interview(board: ChallengeBoard, now: Practice, limit: float) -> str:
    """What is left, and the pace: stages that are green beside the share of the time."""
    green = sum(row.is_green for row in board.stages)
    stages = f"{green} of {plural(len(board.stages), 'stage')}"
    left = now.left or 0.0
    if left <= 0:
        return f"time is up ({span(limit)}): {stages}"
    share = 1 - left / limit
    ahead = green / len(board.stages) >= share
    pace = "on pace" if ahead else "behind"
    return f"{span(left)} left of {span(limit)}; {stages} in {share:.0%} of the time: {pace}"


def few(names: Sequence[str], most: int) -> str:
    """``a, b, c and 4 more``."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def standing(entry: Entry, budgets: Sequence[BudgetRow]) -> str:
    """``1 reference`` or ``baseline``, with what it reached."""
    parts = [] if entry.kept is None else [plural(entry.kept, "rule")]
    if budgets:
        parts.append(f"{entry.met}/{plural(len(budgets), 'budget')}")
    rank = "" if entry.rank is None else f"{entry.rank} "
    return f"{rank}{clean(entry.name)} ({', '.join(parts)})"


def part(count: int | None, total: int) -> str:
    return NONE if count is None else f"{count}/{total}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cut(name: str, most: int = 24) -> str:
    """A name of at most so many characters."""
    return clean(name if len(name) <= most else f"{name[: most - 1]}…")


def clean(text: str) -> str:
    """One line without control characters: names and messages come from other people's code."""
    return plain.line(text, 400)


def _times(text: str, note: Note) -> str:
    return f"{text} in {plural(note.tests, 'test')}"


def _index(rule: str) -> int:
    digits = re.sub(r"\D", "", rule)
    return int(digits) if digits else -2


def _bytes(value: float) -> str:
    power = 0
    while abs(value) >= 1000 and power < len(BYTES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {BYTES[power]}" if power else f"{value:,.0f} B"


def _decimal(value: float) -> str:
    return f"{value:,.{_places(value)}f}"


def _places(value: float) -> int:
    """Decimals: two, or as many as show two digits of a small figure."""
    if value == 0 or abs(value) >= 0.1:
        return 2
    return 1 - math.floor(math.log10(abs(value)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
