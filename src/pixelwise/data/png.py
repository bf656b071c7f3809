"""A PNG written band by band: Pillow would hold a huge picture once more, and knows no colours of 16 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.geometry.tiles import Tile, bands

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
"""The filter that stores each byte as its difference to the one above (PNG specification, section 9.2)."""
RGB, RGBA = 2, 6
"""Types of colour (section 11.2.1)."""
Alpha = Callable[[Tile], Tensor]
"""Gives the alpha of a part of a picture, in the levels of its colours."""


def write_png(path: Path, pixels: Tensor, alpha: Alpha | None = None, profile: bytes = b"", exif: bytes = b"") -> None:
    """Write a picture with what came with it.

    Args:
        path: The file.
        pixels: RGB `(3, H, W)`, uint8 or uint16.
        alpha: Gives `(height, width)` of each band, if the picture has alpha.
        profile: ICC profile of RGB, if it has one.
        exif: EXIF data from "Exif" on, if it has some.
    """
    height, width = pixels.shape[-2:]
    stride = width * (3 if alpha is None else 4) * pixels.dtype.itemsize
    squeeze, above = zlib.compressobj(), np.zeros((1, stride), np.uint8)
    kind = RGB if alpha is None else RGBA
    with path.open("wb") as file:
        header = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, kind, 0, 0, 0)
        file.write(SIGNATURE + _chunk(b"IHDR", header))
        if profile:
            file.write(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
        if exif:
            file.write(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
        for band in bands(Tile(0, 0, height, width), most=2**22):
            rows = rows_of(pixels, alpha, band, ">").view(np.uint8).reshape(band.height, stride)
            lines = np.full((band.height, 1 + stride), UP, np.uint8)
            np.subtract(rows, np.concatenate([above, rows[:-1]]), out=lines[:, 1:])
            file.write(_chunk(b"IDAT", squeeze.compress(lines.tobytes())))
            above = rows[-1:]
        file.write(_chunk(b"IDAT", squeeze.flush()) + _chunk(b"IEND", b""))


def rows_of(pixels: Tensor, alpha: Alpha | None, band: Tile, order: Literal["<", ">"]) -> NDArray[np.unsignedinteger]:
    """Return a band of a picture and its alpha as a file holds it, `(height, width, C)`, its bytes in `order` "<" or ">"."""
    colours = band.of(pixels).permute(1, 2, 0).numpy()
    rows = colours if alpha is None else np.dstack([colours, alpha(band).numpy()])
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder(order))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
