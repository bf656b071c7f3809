"""An analysis written down: the text that `pixelwise analyse` prints, JSON, and a page with pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.analysis import Analysis, Field, Memory, Row
from pixelwise.color.heat import heat
from pixelwise.memory import binary
from pixelwise.nn.effective_receptive_field import THRESHOLD, width
from pixelwise.page import captioned, document, figure, line_chart, number, prose, section, table

HEAD = ("layer", "kind", "output", "parameters", "multiply-adds", "sees", "stride", "keeps")
WORDS = 3
"""So many columns of the table are words; the others are numbers."""
READABLE = 40
"""Rows up to which the table shows layers, not blocks of them."""


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Return everything; amounts in bytes, shapes as (batch, channels, height, width)."""
    return {
        "network": analysis.name,
        "shape": analysis.shape,
        "parameters": analysis.cost.parameters,
        "multiply_accumulates": analysis.cost.multiply_accumulates,
        "uncounted_operations": analysis.cost.uncounted,
        "saved_bytes": analysis.saved,
        "sees": [_sees_json(output) for output in analysis.outputs],
        "whole_picture": analysis.sight.whole if analysis.sight else None,
        "effective_receptive_field": _effective_json(analysis.influence),
        "memory": {kind: _memory_json(memory) for kind, memory in analysis.memory.items()},
        "notes": analysis.notes,
        "layers": [row._asdict() | {"sees": row.sees and _sees_json(row.sees)} for row in analysis.layers],
    }


def _sees_json(sees: tuple[Field, Field]) -> dict[str, Any]:
    return {axis: along._asdict() for axis, along in zip(("rows", "columns"), sees, strict=True)}


def _effective_json(influence: Tensor | None) -> dict[str, Any] | None:
    return None if influence is None else {"width": width(influence), "threshold": THRESHOLD, "size": list(influence.shape)}


def _memory_json(memory: Memory) -> dict[str, Any]:
    found = {"predicted": memory.peak.bytes, "layer": memory.peak.layer, "operation": memory.peak.operation}
    if memory.measured is not None:
        found |= {"measured": memory.measured, "ratio": memory.ratio, "resident": memory.resident}
    return found | {"held_after_layers": memory.peak.held}


def as_text(analysis: Analysis, depth: int | None = None) -> str:
    """Return a table of layers and what is true of the whole network.

    Args:
        analysis: What to write down.
        depth: How many names of a layer's path to tell apart; what agrees in them is one row. Default: what gives a table of
            at most 40 rows.
    """
    deepest = max(len(row.layer.split(".")) for row in analysis.layers)
    shown = depth or max((d for d in range(1, deepest + 1) if len(analysis.blocks(d)) <= READABLE), default=1)
    rows = [HEAD, *map(cells, analysis.blocks(shown))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if i < WORDS else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
    if shown < deepest:
        lines.append(f"({len(analysis.layers)} layers, shown by blocks; detail={deepest} shows them all)")
    facts = [f"{name.ljust(22)}{text}" for name, text in summary(analysis).items()]
    return "\n".join([*lines, "", *facts, *(f"note: {note}" for note in analysis.notes)])


def cells(row: Row) -> tuple[str, ...]:
    """Return a layer as a row of the table."""
    shape, products = "x".join(map(str, row.shape)), row.multiply_accumulates
    sees, stride = (across(row.sees), strides(row.sees)) if row.sees else ("", "")
    kept = binary(row.saved) if row.saved else ""
    parameters = f"{row.parameters:,}" if row.parameters else ""
    return row.layer or "(all)", row.kind, shape, parameters, number(products) if products else "", sees, stride, kept


def across(sees: tuple[Field, Field]) -> str:
    """Write how many pixels are seen: 15; 188-204 where positions differ; 15x7 where the axes do; 224+ where cut off."""
    rows, columns = map(_pixels, sees)
    return rows if rows == columns else f"{rows}x{columns}"


def _pixels(along: Field) -> str:
    if along.everything:
        return "all"
    low, high = along.pixels[0], along.pixels[-1]
    return f"{low}+" if along.cut else str(low) if low == high else f"{low}-{high}"


def strides(sees: tuple[Field, Field]) -> str:
    """Write the pixels of the picture per position: 8, 1/2, or 8x4 where the axes differ."""
    rows, columns = (along.stride for along in sees)
    return rows if rows == columns else f"{rows}x{columns}"


def summary(analysis: Analysis) -> dict[str, str]:
    """Return what is true of the whole network."""
    batch, channels, height, width = analysis.shape
    products = analysis.cost.multiply_accumulates
    found = {
        "network": f"{analysis.name} on {batch} x {channels} x {height} x {width}",
        "parameters": f"{analysis.cost.parameters:,}",
        "multiply-accumulates": f"{number(products)}, {number(products / (batch * height * width))} per pixel",
        "not counted": ", ".join(analysis.cost.uncounted),
        "an output sees": "; ".join(map(_output_text, analysis.outputs)),
        "sees everything in": ", ".join(analysis.sight.whole) if analysis.sight else "",
        "autograd keeps": f"{binary(analysis.saved)} in training" if analysis.saved else "",
        **{f"memory, {kind}": _memory_text(memory) for kind, memory in analysis.memory.items()},
    }
    return {name: text for name, text in found.items() if text}


def _output_text(sees: tuple[Field, Field]) -> str:
    sizes = ("rows", "columns") if sees[0].pixels != sees[1].pixels else ("pixels across",)
    different = [
        f"{' or '.join(map(str, along.pixels))} {what}, depending on its place"
        for what, along in zip(sizes, sees, strict=False)
        if 1 < len(along.pixels) <= 4 and not along.everything
    ]
    stride = f", stride {strides(sees)}" if strides(sees) else ""
    return ("; ".join(different) or f"{across(sees)} pixels across".replace("all pixels across", "the whole picture")) + stride


def _memory_text(memory: Memory) -> str:
    text = f"{binary(memory.peak.bytes)} predicted"
    if memory.measured is None:
        return text
    kept = f"; {binary(memory.resident)} with the allocator as it is set here" if memory.resident else ""
    return f"{text}, {binary(memory.measured)} measured (ratio {memory.ratio:.3f}){kept}"


# The page


def write(analysis: Analysis, folder: Path) -> None:
    """Write analysis.html and analysis.json into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(as_json(analysis), indent=2) + "\n")
    (folder / "analysis.html").write_text(page(analysis))


def page(analysis: Analysis) -> str:
    """Return the analysis as a page."""
    body = [
        table([["", ""], *summary(analysis).items()]),
        *(prose(f"Note: {note}") for note in analysis.notes),
        section("Memory, layer by layer", _chart(analysis)),
        section("What counts for an answer", _picture(analysis)),
        section("Every layer", table([HEAD, *map(cells, analysis.layers)])),
    ]
    return document(analysis.name, "\n".join(body))


def _chart(analysis: Analysis) -> str:
    lines = {
        kind: [(float(i), held / 2**20) for i, held in enumerate(memory.peak.held.values(), 1)]
        for kind, memory in analysis.memory.items()
    }
    peaks = "; ".join(f"{kind}: {binary(memory.peak.bytes)}" for kind, memory in analysis.memory.items())
    caption = f"After each layer: weights, the picture and all maps still needed. The most at once, {peaks}."
    return captioned(line_chart("MiB held", lines, "layer"), caption)


def _picture(analysis: Analysis) -> str:
    influences = analysis.influence
    if influences is None:
        return prose("Not computed.")
    pixels = heat(influences.sqrt()).permute(1, 2, 0).numpy()
    theory = "; ".join(map(_output_text, analysis.outputs)) or "an unknown part"
    caption = (
        f"How much each of {influences.shape[0]} x {influences.shape[1]} pixels changes the output in the middle (square root "
        f"of the mean size of the gradient). An output can see {theory}. The pixels with more than {100 * THRESHOLD:.2f} % of "
        f"the largest influence (Luo et al. 2016) would fill a square of {width(influences):.0f} pixels, wherever they lie; "
        "strides and poolings leave a pattern of dots, since pixels differ in how many paths lead through them."
    )
    return captioned(figure(PillowImage.fromarray(np.ascontiguousarray(pixels)), caption), caption)
