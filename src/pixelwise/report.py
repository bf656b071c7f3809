"""The report of a run: one HTML file that needs nothing else, with curves, pictures, numbers and the recipe."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from pixelwise.data.dataset import Dataset
from pixelwise.engine.logs import read
from pixelwise.evaluation import beats_baselines, evenly, parts_table, protocol_line, table
from pixelwise.model import Model
from pixelwise.page import captioned, document, figure, line_chart
from pixelwise.page import table as html_table
from pixelwise.recipe import Recipe

STRIPS = 6
PICTURES = "pictures"
"""Within a run's folder: what the same samples looked like while it was trained, by step."""
EARLIER = 8
SHOWN = ("input, truth, ours", "made from noise")
COLUMNS = 8
"""Pictures in a row where nothing stands beside them."""
HEIGHT = 160
Strip = list[PillowImage.Image]


def strips(model: Model, dataset: Dataset, count: int = STRIPS) -> list[Strip]:
    """Return `count` rows of pictures, evenly spaced over the data set: input, truth, ours; from noise only ours, in a grid."""
    task = model.task
    if task.config.from_noise:
        made = model.predict([dataset.sample(i, task.fields) for i in evenly(len(dataset), count * COLUMNS)])
        return [[one.render() for one in made[i : i + COLUMNS]] for i in range(0, len(made), COLUMNS)]
    rows = []
    for i in evenly(len(dataset), count):
        sample = dataset.sample(i, task.fields)
        ours, truth = model.predict([sample])[0], task.truth(sample)
        rows.append([ours.input(), truth.render(), ours.render()])
    return rows


def views(model: Model, dataset: Dataset) -> dict[str, PillowImage.Image]:
    """Return further pictures of the first sample's truth and of our answer, by caption, as far as their kind has any."""
    sample = dataset.sample(0, model.task.fields)
    rows = {"the truth": model.task.truth(sample).views(), "our answer": model.predict([sample])[0].views()}
    return {f"{whose} of the first sample, seen otherwise": sheet([row]) for whose, row in rows.items() if row}


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
    pictures: dict[str, PillowImage.Image] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folder: Path,
        recipe: Recipe,
        result: dict[str, Any],
        rows: list[Strip],
        pictures: dict[str, PillowImage.Image],
    ) -> Report:
        """Gather the report of the run in `folder`; `pictures` have captions as keys."""
        return cls(recipe, result, rows, list(read(folder / "metrics.jsonl")), pictures | earlier(folder))

    def section(self) -> str:
        """Return the run as an HTML section."""
        verdict = "" if beats_baselines(self.result) else "<p><b>The network does not beat every trivial baseline.</b></p>"
        return f"""<section><h2>{html.escape(self.recipe.name)}</h2>
{html_table(table(self.result), ["ours"])}{verdict}
<p class="note">{html.escape(protocol_line(self.result))}. {self.recipe.steps} steps, {self.result["seconds"]:.0f} s.</p>
<p class="note">{SHOWN[self.recipe.task.from_noise]}:</p><div class="strips">{"".join(map(_strip, self.strips))}</div>
{self._parts()}{"".join(captioned(figure(p, "", 1024), caption) for caption, p in self.pictures.items())}
<p class="note">while training (metrics on at most 64 samples of val):</p>{_curves(self.events)}
<details><summary>the recipe</summary><pre>{html.escape(self.recipe.model_dump_json(indent=2))}</pre></details></section>"""

    def _parts(self) -> str:
        rows = parts_table(self.result)
        return f"<details><summary>in detail</summary>{html_table(rows)}</details>" if rows else ""

    def page(self) -> str:
        """Return the run as a whole page."""
        return page(self.recipe.name, [self])


def earlier(folder: Path) -> dict[str, PillowImage.Image]:
    """Return what was drawn while the run in `folder` was trained, at most 8 pictures evenly spaced, by caption."""
    drawn = sorted(path for path in (folder / PICTURES).glob("*.png") if path.stem.isdigit())
    chosen = [drawn[i] for i in evenly(len(drawn), EARLIER)]
    return {f"after {int(path.stem)} steps": _opened(path) for path in chosen}


def _opened(path: Path) -> PillowImage.Image:
    with PillowImage.open(path) as picture:
        return picture.copy()


def page(title: str, reports: Sequence[Report]) -> str:
    """Return a self-contained page of one or several runs."""
    return document(title, "\n".join(report.section() for report in reports))


def _strip(row: Strip) -> str:
    return "<div>" + "".join(map(figure, row)) + "</div>"


def _curves(events: list[dict[str, Any]]) -> str:
    """Draw losses and metrics, each family in a chart of its own."""
    charts = []
    for group in ("losses", "metrics"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for event in events:
            for name, value in event.get(group, {}).items():
                if value is not None:  # it was not finite
                    lines.setdefault(f"loss {name}" if group == "losses" else name, []).append((event["step"], value))
        charts += [line_chart(name, {name: _thinned(points)}) for name, points in lines.items() if len(points) > 1]
    return f'<div style="display:grid;grid-template-columns:1fr 1fr;gap:1rem">{"".join(charts)}</div>'


def _thinned(points: list[tuple[float, float]], count: int = 200) -> list[tuple[float, float]]:
    """Average neighbours so that at most `count` points remain."""
    stride = max(1, len(points) // count)
    groups = [points[i : i + stride] for i in range(0, len(points), stride)]
    return [(g[-1][0], sum(value for _, value in g) / len(g)) for g in groups]
