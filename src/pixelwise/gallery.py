"""A folder with a page of what a model answers to every sample, sorted by its error: it needs no server and no network."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as PillowImage

from pixelwise.data.dataset import Dataset
from pixelwise.errors import UsageError
from pixelwise.evaluation import evenly
from pixelwise.model import Model
from pixelwise.page import document
from pixelwise.task import Task

MOST = 200
"""Samples that are shown if nobody says how many: it bounds the folder."""
THUMBNAIL, LARGEST = 192, 1024
"""Longest side of the pictures on the page, and of those behind them."""
LOSSLESS = 128
"""Longest side up to which a picture is a PNG."""
COLUMNS = ("input", "output", "truth")


class Row(NamedTuple):
    """What is shown of one sample."""

    number: int
    key: str
    pictures: tuple[PillowImage.Image, ...]
    errors: dict[str, float]


def make(model: Model, dataset: Dataset, title: str, out: Path, limit: int | None = None) -> dict[str, Any]:
    """Write `index.html`, its pictures, and `gallery.json` with the errors of every sample.

    Args:
        model: Whose answers are shown.
        dataset: What it is asked about.
        title: Of the page.
        out: A folder that does not exist or is empty.
        limit: Show at most so many samples, evenly spaced.

    Returns:
        `out`, `samples`, `of`, and `sorted_by`: the metric that the page begins with, worst first, or None.

    Raises:
        UsageError: There is something in `out` already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already", "gallery makes a folder of its own")
    for folder in ("pictures", "thumbnails"):
        (out / folder).mkdir(parents=True)
    records, sections = [], []
    for number, i in enumerate(evenly(len(dataset), limit or MOST), 1):
        row = answered(model, dataset, i, number)
        records.append({"number": number, "key": row.key, **row.errors})
        sections.append(_section(row, [_saved(out, row, column) for column in range(len(COLUMNS))]))
    task = model.task
    by = task.primary if any(task.primary in record for record in records) else None
    if by:
        worst = sorted(range(len(records)), key=lambda n: _badness(records[n], task))
        sections = [sections[n] for n in worst]
    names = list(dict.fromkeys(name for record in records for name in record if name not in ("number", "key")))
    found = {"out": str(out), "samples": len(records), "of": len(dataset), "sorted_by": by}
    body = f"{_controls(names, by, task.minimised, found)}<div id='samples'>{''.join(sections)}</div>{SCRIPT}"
    (out / "index.html").write_text(document(title, f"<style>{STYLE}</style>{body}"), encoding="utf-8")
    (out / "gallery.json").write_text(json.dumps({"title": title, "samples": records}, indent=1) + "\n")
    return found


def answered(model: Model, dataset: Dataset, index: int, number: int) -> Row:
    """Return input, output and truth of a sample, and what the task's metrics are of this sample alone."""
    task = model.task
    sample = dataset.sample(index, task.fields)
    (ours,), truth, metrics = model.predict([sample]), task.truth(sample), task.metrics()
    task.score(metrics, ours, sample)
    errors = {name: value for name, value in metrics.compute().items() if "/" not in name and math.isfinite(value)}
    return Row(number, sample.key, (ours.input(), ours.render(), truth.render()), errors)


def _badness(record: dict[str, Any], task: Task) -> float:
    value: float | None = record.get(task.primary)
    if value is None:
        return math.inf
    return -value if task.minimised else value


def _saved(out: Path, row: Row, column: int) -> tuple[str, str, tuple[int, int]]:
    """Write a picture, and a small one if it is large; return where both are, below `out`, and the size of the small one."""
    picture = row.pictures[column].convert("RGB")
    name = f"{row.number:04d}-{COLUMNS[column]}"
    large = _written(picture, LARGEST, out, f"pictures/{name}")
    if max(picture.size) <= THUMBNAIL:
        return large, large, picture.size
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return large, _written(small, THUMBNAIL, out, f"thumbnails/{name}"), small.size


def _written(picture: PillowImage.Image, most: int, out: Path, name: str) -> str:
    if max(picture.size) > most:
        picture = picture.copy()
        picture.thumbnail((most, most))
    place = f"{name}.png" if max(picture.size) <= LOSSLESS else f"{name}.jpg"
    picture.save(out / place, quality=88)
    return place


def _section(row: Row, places: Sequence[tuple[str, str, tuple[int, int]]]) -> str:
    cells = "".join(
        f'<a href="{large}"><img loading="lazy" src="{small}" alt="{column}" width="{size[0]}" height="{size[1]}"></a>'
        for column, (large, small, size) in zip(COLUMNS, places, strict=True)
    )
    errors = html.escape(json.dumps(row.errors))
    told = "  ".join(f"{name} {value:.4g}" for name, value in row.errors.items())
    return (
        f'<section data-number="{row.number}" data-errors="{errors}"><div>{cells}</div>'
        f"<p><b>{html.escape(row.key)}</b><br>{html.escape(told)}</p></section>\n"
    )


def _controls(names: Sequence[str], by: str | None, minimised: bool, found: dict[str, Any]) -> str:
    """Return what is shown, and the choice of an order; the page is in its first order without any script."""
    choices = "".join(
        f'<option value="{html.escape(name)}"{" selected" if name == by else ""}>{html.escape(name)}</option>'
        for name in ("", *names)
    )
    choices = choices.replace("></option>", ">order of the data</option>", 1)
    first, last = (" selected" if largest == minimised else "" for largest in (True, False))
    return f"""<p>{found["samples"]} of {found["of"]} samples: {", ".join(COLUMNS)}. Click to enlarge.</p>
<p id="order">Sort by <select id="by">{choices}</select>
<select id="down"><option value="1"{first}>largest first</option><option value=""{last}>smallest first</option></select></p>
"""


STYLE = """
body { max-width: 100rem }
#order { position: sticky; top: 0; background: var(--paper); padding: .4rem 0; z-index: 1 }
#samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem }
section div { display: grid; grid-template-columns: repeat(3, 1fr); gap: .2rem }
section img { width: 100%; height: auto; display: block }
section p { font-size: .8rem; line-height: 1.35; margin: .2rem 0; overflow-wrap: anywhere; white-space: pre-wrap }
dialog { max-width: 96vw; max-height: 96vh; background: var(--paper); color: var(--ink); border: 1px solid var(--line) }
dialog div { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .4rem; width: 90vw }
dialog img { width: 100%; max-height: 80vh; object-fit: contain; display: block }
"""

SCRIPT = """<dialog id="large"><p></p><div></div></dialog>
<script>
const all = document.getElementById("samples"), by = document.getElementById("by"), down = document.getElementById("down");
const large = document.getElementById("large");
const errors = new Map([...all.children].map(one => [one, JSON.parse(one.dataset.errors)]));
let shown = null;
function sort() {
  const sign = down.value ? -1 : 1;
  const value = one => by.value ? errors.get(one)[by.value] : Number(one.dataset.number);
  const rest = one => value(one) === undefined;
  all.append(...[...all.children].sort((a, b) => rest(a) - rest(b) || (rest(a) ? 0 : sign * (value(a) - value(b)))));
}
function enlarge(one) {
  shown = one;
  large.querySelector("p").textContent = one.querySelector("p").innerText;
  large.querySelector("div").replaceChildren(...[...one.querySelectorAll("a")].map(link => {
    const image = new Image();
    image.src = link.getAttribute("href");
    image.alt = link.firstChild.alt;
    return image;
  }));
  if (!large.open) large.showModal();
}
by.onchange = down.onchange = sort;
all.onclick = event => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  enlarge(link.closest("section"));
};
large.onclick = () => large.close();
document.onkeydown = event => {
  const next = {ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling"}[event.key];
  if (large.open && next && shown[next]) enlarge(shown[next]);
};
</script>"""
