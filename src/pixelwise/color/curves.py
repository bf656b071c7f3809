"""Lines over one axis as a picture, for what a report shows beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from pixelwise.page import COLOURS, Axis, number

LEFT, TOP, RIGHT, BOTTOM = 64, 44, 620, 300
SIZE = (640, 350)
GREY = "#dcdcdc"


def curves_picture(lines: Mapping[str, Sequence[tuple[float, float]]], across: str) -> Image.Image:
    """Draw lines from 0 to 1, with their names above.

    Args:
        lines: Points (x, y) of each line by its name, x ascending, y in [0, 1].
        across: What x is.
    """
    font = ImageFont.load_default(14)
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    x = Axis.over([x for line in lines.values() for x, _ in line], LEFT, RIGHT, False)
    y = Axis.over([0, 1], BOTTOM, TOP, False)
    for value in y.ticks():
        draw.line([LEFT, y(value), RIGHT, y(value)], GREY)
        draw.text((LEFT - 8, y(value)), number(value), "black", font, anchor="rm")
    for value in x.ticks():
        draw.text((x(value), BOTTOM + 6), number(value), "black", font, anchor="mt")
    left = float(LEFT)
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        draw.line([(x(a), y(b)) for a, b in line], colour, 3)
        draw.text((left, TOP - 22), name, colour, font, anchor="lm")
        left += font.getlength(name) + 24
    draw.text((RIGHT, BOTTOM + 40), across, "black", font, anchor="rs")
    return picture
