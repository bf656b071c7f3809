"""Self-contained HTML pages: style, prose, tables, pictures and charts, for reports, analyses and experiments alike."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from PIL import Image as PillowImage

COLOURS = ("#2f6fed", "#d9463b", "#0d9373", "#b7791f", "#8b5cf6", "#0e93b3", "#d4579b", "#6b7280")
"""Of lines and bars, in order; each stands out from white and from black."""
BOLD = ' class="ours"'

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #dcdcdc; --soft: #666; --tint: #f5f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --line: #3a3a3a; --soft: #a0a0a0; --tint: #202124 } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem }
p, li { max-width: 46rem } a { color: inherit } h2 a, h3 a { text-decoration: none }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums }
td, th { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid var(--line) }
td:first-child, th:first-child { text-align: left } tr.ours { font-weight: 700 }
.strips { display: grid; gap: .4rem 1rem; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)) }
.strips div { display: flex; flex-wrap: wrap; gap: .4rem }
.strips img { height: 10rem; max-width: 100%; object-fit: contain }
img { image-rendering: pixelated } .note, figcaption, small { color: var(--soft) }
.gallery { display: grid; gap: .6rem; overflow-x: auto } .gallery img { width: 100%; max-width: 18rem; display: block }
.gallery small { display: block; line-height: 1.3 }
figure { margin: 1.2rem 0 } figcaption { font-size: .85rem; line-height: 1.35; margin-top: .2rem; max-width: 46rem }
.finding { background: var(--tint); border-left: .3rem solid #0d9373; padding: .1rem 1.2rem; margin: 1.5rem 0;
  max-width: 44rem }
.finding.part { border-color: #b7791f } .finding.not { border-color: #d9463b }
pre { overflow-x: auto; background: var(--tint); padding: 1rem; font-size: .85rem } code { font-size: .9em }
svg { width: 100%; height: auto; max-width: 46rem } svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .name { fill: var(--ink); font-weight: 600 } svg .grid { stroke: var(--line) } svg .dot { fill: var(--ink) }
"""

WIDTH, HEIGHT, LEFT, RIGHT, TOP = 480, 200, 56, 464, 28
BAR = 26
"""Height of one bar, in units of the drawing; the other numbers place the axes of a chart within it."""


def document(title: str, body: str) -> str:
    """Return a whole page that needs no other file.

    Args:
        title: Plain text.
        body: HTML.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{body}
</body></html>
"""


def prose(text: str) -> str:
    """Return plain text as paragraphs: empty lines part them, words in backticks are code."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return "\n".join(f"<p>{' '.join(part.split())}</p>" for part in marked.split("\n\n") if part.strip())


def section(title: str, *parts: str) -> str:
    """Return a heading of plain text with the HTML that belongs to it."""
    return f"<h2>{html.escape(title)}</h2>" + "\n".join(parts)


def table(rows: Sequence[Sequence[str]], emphasised: Collection[str] = ()) -> str:
    """Return a table of plain text: the first row is its head; rows whose first cell is `emphasised` are bold."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(map(_row, rows[1:], [row[0] in emphasised for row in rows[1:]]))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[str], bold: bool) -> str:
    return f"<tr{BOLD if bold else ''}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def figure(image: PillowImage.Image, caption: str = "", most: int = 512) -> str:
    """Return a picture, at most `most` pixels wide or high, that the page holds itself."""
    stream = io.BytesIO()
    if max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most))
    kind = "png" if max(image.size) <= 128 else "jpeg"
    image.convert("RGB").save(stream, kind, quality=88)
    address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
    return f'<img alt="{html.escape(caption)}" src="{address}">'


def captioned(content: str, caption: str) -> str:
    """Return HTML (a chart, a gallery, a table) with a line of plain text under it."""
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def gallery(rows: Sequence[Sequence[tuple[PillowImage.Image, str]]]) -> str:
    """Return a grid of pictures, each with a caption of plain text; every row has as many as the first."""
    cells = [f"<div>{figure(image)}<small>{html.escape(caption)}</small></div>" for row in rows for image, caption in row]
    columns = f"grid-template-columns:repeat({len(rows[0])},minmax(3.5rem,1fr))"
    return f'<div class="gallery" style="{columns}">{"".join(cells)}</div>'


class Axis(NamedTuple):
    """One axis of a chart: from the value `low` at the place `start` to `high` at `end`, by its logarithm or evenly."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, logarithmic: bool, floor: float | None = None) -> Axis:
        """Return the axis that spans `values` (on a logarithmic one those above 0), and `floor` if it is given."""
        kept = [value for value in (*values, *(() if floor is None else (floor,))) if value > 0 or not logarithmic] or [1.0]
        low, high = min(kept), max(kept)
        if low == high:
            low, high = (low / 2, low * 2) if logarithmic else (low - 0.5, high + 0.5)
        return cls(low, high, start, end, logarithmic)

    def __call__(self, value: float) -> float:
        """Return the place of `value`, clipped to the axis."""
        value = min(max(value, self.low), self.high)
        share = (value - self.low) / (self.high - self.low)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return a few round values on the axis: powers of ten, or 1, 2 and 5 times one, evenly spaced."""
        if self.logarithmic:
            first, last = (math.floor(math.log10(value)) for value in (self.low, self.high))
            powers = range(first, last + 1, 1 + (last - first) // 8)
            found = [factor * 10.0**power for power in powers for factor in ((1,) if last - first > 2 else (1, 2, 5))]
        else:
            power = 10.0 ** math.floor(math.log10(self.high - self.low))
            step = next(step for step in (power / 5, power / 2, power, 2 * power) if (self.high - self.low) / step <= 5)
            found = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [value for value in found if self.low <= value <= self.high]


def line_chart(
    name: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    across: str = "step",
    logarithmic: Collection[str] = (),
) -> str:
    """Return lines over one axis as a drawing.

    Args:
        name: What is drawn (the y axis), above the chart.
        lines: Points (x, y) of each line by its name, x ascending; the names are shown if there are several.
        across: What x is.
        logarithmic: The axes that are logarithmic: "x", "y" or both; values that are not positive lie on the border.
    """
    points = [point for line in lines.values() for point in line]
    x = Axis.over([x for x, _ in points], LEFT, RIGHT, "x" in logarithmic, None if "x" in logarithmic else 0)
    y = Axis.over([y for _, y in points], HEIGHT, TOP, "y" in logarithmic)
    drawn = [_tick(x(value), HEIGHT, value, "middle") for value in x.ticks()]
    for value in y.ticks():
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        drawn.append(_tick(LEFT - 6, y(value) - 12, value, "end"))
    for i, line in enumerate(lines.values()):
        colour = COLOURS[(i if len(lines) > 1 else sum(map(ord, name))) % len(COLOURS)]
        places = [(f"{x(a):.1f}", f"{y(b):.1f}") for a, b in line]
        drawn.append(f'<polyline points="{" ".join(map(",".join, places))}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(line) <= 16:
            drawn += [f'<circle cx="{a}" cy="{b}" r="2.6" style="fill:{colour}"/>' for a, b in places]
    legend, bottom = _legend(list(lines) if len(lines) > 1 else [], HEIGHT + 40)
    drawn.append(f'<text x="{RIGHT}" y="{HEIGHT + 32}" text-anchor="end">{html.escape(across)}</text>')
    return _drawing(name, [*drawn, *legend], bottom)


def bar_chart(name: str, bars: Mapping[str, Sequence[float]], logarithmic: bool = False) -> str:
    """Return one bar per name, as long as the mean of its values; a whisker from the least to the largest, a dot for each.

    Args:
        name: What is drawn, above the chart.
        bars: The values of each bar, one for each repetition; at least 0.
        logarithmic: Draw lengths by their logarithm, from half the least value on; values of 0 lie at the left border.
    """
    values = [value for several in bars.values() for value in several]
    left = 12 + 7 * max(map(len, bars))
    floor = min((value for value in values if value > 0), default=1) / 2 if logarithmic else 0
    x = Axis.over(values, left, RIGHT - 60, logarithmic, floor)
    bottom = TOP + BAR * len(bars)
    drawn = []
    for value in x.ticks():
        drawn.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{bottom}"/>')
        drawn.append(_tick(x(value), bottom, value, "middle"))
    for i, (label, several) in enumerate(bars.items()):
        drawn += _bar(x, TOP + BAR * i, left, label, several, COLOURS[i % len(COLOURS)])
    return _drawing(name, drawn, bottom + 24)


def _bar(x: Axis, top: float, left: float, label: str, values: Sequence[float], colour: str) -> list[str]:
    mean, middle = fmean(values), top + BAR / 2
    drawn = [
        f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{html.escape(label)}</text>',
        f'<rect x="{left}" y="{top + 4}" width="{x(mean) - left:.1f}" height="{BAR - 8}" fill="{colour}" opacity=".85"/>',
        f'<text x="{x(max(values)) + 8:.1f}" y="{middle + 4}">{number(mean)}</text>',
    ]
    if len(values) > 1:
        ends = f'x1="{x(min(values)):.1f}" x2="{x(max(values)):.1f}"'
        drawn.append(f'<line {ends} y1="{middle}" y2="{middle}" style="stroke:var(--ink)"/>')
        drawn += [f'<circle class="dot" cx="{x(value):.1f}" cy="{middle}" r="2.2"/>' for value in values]
    return drawn


def number(value: float) -> str:
    """Return a number in three digits, with k, M, G or T for thousands, millions and so on."""
    power = min(4, max(0, math.floor(math.log10(abs(value)) / 3))) if abs(value) >= 10_000 else 0
    scaled = value / 1000**power
    return (f"{scaled:.0f}" if abs(scaled) >= 1000 else f"{scaled:.3g}") + " kMGT"[power].strip()


def _tick(x: float, y: float, value: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="{anchor}">{number(value)}</text>'


def _legend(labels: Sequence[str], top: float) -> tuple[list[str], float]:
    """Return the legend's drawing, as many lines as it takes, and where it ends."""
    drawn, left = [], float(LEFT)
    for i, label in enumerate(labels):
        width = 28 + 6.4 * len(label)
        if left > LEFT and left + width > RIGHT:
            left, top = LEFT, top + 18
        drawn.append(f'<rect x="{left:.0f}" y="{top}" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>')
        drawn.append(f'<text x="{left + 15:.0f}" y="{top + 9}">{html.escape(label)}</text>')
        left += width
    return drawn, top + (18 if labels else 0)


def _drawing(name: str, parts: Sequence[str], height: float) -> str:
    inside = "".join(parts)
    return f"""<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{html.escape(name)}">
<text class="name" x="0" y="14">{html.escape(name)}</text>{inside}</svg>"""
