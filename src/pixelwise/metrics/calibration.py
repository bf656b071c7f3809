"""What a confidence is worth: how large errors are where it is low or high, and from where on to believe it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

BINS = 10
TRUSTED = 0.95
"""The share of points within the threshold from which on a confidence is believed."""


class Bin(NamedTuple):
    """Points of neighbouring confidence."""

    low: float
    high: float
    points: int
    median: float
    """Of the errors; infinite where most points are missing or should not be there."""
    gross: float
    """Share of the points with an error beyond the threshold."""


class Cutoff(NamedTuple):
    """From which confidence on points are believed, and which share of all points that keeps."""

    confidence: float
    kept: float


def calibration(confidence: Tensor, errors: Tensor, threshold: float, bins: int = BINS) -> list[Bin]:
    """Return about equally many points in each bin, by rising confidence; points of equal confidence are in one bin.

    Args:
        confidence: `(P,)`.
        errors: `(P,)` in the unit of `threshold`; infinite where a point was not found.
        threshold: Errors beyond it are gross.
        bins: At most so many.
    """
    order = np.argsort(confidence.numpy(), kind="stable")
    sure, apart = confidence.numpy()[order], errors.numpy()[order]
    wanted = sure[[len(order) * (i + 1) // bins - 1 for i in range(bins) if len(order) * (i + 1) >= bins]]
    ends = np.unique(np.searchsorted(sure, wanted, side="right")).tolist()
    return [
        Bin(float(sure[a]), float(sure[b - 1]), b - a, float(np.median(apart[a:b])), float(np.mean(apart[a:b] > threshold)))
        for a, b in zip([0, *ends], ends, strict=False)
    ]


def cutoff(confidence: Tensor, errors: Tensor, threshold: float, trusted: float = TRUSTED) -> Cutoff | None:
    """Return the smallest confidence such that of all points with at least that, a share of `trusted` is within the threshold.

    None if there is none. The arguments are those of `calibration`.
    """
    values, places = np.unique(confidence.numpy(), return_inverse=True)
    total = np.bincount(places)[::-1].cumsum()[::-1]
    right = np.bincount(places, errors.numpy() <= threshold)[::-1].cumsum()[::-1]
    good = np.flatnonzero(right >= trusted * total)
    return Cutoff(float(values[good[0]]), float(total[good[0]] / total[0])) if len(good) else None
