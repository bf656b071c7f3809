"""All 16 bits of colours, of which Pillow keeps 8.

Pillow can be told which byte of each number to keep: a picture that is read twice, once as if its bytes came in the other
order, gives both halves of it, for every compression and interlacing that Pillow knows.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelwise.data.images import strips
from pixelwise.errors import DataError

WHOLE = ("RGB;16", "RGBX;16", "RGBA;16", "LA;16")
"""How Pillow names the layouts that can be read whole, before the order of their bytes."""
OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""The order of bytes that is not the one named."""
BITS, PLANES, SEPARATE = 258, 284, 2
"""Tags of a TIFF: bits per sample, and how its channels lie, with the value that says one after the other."""


def layout_of(image: Image.Image, name: str) -> str:
    """Return what Pillow calls the layout of colours of 16 bits, such as RGB;16B, from an image's header; empty for others.

    Raises:
        DataError: Pillow would read noise.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANES) == SEPARATE and max(tags.get(BITS, (8,))) > 8:
        raise DataError(f"{name}: its channels of 16 bits lie one after the other", "save it interleaved, or as PNG")
    arguments = image.tile[0][3] if image.tile else ""  # type: ignore[attr-defined]
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return layout if isinstance(layout, str) and ";16" in layout and not layout.startswith("I") else ""


def take(image: Image.Image, layout: str, low: bool = False) -> None:
    """Make Pillow keep the high or the low byte of each number; of grey with alpha both, since its pixels have four bytes."""
    named = "RGBA" if layout.startswith("LA") else layout[:-1] + OTHER[layout[-1]] if low else layout
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]
        arguments = (named, *tile[3][1:]) if isinstance(tile[3], tuple) else named
        tiles.append(getattr(type(tile), "_make", tuple)((*tile[:3], arguments)))
    image.tile = tiles  # type: ignore[attr-defined]


def high(image: Image.Image, layout: str) -> NDArray[np.uint16]:
    """Return the high bytes in their places, uint16 `(H, W, C)`; of grey with alpha the whole numbers."""
    pairs = layout.startswith("LA")
    values = np.empty((image.height, image.width, 2 if pairs else len(image.getbands())), np.uint16)
    for top, strip in strips(image):
        part, rows = np.asarray(strip), values[top : top + strip.height]
        rows[:] = part[..., ::2] if pairs else part
        rows <<= 8
        if pairs:
            rows |= part[..., 1::2]
    return values


def add_low(values: NDArray[np.uint16], image: Image.Image) -> None:
    """Add the low bytes of each number."""
    for top, strip in strips(image):
        values[top : top + strip.height] |= np.asarray(strip)
