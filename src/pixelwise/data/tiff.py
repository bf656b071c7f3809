"""A TIFF of 16 bits, which Pillow does not write; not compressed, so that the places of its strips are known beforehand."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from pixelwise.data.png import Alpha, rows_of
from pixelwise.errors import UsageError
from pixelwise.geometry.tiles import Tile, bands

LIMIT = 2**32 - 2**20
"""Bytes of pixels that a TIFF can address, beside what else is in it."""
BAND = 2**20
"""Pixels of a strip."""


def write_tiff(path: Path, pixels: Tensor, alpha: Alpha | None = None, profile: bytes = b"", exif: bytes = b"") -> None:
    """Write a picture with what came with it, as `write_png` does (TIFF 6.0, sections 6 and 18).

    Args:
        path: The file.
        pixels: RGB `(3, H, W)`, uint16.
        alpha: Gives `(height, width)` of each band, if the picture has alpha.
        profile: ICC profile of RGB, if it has one.
        exif: EXIF data from "Exif" on, if it has some.

    Raises:
        UsageError: It is larger than a TIFF can be.
    """
    height, width = pixels.shape[-2:]
    channels = 3 if alpha is None else 4
    strips = list(bands(Tile(0, 0, height, width), BAND))
    sizes = [strip.height * width * channels * 2 for strip in strips]
    if sum(sizes) > LIMIT:
        raise UsageError(f"{path.name}: {width}x{height} pixels of 16 bits do not fit into a TIFF", "save as PNG")
    tags = Image.Exif()
    tags.load(exif)
    entries = {
        256: width,
        257: height,
        258: (16,) * channels,
        259: 1,  # not compressed
        262: 2,  # RGB
        273: tuple(sum(sizes[:i]) for i in range(len(sizes))),  # Pillow adds where the pixels begin
        277: channels,
        278: strips[0].height,
        279: tuple(sizes),
    }
    if alpha is not None:
        entries[338] = 2  # the fourth is alpha, and the colours are not multiplied by it
    for tag, value in entries.items():
        tags[tag] = value
    if profile:
        tags[34675] = profile
    with path.open("wb") as file:
        file.write(tags.tobytes().removeprefix(b"Exif\0\0"))
        for strip in strips:
            file.write(rows_of(pixels, alpha, strip, "<" if tags.endian == "<" else ">").tobytes())
