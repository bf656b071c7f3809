"""What was found in looking at data, as text, as a sheet of pictures, as JSON, and as one page."""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as PillowImage

from pixelwise.checking import TILE, Checked, Finding
from pixelwise.page import captioned, document, gallery, prose, section, table


def contact_sheet(tiles: Sequence[tuple[PillowImage.Image, str]], across: int = 8) -> PillowImage.Image:
    """Return the pictures side by side, each within a square."""
    sheet = PillowImage.new("RGB", (across * TILE, -(-len(tiles) // across) * TILE), "white")
    for number, (picture, _) in enumerate(tiles):
        small = picture.copy()
        small.thumbnail((TILE - 4, TILE - 4))
        sheet.paste(small, (number % across * TILE + 2, number // across * TILE + 2))
    return sheet


def write(checked: Checked, out: Path) -> None:
    """Write `sheet.png`, `check.json` and `index.html` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(checked.tiles).save(out / "sheet.png")
    (out / "check.json").write_text(json.dumps(checked.to_json(), indent=2) + "\n")
    (out / "index.html").write_text(page(checked))


def page(checked: Checked) -> str:
    """Return everything as one page that needs no other file."""
    parts = [f"<pre>{html.escape(as_text(checked, 10))}</pre>", *map(prose, checked.notes)]
    if checked.meta.skeleton.swap:
        parts.append(prose("Points whose names say left are blue, those that say right are green."))
    if checked.broken:
        parts.append(section("Files that cannot be read", *map(prose, checked.broken)))
    if checked.suspects:
        rows = [["split", "sample", "reason", "detail"], *map(list, checked.findings)]
        parts.append(section("Suspicious samples", _gallery(checked.suspects), f"<details>{table(rows)}</details>"))
    parts.append(section("Samples with their labels, evenly spaced", _gallery(checked.tiles)))
    for what, shares in checked.shares.items():
        rows = [["", "share"], *([name, f"{share:.1%}"] for name, share in shares.items())]
        parts.append(section(what, captioned(table(rows), "over all splits")))
    return document(f"check of {checked.recipe.data.kind}", "\n".join(parts))


def _gallery(tiles: Sequence[tuple[PillowImage.Image, str]], across: int = 4) -> str:
    return gallery([tiles[i : i + across] for i in range(0, len(tiles), across)])


def as_text(checked: Checked, most: int = 5) -> str:
    """Return what was found in a few lines, at most so many samples for each reason."""
    samples = ", ".join(f"{count} in {split}" for split, count in checked.counts.items())
    lines = [f"{sum(checked.counts.values())} samples ({samples}), {len(checked.broken)} files that cannot be read"]
    by_reason: dict[str, list[Finding]] = defaultdict(list)
    for finding in checked.findings:
        by_reason[finding.reason].append(finding)
    for reason, found in by_reason.items():
        lines.append(f"{reason}: {len(found)}")
        lines += [f"  {finding.split}  {finding.key}  {finding.detail}" for finding in found[:most]]
        lines += [f"  and {len(found) - most} more"] * (len(found) > most)
    lines += [f"note: {note}" for note in checked.notes]
    return "\n".join([*lines, *(f"cannot read {text}" for text in checked.broken)])
