"""How well depth is predicted, by a protocol that says everything on which the numbers of papers differ (Eigen et al. 2014)."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pixelwise.config import Config
from pixelwise.errors import DataError
from pixelwise.metrics.averages import averages

Crop = Literal["none", "nyu_eigen", "kitti_garg", "kitti_eigen"]
Align = Literal["none", "median", "least_squares_depth", "least_squares_disparity"]
NYU = (480, 640)
NYU_EIGEN = (slice(45, 471), slice(41, 601))
KITTI_COLUMNS = (0.03594771, 0.96405229)
KITTI_ROWS = {"kitti_garg": (0.40810811, 0.99189189), "kitti_eigen": (0.3324324, 0.91351351)}
"""Shares of width and height where the crops begin and end."""


class Protocol(Config):
    """Which pixels count, what is forgiven, and how pixels become one number."""

    average: Annotated[
        Literal["image", "pixel"], Field(description="mean over images of each one's value, or all pixels in one pool")
    ] = "image"
    align: Annotated[
        Align, Field(description="what is fitted to the truth first: nothing, a factor (of medians), or factor and offset")
    ] = "none"
    crop: Annotated[Crop, Field(description="the part of the picture that counts")] = "none"
    range: Annotated[
        tuple[float, float],
        Field(description="metres between which the truth counts (exclusive) and into which predictions are clamped"),
    ] = (1e-3, 80.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.range[0] < self.range[1]:
            raise ValueError(f"range = {self.range}: expected 0 < nearest < farthest")
        return self

    def name(self, metric: str) -> str:
        """Return the metric's name with everything behind an "@" that differs from the default protocol."""
        said = [value for name in ("average", "align", "crop") if (value := getattr(self, name)) != getattr(Protocol(), name)]
        if self.range != Protocol().range:
            said.append(f"{self.range[0]:g}-{self.range[1]:g}m")
        return f"{metric}@{','.join(said)}" if said else metric


class Sums(NamedTuple):
    """What one image adds up to, float64 scalars: e = d - t, g = ln d - ln t, of prediction d and truth t at N pixels."""

    pixels: Tensor
    absolute_relative: Tensor
    square_relative: Tensor
    square: Tensor
    log_absolute: Tensor
    log: Tensor
    log_square: Tensor
    inverse_square: Tensor
    below_1: Tensor
    below_2: Tensor
    below_3: Tensor


class DepthMetrics:
    """Accumulates one row of sums per image.

    - `abs_rel`: mean |e| / t. `sq_rel`: mean e^2 / t, metres (not the KITTI server's sqErrorRel).
    - `rmse_m`: metres. `rmse_log`: of g. `log10`: mean |g| / ln 10. `irmse_per_m`: of 1/d - 1/t.
    - `delta1`, `delta2`, `delta3`: share of the pixels with max(d/t, t/d) strictly below 1.25, 1.25^2, 1.25^3.
    - `silog_x100_lambda1`: 100 sqrt(mean g^2 - (mean g)^2), the KITTI server's, BTS' and Marigold's.
    - `silog_lambda0.5`: sqrt(mean g^2 - 0.5 (mean g)^2), mmsegmentation's and Depth Anything V2's.

    The protocol stands behind the "@" of a name where it is not the default; a metric of nothing has no key.

    Attributes:
        protocol: What counts, and how.
        records: Sums of every image, in order, float64 `(11,)`; all 0 where no pixel counts.
    """

    def __init__(self, protocol: Protocol | None = None) -> None:
        """Begin with no images; None is the default protocol."""
        self.protocol = protocol or Protocol()
        self.records: list[Tensor] = []

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Take in metres `(H, W)`: what was predicted, and the truth, NaN where unknown.

        Raises:
            DataError: The crop is for pictures of another size.
        """
        predicted, truth = (cropped(metres, self.protocol.crop) for metres in (predicted, truth))
        low, high = self.protocol.range
        counts = (truth > low) & (truth < high)
        d, t = predicted[counts].double(), truth[counts].double()
        if len(t):
            d = aligned(d, t, self.protocol.align).nan_to_num(low, high, low).clamp(low, high)
        self.records.append(torch.stack(_sums(d, t)).cpu())

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        rows = torch.stack(self.records) if self.records else torch.zeros(1, len(Sums._fields), dtype=torch.float64)
        pooled = rows.sum(0, keepdim=True) if self.protocol.average == "pixel" else rows
        total = Sums(*pooled.T)
        mean = Sums(*(column / total.pixels for column in total))
        bias = mean.log.square()
        return averages(
            {
                self.protocol.name(name): value
                for name, value in {
                    "abs_rel": mean.absolute_relative,
                    "sq_rel": mean.square_relative,
                    "rmse_m": mean.square.sqrt(),
                    "rmse_log": mean.log_square.sqrt(),
                    "log10": mean.log_absolute / math.log(10),
                    "delta1": mean.below_1,
                    "delta2": mean.below_2,
                    "delta3": mean.below_3,
                    "silog_x100_lambda1": 100 * (mean.log_square - bias).clamp(min=0).sqrt(),
                    "silog_lambda0.5": (mean.log_square - bias / 2).clamp(min=0).sqrt(),
                    "irmse_per_m": mean.inverse_square.sqrt(),
                }.items()
            }
        )


def _sums(d: Tensor, t: Tensor) -> Sums:
    error, ratio = d - t, d / t
    log, square, factor = ratio.log(), error.square(), torch.maximum(ratio, t / d)
    below = [(factor < 1.25**n).sum().double() for n in (1, 2, 3)]
    return Sums(
        torch.tensor(float(len(t)), dtype=torch.float64, device=t.device),
        (error.abs() / t).sum(),
        (square / t).sum(),
        square.sum(),
        log.abs().sum(),
        log.sum(),
        log.square().sum(),
        (error / (d * t)).square().sum(),
        *below,
    )


def cropped(metres: Tensor, crop: Crop) -> Tensor:
    """Return the part of a map `(H, W)` that counts.

    `nyu_eigen` is rows 45 to 471 and columns 41 to 601 of 480 x 640; the KITTI crops are shares of any size (Garg et al. 2016,
    Eigen et al. 2014), rounded down.

    Raises:
        DataError: `nyu_eigen` of a picture that is not 480 x 640.
    """
    if crop == "none":
        return metres
    height, width = metres.shape
    if crop == "nyu_eigen":
        if (height, width) != NYU:
            raise DataError(f"crop nyu_eigen is for pictures of 640x480, not {width}x{height}", "set task.protocol.crop=none")
        return metres[NYU_EIGEN]
    top, bottom = (int(share * height) for share in KITTI_ROWS[crop])
    left, right = (int(share * width) for share in KITTI_COLUMNS)
    return metres[top:bottom, left:right]


def aligned(d: Tensor, t: Tensor, align: Align) -> Tensor:
    """Return predictions `(N,)` after what is forgiven was fitted to the truth `(N,)`.

    `median`: times median(t) / median(d). `least_squares_depth`: s d + o with the least sum of (s d + o - t)^2.
    `least_squares_disparity`: the same between 1/d and 1/t; what comes out at 0 or below is infinitely far. Predictions that
    are NaN or infinite (of disparity: NaN or 0) have no part in the fit; without any other, nothing is fitted.
    """
    inverse = align == "least_squares_disparity"
    said, true = (d.reciprocal(), t.reciprocal()) if inverse else (d, t)
    finite = said.isfinite()
    if align == "none" or not finite.any():
        return d
    if align == "median":
        return d * (_median(t[finite]) / _median(d[finite]))
    slope, offset = _line(said[finite], true[finite])
    fitted = slope * said + offset
    return torch.where(fitted <= 0, math.inf, fitted.reciprocal()) if inverse else fitted


def _median(values: Tensor) -> Tensor:
    """Return the median, of an even number the mean of the two in the middle, as NumPy does."""
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return s and o of the least squares fit of s x + o to y; of a constant x they are 0 and the mean of y."""
    centred = x - x.mean()
    variance = centred.square().sum()
    slope = torch.where(variance > 0, (centred * y).sum() / variance.clamp(min=torch.finfo(x.dtype).tiny), 0)
    return slope, y.mean() - slope * x.mean()
