"""A huge picture is written as PNG band by band: Pillow would hold it once more, with four bytes a pixel."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from pixelwise.geometry.tiles import Tile, bands

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UP = 2
"""The filter that stores each byte as its difference to the one above (PNG specification, section 9.2)."""


def write_png(path: Path, pixels: Tensor) -> None:
    """Write uint8 RGB pixels (3, H, W)."""
    height, width = pixels.shape[-2:]
    squeeze, above = zlib.compressobj(), np.zeros((1, 3 * width), np.uint8)
    with path.open("wb") as file:
        file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        for band in bands(Tile(0, 0, height, width), most=2**22):
            rows = band.of(pixels).permute(1, 2, 0).reshape(band.height, -1).numpy()
            lines = np.full((band.height, 1 + 3 * width), UP, np.uint8)
            np.subtract(rows, np.concatenate([above, rows[:-1]]), out=lines[:, 1:])
            file.write(_chunk(b"IDAT", squeeze.compress(lines.tobytes())))
            above = rows[-1:]
        file.write(_chunk(b"IDAT", squeeze.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
