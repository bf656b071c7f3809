"""Outlines in COCO's JSON become maps of pixels: polygons, run lengths (plain or packed into a string), or else the box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelwise.geometry.homography import Size

Map = NDArray[np.bool_]
LONGEST = 60
"""Bits of a packed run length; more are refused, because reading a million of them takes minutes."""


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
    drawn = np.zeros(size, np.bool_)
    for polygon in region.segmentation or [[x, y, x + width, y, x + width, y + height, x, y + height]]:
        corners = np.asarray(polygon, float).reshape(-1, 2)
        if not np.isfinite(corners).all():
            raise ValueError("a corner is no number")
        drawn |= filled(corners, size)
    return drawn


def filled(corners: NDArray[np.float64], size: Size) -> Map:
    """Return the pixels (H, W) whose centres lie within a polygon of corners (N, 2), x and y."""
    height, width = size
    (x0, y0), (x1, y1) = corners.T[..., None], np.roll(corners, -1, 0).T[..., None]
    y = np.arange(height) + 0.5
    edge, row = np.nonzero((y0 > y) != (y1 > y))
    x = x0[edge, 0] + (y[row] - y0[edge, 0]) * (x1 - x0)[edge, 0] / (y1 - y0)[edge, 0]
    crossed = np.zeros((height, width + 1), np.int64)
    np.add.at(crossed, (row, np.ceil(x - 0.5).clip(0, width).astype(int)), 1)
    inside: Map = crossed.cumsum(1)[:, :width] % 2 == 1
    return inside


def run_lengths(packed: dict[str, Any], size: Size) -> Map:
    """Return the pixels (H, W) of COCO's run lengths, which go down the columns and begin with those outside.

    Raises:
        ValueError: The lengths do not add up to the picture.
    """
    counts, pixels = packed["counts"], size[0] * size[1]
    lengths = unpacked(counts) if isinstance(counts, str) else [*map(int, counts)]
    # summed as integers of any length: a sum that wraps around would let NumPy write beyond its memory
    if tuple(packed["size"]) != tuple(size) or min(lengths, default=0) < 0 or sum(lengths) != pixels:
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
        if shift > LONGEST:
            raise ValueError("a run length is longer than any picture")
        if not code & 32:
            value -= (code & 16) << (shift - 4)  # the sign, carried on to all higher bits
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths end within a number")
    return lengths
