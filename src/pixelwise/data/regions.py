"""Outlines in COCO's JSON become maps of pixels: polygons, run lengths (plain or packed into a string), or else the box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixelwise.geometry.homography import Size

Map = NDArray[np.bool_]


class Region(NamedTuple):
    """Where something is, as COCO states it: `segmentation` may be None; `box` is x, y, width and height, or empty."""

    segmentation: Any
    box: tuple[float, ...] = ()


def covered(region: Region, size: Size) -> Map:
    """Return the pixels (H, W) that a region covers.

    Raises:
        ValueError: It is malformed, or made for another size.
    """
    if isinstance(region.segmentation, dict):
        return run_lengths(region.segmentation, size)
    x, y, width, height = region.box or (0, 0, 0, 0)
    box = [x, y, x + width, y, x + width, y + height, x, y + height]
    drawn = Image.new("1", (size[1], size[0]))
    for polygon in region.segmentation or [box]:
        corners = np.asarray(polygon, float).reshape(-1, 2) - 0.5  # Pillow puts integers at pixel centres
        if len(corners) > 2:
            ImageDraw.Draw(drawn).polygon(list(map(tuple, corners.tolist())), fill=1)
    return np.asarray(drawn)


def run_lengths(packed: dict[str, Any], size: Size) -> Map:
    """Return the pixels (H, W) of COCO's run lengths, which go down the columns and begin with those outside.

    Raises:
        ValueError: The lengths do not add up to the picture.
    """
    counts = packed["counts"]
    lengths = np.asarray(unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if tuple(packed["size"]) != tuple(size) or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths of {packed['size']} do not fill {size[0]}x{size[1]} pixels")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(size[1], size[0]).T


def unpacked(text: str) -> Sequence[int]:
    """Return the run lengths in a string: 5 bits a character from 48 on, lowest first, bit 6 says that more follow.

    From the fourth on each is stored as its difference from the one before last (pycocotools, `rleToString`).

    Raises:
        ValueError: The string ends within a number.
    """
    lengths: list[int] = []
    value = shift = 0
    for code in (ord(letter) - 48 for letter in text):
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) << (shift - 4)  # the sign, carried on to all higher bits
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths end within a number")
    return lengths
