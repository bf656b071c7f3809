"""Angles between predicted and true surface normals, pooled over the known pixels of all images (Fouhey et al. 2013)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelwise.errors import DataError
from pixelwise.metrics.averages import averages

THRESHOLDS = (5.0, 7.5, 11.25, 22.5, 30.0)
"""Degrees."""
BINS_PER_DEGREE = 1000


def angles(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the angle of every known pixel in degrees, float64 `(N,)`, by atan2(|p x t|, p . t), exact near 0 as well.

    Args:
        predicted: `(3, H, W)` of any length but 0.
        truth: `(3, H, W)`; NaN is unknown.
    """
    known = truth.isfinite().all(0)
    (a, b, c), (x, y, z) = predicted[:, known].double(), truth[:, known].double()
    square = (b * z - c * y).square_() + (c * x - a * z).square_() + (a * y - b * x).square_()
    return torch.rad2deg(torch.atan2(square.sqrt_(), a * x + b * y + c * z))


class NormalsMetrics:
    """Pools the pixels of all images, so that a large image weighs more than a small one.

    - `mean_angle_deg`, `rmse_angle_deg`: of the angle, in degrees.
    - `median_angle_deg`: from a histogram with bins of 0.001 degrees, so exact to 0.0005 degrees in bounded memory.
    - `below_5_deg`, `below_7.5_deg`, `below_11.25_deg`, `below_22.5_deg`, `below_30_deg`: share of the pixels strictly below.

    Attributes:
        records: Mean angle of every image, in order; NaN where no pixel is known.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(180 * BINS_PER_DEGREE + 1, dtype=torch.int64)
        self.sums = torch.zeros(2 + len(THRESHOLDS), dtype=torch.float64)
        self.records: list[Tensor] = []

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Take in vectors `(3, H, W)`: what was predicted, and the truth, NaN where unknown.

        Raises:
            DataError: A prediction is NaN or infinite where the truth is known.
        """
        found = angles(predicted, truth).cpu()
        if not found.isfinite().all():
            what = f"{int((~found.isfinite()).sum())} of {len(found)} predicted normals are NaN or infinite"
            raise DataError(what, "NormalsCodec.decode turns those of a network to the camera")
        below = [(found < degrees).sum() for degrees in THRESHOLDS]
        self.sums += torch.stack([found.sum(), found.square().sum(), *below])
        self.counts += torch.bincount((found * BINS_PER_DEGREE).long(), minlength=len(self.counts))
        self.records.append(found.mean())

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        count = self.counts.sum()
        mean, square, *below = self.sums / count
        shares = {f"below_{degrees:g}_deg": share for degrees, share in zip(THRESHOLDS, below, strict=True)}
        return averages({"mean_angle_deg": mean, "median_angle_deg": self._median(), "rmse_angle_deg": square.sqrt(), **shares})

    def _median(self) -> Tensor:
        """Return the mean of the middles of the bins of the two middle angles."""
        count, until = int(self.counts.sum()), self.counts.cumsum(0)
        if count == 0:
            return torch.tensor(math.nan)
        middle = torch.tensor([(count - 1) // 2, count // 2])
        middles = (torch.searchsorted(until, middle, right=True) + 0.5) / BINS_PER_DEGREE
        return middles.clamp(max=180).mean()  # the last bin holds 180 alone
