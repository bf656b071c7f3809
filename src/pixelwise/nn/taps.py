"""Which elements of a line an element of the next line is computed from, for every way to slide, spread and resample.

Each function returns an (elements, taps) array of indices for `spans.taken`: ABSENT where there is no tap, OUTSIDE where
the tap lies in padding. Along a line of `side` elements becomes one of `out`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelwise.nn.spans import ABSENT, OUTSIDE

Taps = NDArray[np.int64]


def sliding(side: int, out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Taps:
    """Return the taps of a convolution or pooling."""
    index = np.arange(out)[:, None] * stride - padding + np.arange(kernel) * dilation
    return np.where(genuine(side, index), index, OUTSIDE)


def spread(side: int, out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Taps:
    """Return the taps of a transposed convolution: input i adds to the outputs i * stride - padding + k * dilation."""
    index, rest = np.divmod(np.arange(out)[:, None] + padding - np.arange(kernel) * dilation, stride)
    return np.where(rest != 0, ABSENT, np.where(genuine(side, index), index, OUTSIDE))


def adaptive(side: int, out: int) -> Taps:
    """Return the taps of adaptive pooling: from floor(i side / out) to ceil((i + 1) side / out)."""
    start, end = np.arange(out)[:, None] * side // out, -(-np.arange(1, out + 1)[:, None] * side // out)
    index: Taps = np.minimum(start + np.arange((end - start).max()), end - 1)
    return index


def nearest(side: int, out: int, scale: float | None, exact: bool = False) -> Taps:
    """Return the taps of nearest interpolation, rounded as torch does (`exact`: at the centre of each pixel)."""
    places = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    index: Taps = np.floor(places * np.float32(_step(side, out, scale))).astype(np.int64)
    return np.minimum(index, side - 1)[:, None]


def interpolated(side: int, out: int, scale: float | None, aligned: bool, reach: int) -> Taps:
    """Return the taps of linear (reach 1) or cubic (reach 2) interpolation; they go on beyond the border.

    Args:
        side: Elements before.
        out: Elements after.
        scale: How many times more elements, as torch was told; None if it was not.
        aligned: `align_corners`.
        reach: How many elements on either side of a point count; where the point is an element, only that one does.
    """
    if aligned:
        points = np.arange(out) * ((side - 1) / max(out - 1, 1))
    else:
        points = (np.arange(out) + 0.5) * _step(side, out, scale) - 0.5
    whole = np.round(points).astype(np.int64)
    index = np.floor(points).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
    return np.where(np.abs(points - whole)[:, None] < 1e-6, whole[:, None], index)


def _step(side: int, out: int, scale: float | None) -> float:
    return 1 / scale if scale else side / out


def mirrored(side: int, before: int, after: int) -> Taps:
    """Return the taps of reflection padding, which does not repeat the border."""
    index = np.abs(np.arange(-before, side + after))
    return np.where(index >= side, 2 * (side - 1) - index, index)[:, None]


def padded(side: int, before: int, after: int, beyond: int = OUTSIDE) -> Taps:
    """Return the taps of constant padding; negative padding takes away."""
    index = np.arange(-before, side + after)[:, None]
    return np.where(genuine(side, index), index, beyond)


def genuine(side: int, taps: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of these taps lie on the line itself."""
    return (taps >= 0) & (taps < side)
