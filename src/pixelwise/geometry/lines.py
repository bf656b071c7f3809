"""Maps of how likely each pixel is on a line become lines one pixel wide: ridges, thinning, hysteresis, minimum length.

Non-maximum suppression as in Dollar and Zitnick, "Fast Edge Detection Using Structured Forests" (2015); thinning as in Guo and
Hall, "Parallel Thinning with Two-Subiteration Algorithms" (1989), which MATLAB's `bwmorph(..., 'thin')` runs too; hysteresis as
in Canny, "A Computational Approach to Edge Detection" (1986). Without
torch, and SciPy only where it is used, so that a worker process and every other task start quickly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

BEYOND = np.ones((3, 3), int)
"""Pixels are connected to all eight around them."""


def smoothed(values: Map, radius: int) -> NDArray[np.float64]:
    """Return a map `(H, W)` filtered with a triangle of `radius` >= 1 along both axes; the border is mirrored."""
    from scipy import ndimage

    triangle = np.r_[1 : radius + 1, radius + 1, radius:0:-1] / (radius + 1) ** 2
    for axis in (0, 1):
        values = ndimage.correlate1d(values.astype(np.float64), triangle, axis, mode="reflect")
    return values.astype(np.float64)


def across(values: Map, radius: int = 4) -> NDArray[np.float64]:
    """Return the direction across the ridge at each pixel, in radians in [0, pi), x to the right and y down.

    It is the arc tangent of the ratio of the second derivatives along y and x, of the map smoothed with `radius`, as in
    Dollar's `edgesDetect`: right along the axes and the diagonals, up to 12 degrees off in between.

    Args:
        values: `(H, W)`, at least 2 x 2.
        radius: Of the smoothing.
    """
    down, right = np.gradient(smoothed(values, radius))
    xy, xx = np.gradient(right)
    yy = np.gradient(down, axis=0)
    # MATLAB's sign(-xy) is 0 where xy is, and would turn exactly horizontal lines by a right angle
    return np.asarray(np.mod(np.arctan(yy * np.where(xy > 0, -1.0, 1.0) / (xx + 1e-5)), np.pi))


def suppressed(values: Map, directions: Map, *, radius: int = 1, border: int = 5, slack: float = 1.01) -> NDArray[np.float64]:
    """Return the map with 0 wherever a larger value lies beside a pixel in its direction across the ridge.

    Args:
        values: `(H, W)`, not negative.
        directions: `(H, W)` in radians, across the ridge.
        radius: How many pixels to either side are looked at, by bilinear interpolation.
        border: Pixels this near to the border fade linearly to 0 at the border.
        slack: A value times this has to be at least that of its neighbours.
    """
    from scipy import ndimage

    height, width = values.shape
    values = values.astype(np.float64)
    y, x = np.nonzero(values > 0)
    step = np.stack([np.sin(directions[y, x]), np.cos(directions[y, x])])
    most = np.array([[height - 1], [width - 1]])
    kept = np.ones(len(y), bool)
    for distance in (*range(-radius, 0), *range(1, radius + 1)):
        place = np.clip(np.stack([y, x]) + distance * step, 0, most)
        kept &= slack * values[y, x] >= ndimage.map_coordinates(values, place, order=1, mode="nearest")
    ridges = np.zeros_like(values)
    ridges[y[kept], x[kept]] = values[y[kept], x[kept]]
    return ridges * _faded(height, border)[:, None] * _faded(width, border)


def _faded(size: int, border: int) -> NDArray[np.float64]:
    border = min(border, size // 2)
    place = np.arange(size)
    return np.minimum(1, np.minimum(place, place[::-1]) / max(border, 1))


def ridges(values: Map) -> NDArray[np.float64]:
    """Return what the benchmark of boundaries is given: the map smoothed with radius 1, and thin (`suppressed`).

    Args:
        values: `(H, W)`, not negative; smaller than 2 x 2 it has no direction, and is returned as it is.
    """
    if min(values.shape) < 2:
        return values.astype(np.float64)
    values = smoothed(values, 1)
    return suppressed(values, across(values))


def _deletable() -> tuple[Mask, Mask]:
    """Tell for each of the two subiterations which neighbourhoods lose their centre.

    Bit k of an index is the k-th neighbour of `AROUND`; the conditions are G1, G2 and G3 (then G3') of Lam, Lee and Suen,
    "Thinning Methodologies" (1992), who describe the algorithm of Guo and Hall.
    """
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 > 0
    even, odd, following = x[:, 1::2], x[:, 0::2], np.roll(x[:, 0::2], -1, axis=1)
    crossings = (~odd & (even | following)).sum(1)
    least = np.minimum((odd | even).sum(1), (even | following).sum(1))
    both = (crossings == 1) & (least >= 2) & (least <= 3)
    first = ~((x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0])
    second = ~((x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4])
    return both & first, both & second


AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Rows and columns to the neighbours: east, then counterclockwise."""
DELETABLE = _deletable()


def thin(mask: Mask) -> Mask:
    """Return the mask `(H, W)` thinned until nothing changes: lines one pixel wide, connected as before."""
    width = mask.shape[1] + 2
    padded = np.pad(mask, 1).astype(np.uint8).ravel()
    pixels = np.flatnonzero(padded)
    shifts = [row * width + column for row, column in AROUND]
    count = -1
    while count != len(pixels):
        count = len(pixels)
        for deletable in DELETABLE:
            code = np.zeros(len(pixels), np.uint8)
            for bit, shift in enumerate(shifts):
                code |= padded[pixels + shift] << bit
            gone = deletable[code]
            padded[pixels[gone]] = 0
            pixels = pixels[~gone]
    return padded.reshape(-1, width)[1:-1, 1:-1].astype(bool)


def hysteresis(values: Map, low: float, high: float) -> Mask:
    """Return the pixels `(H, W)` of at least `low` that are connected, by such pixels, with one of at least `high`."""
    from scipy import ndimage

    connected, count = ndimage.label(values >= low, BEYOND)
    strong = np.zeros(count + 1, bool)
    strong[connected[values >= high]] = True
    strong[0] = False
    return np.asarray(strong[connected])


def long_enough(mask: Mask, length: int) -> Mask:
    """Return the mask `(H, W)` without connected parts of fewer than `length` pixels."""
    from scipy import ndimage

    connected, _ = ndimage.label(mask, BEYOND)
    kept = np.bincount(connected.ravel()) >= length
    kept[0] = False
    return np.asarray(kept[connected])


def steepness(values: Map, deviation: float) -> NDArray[np.float64]:
    """Return how steep a map is: the length of its gradient after a Gaussian of `deviation` pixels, 1 on a step from 0 to 1.

    Args:
        values: `(H, W)` in [0, 1].
        deviation: Of the Gaussian, in pixels.
    """
    from scipy import ndimage

    down, right = (ndimage.gaussian_filter(values.astype(np.float64), deviation, order) for order in ((1, 0), (0, 1)))
    return np.asarray(np.minimum(np.hypot(down, right) * deviation * np.sqrt(2 * np.pi), 1))


def drawn(values: Map, low: float, high: float, length: int) -> Mask:
    """Return a line drawing: thin ridges of at least `low` that reach `high` somewhere and have at least `length` pixels.

    Args:
        values: `(H, W)` in [0, 1].
        low: Where a line may go on; of the map itself, not of the smoothed one that shows where ridges lie.
        high: What it has to reach somewhere.
        length: Fewest pixels of a line.
    """
    fading = np.pad(values, 8, mode="edge")  # lines go on to the border of a drawing; in the benchmark they fade there
    soft = smoothed(fading, 1)
    directions = across(soft)
    # smoothing takes half of a line one pixel wide, so low and high are asked of the map itself
    found = np.where(suppressed(soft, directions) > 0, _strongest(fading, directions), 0)[8:-8, 8:-8]
    return long_enough(thin(hysteresis(found, low, high)), length)


def _strongest(values: Map, directions: Map) -> NDArray[np.float64]:
    """Return the greatest of each pixel and what lies 1 to either side of it across the ridge: smoothing may move a ridge."""
    from scipy import ndimage

    y, x = np.indices(values.shape)
    step = np.stack([np.sin(directions), np.cos(directions)])
    beside = [ndimage.map_coordinates(values, np.stack([y, x]) + s * step, order=1, mode="nearest") for s in (-1, 0, 1)]
    return np.asarray(np.max(beside, 0), np.float64)
