"""A table of counts as a picture, so that what is taken for what is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pixelwise.color.heat import heat

GAP = 6
"""Pixels between a name and the table."""


def counts_picture(counts: Tensor, names: Sequence[str]) -> Image.Image:
    """Draw each count as the share of its row, dark for 0 and bright for 1, with the names of rows and columns.

    Args:
        counts: `(C, C)`, at least 0; a row of nothing is dark.
        names: Of rows and columns alike.
    """
    side = max(12, min(32, 420 // len(names)))
    font = ImageFont.load_default(min(14, side - 1))
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    cells = heat(shares, 0, 1).repeat_interleave(side, 1).repeat_interleave(side, 2)
    cells[:, ::side] = cells[..., ::side] = 128
    table = Image.fromarray(cells.permute(1, 2, 0).contiguous().numpy())
    margin = int(max(font.getlength(name) for name in names)) + 2 * GAP
    rows, columns = (Image.new("RGB", (margin, table.height), "white") for _ in range(2))
    for i, name in enumerate(names):
        ImageDraw.Draw(rows).text((margin - GAP, (i + 0.5) * side), name, "black", font, anchor="rm")
        ImageDraw.Draw(columns).text((GAP, (i + 0.5) * side), name, "black", font, anchor="lm")
    picture = Image.new("RGB", (margin + table.width, margin + table.height), "white")
    picture.paste(columns.rotate(90, expand=True), (margin, 0))
    picture.paste(table, (margin, margin))
    picture.paste(rows, (0, margin))
    return picture
