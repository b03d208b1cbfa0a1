"""A run as SVG: a lane for each rank, what its program did, an arrow for each message.

The picture stands alone: no script, no font of its own, colours that hold on light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from pytest_llmgrind.cluster.run import Message, Run, Span
from pytest_llmgrind.cluster.timeline import count, seconds

LEFT, TOP, LANE, BAR, CHART, RIGHT = 64, 40, 48, 18, 860, 24
PROGRAM = {"compute": "#4269d0", "wait": "#c9ccd3"}
KINDS = ("#ff725c", "#2f9e7a", "#a463f2", "#b07d12", "#d6509d", "#3a7ca5", "#6b6b6b")
INK = "#24292f"
NARROWEST_LABEL = 44


def svg(run: Run) -> str:
    """The whole picture."""
    height = TOP + LANE * run.size + 60
    width = LEFT + CHART + RIGHT
    kinds = list(dict.fromkeys(m.kind for m in run.messages))
    colours = {kind: KINDS[i % len(KINDS)] for i, kind in enumerate(kinds)}
    body = [*_lanes(run), *_axis(run), *(_bar(run, s) for s in run.spans)]
    body += [_arrow(run, m, colours[m.kind]) for m in run.messages]
    body += _legend(colours, TOP + LANE * run.size + 44)
    title = f"{run.size} ranks, {seconds(run.time_s)}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
        *body,
        "</svg>",
        "",
    ])  # fmt: skip


def _x(run: Run, at_s: float) -> float:
    return round(LEFT + CHART * (at_s / run.time_s if run.time_s else 0.0), 2)


def _y(rank: int) -> float:
    """The middle of a rank's lane."""
    return TOP + LANE * (rank + 0.5)


def _lanes(run: Run) -> Iterator[str]:
    for rank in range(run.size):
        y = _y(rank)
        yield f'<text x="8" y="{y + 4}">rank {rank}</text>'
        yield f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + CHART}" y2="{y}" stroke="#d8dbe0"/>'


def _axis(run: Run) -> Iterator[str]:
    """A tick at 1, 2 or 5 times a power of ten, five to ten of them."""
    y = TOP + LANE * run.size
    for at_s in _ticks(run.time_s):
        x = _x(run, at_s)
        yield f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{y + 4}" stroke="#eceef1"/>'
        label = seconds(at_s)
        yield f'<text x="{x}" y="{y + 18}" text-anchor="middle" font-size="11">{label}</text>'


def _ticks(end_s: float) -> list[float]:
    if end_s <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(end_s / 5))
    step = next(m * power for m in (1, 2, 5, 10) if end_s / (m * power) <= 8)
    return [i * step for i in range(int(end_s / step * (1 + 1e-9)) + 1)]


def _bar(run: Run, span: Span) -> str:
    x, end = _x(run, span.start_s), _x(run, span.end_s)
    y = _y(span.rank) - BAR / 2
    tip = f"{span.label}, {seconds(span.start_s)} to {seconds(span.end_s)}"
    bar = (
        f'<g><title>{escape(tip)}</title><rect x="{x}" y="{y}" width="{max(end - x, 0.5):.2f}" '
        f'height="{BAR}" rx="2" fill="{PROGRAM[span.kind]}"/>'
    )
    fits = end - x >= max(NARROWEST_LABEL, 6.5 * len(span.label))
    if span.kind == "compute" and fits:
        bar += (
            f'<text x="{(x + end) / 2:.2f}" y="{y + 13}" text-anchor="middle" font-size="11" '
            f'fill="#ffffff">{escape(span.label)}</text>'
        )
    return bar + "</g>"


def _arrow(run: Run, message: Message, colour: str) -> str:
    """From the sender's lane at the start to the receiver's lane at the end."""
    down = 1 if message.dst > message.src else -1
    x1, y1 = _x(run, message.start_s), _y(message.src) + down * BAR / 2
    x2, y2 = _x(run, message.end_s), _y(message.dst) - down * BAR / 2
    angle = math.atan2(y2 - y1, x2 - x1)
    head = " ".join(
        f"{x2 - 7 * math.cos(angle + turn):.2f},{y2 - 7 * math.sin(angle + turn):.2f}"
        for turn in (0.4, -0.4)
    )
    tip = (
        f"{message.kind} {message.src} to {message.dst}, {count(message.nbytes)}, "
        f"{seconds(message.start_s)} to {seconds(message.end_s)}"
    )
    return (
        f'<g stroke="{colour}" fill="{colour}"><title>{escape(tip)}</title>'
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke-width="1.3"/>'
        f'<polygon points="{x2},{y2} {head}" stroke="none"/></g>'
    )


def _legend(colours: dict[str, str], y: float) -> Iterator[str]:
    x = float(LEFT)
    for label, colour in (*PROGRAM.items(), *colours.items()):
        yield f'<rect x="{x}" y="{y - 9}" width="14" height="10" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 20}" y="{y}">{escape(label)}</text>'
        x += 40 + 7 * len(label)
