"""Self-contained HTML pages: style, tables, pictures and charts, for reports, analyses and experiments alike."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Collection, Mapping, Sequence

from PIL import Image as PillowImage

COLOURS = ("#2563eb", "#dc2626", "#059669", "#b45309", "#7c3aed", "#0891b2")
BOLD = ' class="ours"'

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #d7d7d7; --soft: #666 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #3a3a3a; --soft: #9a9a9a } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid var(--line) }
td:first-child, th:first-child { text-align: left } tr.ours { font-weight: 700 }
.strips { display: grid; gap: .4rem 1rem; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)) }
.strips div { display: flex; gap: .4rem; overflow-x: auto }
.strips img { height: 10rem; image-rendering: pixelated } .note { color: var(--soft) }
pre { overflow-x: auto; background: color-mix(in srgb, var(--ink) 6%, var(--paper)); padding: 1rem; font-size: .85rem }
svg { width: 100%; height: auto } svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
"""


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


def table(rows: Sequence[Sequence[str]], emphasised: Collection[str] = ()) -> str:
    """Return a table of plain text: the first row is its head; rows whose first cell is `emphasised` are bold."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(map(_row, rows[1:], [row[0] in emphasised for row in rows[1:]]))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[str], bold: bool) -> str:
    return f"<tr{BOLD if bold else ''}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def figure(image: PillowImage.Image, caption: str = "") -> str:
    """Return a picture, at most 512 pixels wide or high, that the page holds itself."""
    stream = io.BytesIO()
    if max(image.size) > 512:
        image = image.copy()
        image.thumbnail((512, 512))
    kind = "png" if max(image.size) <= 128 else "jpeg"
    image.convert("RGB").save(stream, kind, quality=88)
    address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
    return f'<img alt="{html.escape(caption)}" src="{address}">'


def line_chart(name: str, lines: Mapping[str, Sequence[tuple[float, float]]], across: str = "step") -> str:
    """Return lines over one axis as a drawing.

    Args:
        name: What is drawn, above the chart.
        lines: Points (x, y) of each line by its name, x ascending; the names are shown if there are several.
        across: What x is.
    """
    points = [point for line in lines.values() for point in line]
    low, high = min(y for _, y in points), max(y for _, y in points)
    last, span = max(x for x, _ in points), (high - low) or 1.0
    drawn = []
    for i, (label, line) in enumerate(lines.items()):
        colour = COLOURS[(i if len(lines) > 1 else sum(map(ord, name))) % len(COLOURS)]
        path = " ".join(f"{40 + 350 * x / last:.1f},{20 + 120 * (high - y) / span:.1f}" for x, y in line)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(lines) > 1:
            drawn.append(f'<text x="{60 + 110 * i}" y="162" style="fill:{colour}">{html.escape(label)}</text>')
    return f"""<svg viewBox="0 0 400 170" role="img" aria-label="{html.escape(name)}">
{"".join(drawn)}
<text x="40" y="14">{html.escape(name)}</text><text x="0" y="24">{high:.3g}</text><text x="0" y="144">{low:.3g}</text>
<text x="340" y="162">{html.escape(across)} {last:.0f}</text></svg>"""
