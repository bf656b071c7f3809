"""The report of a run: one HTML file that needs nothing else, with curves, pictures, numbers and the recipe."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from pixelwise.data.dataset import Dataset
from pixelwise.engine.logs import read
from pixelwise.evaluation import beats_baselines, evenly, protocol_line, table
from pixelwise.model import Model
from pixelwise.recipe import Recipe

STRIPS = 6
HEIGHT = 160
COLOURS = ("#2563eb", "#dc2626", "#059669", "#b45309", "#7c3aed", "#0891b2")
Strip = list[PillowImage.Image]

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


def strips(model: Model, dataset: Dataset, count: int = STRIPS) -> list[Strip]:
    """Return `count` rows of pictures, evenly spaced over the data set: input, truth, ours."""
    task = model.task
    rows = []
    for i in evenly(len(dataset), count):
        sample = dataset.sample(i, task.fields)
        ours, truth = model.predict([sample])[0], task.truth(sample)
        rows.append([ours.input(), truth.render(), ours.render()])
    return rows


def sheet(rows: Sequence[Strip], height: int = HEIGHT, gap: int = 4) -> PillowImage.Image:
    """Paste rows of pictures into one picture, each scaled to `height` pixels."""
    scaled = [[p.resize((max(1, p.width * height // p.height), height)) for p in row] for row in rows]
    width = max(sum(p.width + gap for p in row) for row in scaled) + gap
    page = PillowImage.new("RGB", (width, len(rows) * (height + gap) + gap), "white")
    for r, row in enumerate(scaled):
        left = gap
        for picture in row:
            page.paste(picture.convert("RGB"), (left, gap + r * (height + gap)))
            left += picture.width + gap
    return page


@dataclass(frozen=True)
class Report:
    """What there is to say about one finished run."""

    recipe: Recipe
    result: dict[str, Any]
    strips: list[Strip]
    events: list[dict[str, Any]]

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, result: dict[str, Any], rows: list[Strip]) -> Report:
        """Gather the report of the run in `folder`."""
        return cls(recipe, result, rows, list(read(folder / "metrics.jsonl")))

    def section(self) -> str:
        """Return the run as an HTML section."""
        verdict = "" if beats_baselines(self.result) else "<p><b>The network does not beat every trivial baseline.</b></p>"
        return f"""<section><h2>{html.escape(self.recipe.name)}</h2>
{_table(table(self.result))}{verdict}
<p class="note">{html.escape(protocol_line(self.result))}. {self.recipe.steps} steps, {self.result["seconds"]:.0f} s.</p>
<p class="note">input, truth, ours:</p><div class="strips">{"".join(map(_strip, self.strips))}</div>
<p class="note">while training (metrics on at most 64 samples of val):</p>{_curves(self.events)}
<details><summary>the recipe</summary><pre>{html.escape(self.recipe.model_dump_json(indent=2))}</pre></details></section>"""

    def page(self) -> str:
        """Return the run as a whole page."""
        return page(self.recipe.name, [self])


def page(title: str, reports: Sequence[Report]) -> str:
    """Return a self-contained page of one or several runs."""
    sections = "\n".join(report.section() for report in reports)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{sections}
</body></html>
"""


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        f'<tr class="{html.escape(row[0])}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _strip(row: Strip) -> str:
    return "<div>" + "".join(f'<img alt="" src="{_data_address(picture)}">' for picture in row) + "</div>"


def _data_address(picture: PillowImage.Image) -> str:
    stream = io.BytesIO()
    if max(picture.size) > 512:
        picture = picture.copy()
        picture.thumbnail((512, 512))
    picture.convert("RGB").save(stream, "PNG" if max(picture.size) <= 128 else "JPEG", quality=88)
    kind = "png" if max(picture.size) <= 128 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _curves(events: list[dict[str, Any]]) -> str:
    """Draw losses and metrics, each family in a chart of its own."""
    charts = []
    for group in ("losses", "metrics"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for event in events:
            for name, value in event.get(group, {}).items():
                if value is not None:  # it was not finite
                    lines.setdefault(f"loss {name}" if group == "losses" else name, []).append((event["step"], value))
        charts += [_chart(name, _thinned(points)) for name, points in lines.items() if len(points) > 1]
    return f'<div style="display:grid;grid-template-columns:1fr 1fr;gap:1rem">{"".join(charts)}</div>'


def _thinned(points: list[tuple[float, float]], count: int = 200) -> list[tuple[float, float]]:
    """Average neighbours so that at most `count` points remain."""
    stride = max(1, len(points) // count)
    groups = [points[i : i + stride] for i in range(0, len(points), stride)]
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups]


def _chart(name: str, points: list[tuple[float, float]]) -> str:
    values = [value for _, value in points]
    low, high, last = min(values), max(values), points[-1][0]
    span = (high - low) or 1.0
    path = " ".join(f"{40 + 350 * x / last:.1f},{20 + 120 * (high - y) / span:.1f}" for x, y in points)
    return f"""<svg viewBox="0 0 400 170" role="img" aria-label="{html.escape(name)}">
<polyline points="{path}" fill="none" stroke="{COLOURS[sum(map(ord, name)) % len(COLOURS)]}" stroke-width="1.6"/>
<text x="40" y="14">{html.escape(name)}</text><text x="0" y="24">{high:.3g}</text><text x="0" y="144">{low:.3g}</text>
<text x="340" y="162">step {last:.0f}</text></svg>"""
