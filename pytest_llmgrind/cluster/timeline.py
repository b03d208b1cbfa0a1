"""A run as text: what each rank did when, and every message."""

from __future__ import annotations

from pytest_llmgrind.cluster.run import Run

LEGEND = "= compute   . wait   > sends   < receives   x both"
MIN_WIDTH = 20


def text(run: Run, *, width: int, log: bool) -> str:
    """The chart, and with ``log`` a line for each message."""
    chart = _chart(run, max(width, MIN_WIDTH))
    return "\n".join([*chart, "", *_log(run)] if log and run.messages else chart)


def seconds(value: float) -> str:
    """``12.5 µs``: three digits and a unit in which they are read easily."""
    sizes = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    unit = next((unit for unit, size in sizes.items() if value >= size * 0.9995), "ns")
    return f"{float(f'{value / sizes[unit]:.3g}'):g} {unit}" if value else "0 s"


def count(nbytes: int) -> str:
    return f"{nbytes:,} B"


def _chart(run: Run, width: int) -> list[str]:
    ranks = f"{run.size} rank{'s' if run.size > 1 else ''}"
    lines = [f"{ranks}, {seconds(run.time_s)}   {LEGEND}"]
    for rank in range(run.size):
        lines.append(f"rank {rank:<3} program |{_program(run, rank, width)}|")
        lines.append(f"         network |{_network(run, rank, width)}|")
    return lines


def _program(run: Run, rank: int, width: int) -> str:
    marks = {"compute": "=", "wait": "."}
    spans = [(s.start_s, s.end_s, marks[s.kind]) for s in run.spans if s.rank == rank]
    return _lane(spans, run.time_s, width)


def _network(run: Run, rank: int, width: int) -> str:
    out = [(m.start_s, m.end_s, ">") for m in run.messages if m.src == rank]
    into = [(m.start_s, m.end_s, "<") for m in run.messages if m.dst == rank]
    lanes = zip(_lane(out, run.time_s, width), _lane(into, run.time_s, width), strict=True)
    return "".join("x" if pair == (">", "<") else min(pair, key=" ".__eq__) for pair in lanes)


def _lane(marks: list[tuple[float, float, str]], end_s: float, width: int) -> str:
    """One character for each column: the mark that covers most of it, if that is half or more."""
    columns: list[dict[str, float]] = [{} for _ in range(width)]
    step_s = end_s / width or 1.0
    for start_s, stop_s, mark in marks:
        for column in range(int(start_s / step_s), min(width - 1, int(stop_s / step_s)) + 1):
            covered = min(stop_s, (column + 1) * step_s) - max(start_s, column * step_s)
            columns[column][mark] = columns[column].get(mark, 0.0) + covered
    return "".join(_winner(column, step_s) for column in columns)


def _winner(column: dict[str, float], step_s: float) -> str:
    mark = max(column, key=lambda m: column[m], default=" ")
    return mark if column and column[mark] >= step_s * 0.5 else " "


def _log(run: Run) -> list[str]:
    rows = [
        (seconds(m.start_s), seconds(m.end_s), f"{m.src} -> {m.dst}", count(m.nbytes), m.kind)
        for m in run.messages
    ]
    table = [("from", "to", "ranks", "bytes", "kind"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    return ["  ".join([*(c.rjust(w) for c, w in zip(row[:4], widths, strict=False)), row[4]])
            for row in table]  # fmt: skip
