"""Key points as sheets of belief with a Gaussian at every point (Tompson et al. 2014; Wei et al. 2016)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pixelwise.codecs import peaks
from pixelwise.codecs.codec import Points, at_least_one, checked_swap
from pixelwise.codecs.points import SheetsCodec, Targets
from pixelwise.errors import UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.losses.classification import spatial_cross_entropy
from pixelwise.losses.regression import masked_mean

NARROWEST = 0.5
"""Least sigma in pixels of the sheets: a narrower Gaussian falls between them."""


class GaussianHeatmapsCodec(SheetsCodec):
    """One sheet per point with exp(-d^2 / 2 sigma^2), d the distance to the nearest instance's point: its peak is 1.

    Centres are not rounded to the grid: pixel (i, j) of a sheet stands for the input position (stride (i + 0.5),
    stride (j + 0.5)). What the state of a label does:

    - VISIBLE and HIDDEN points are drawn.
    - ABSENT: a negative. An `l2` sheet without any point is to be zero; under `cross_entropy` it has no loss, because a
      softmax over places can only say where, not whether.
    - UNKNOWN: the whole sheet is ignored, because the point may be anywhere on it, also if other instances have
      theirs. An instance of which every point is UNKNOWN is padding. An image of nothing else is ignored; an image
      known to show nobody needs one instance with all points ABSENT.

    The background sheet is 1 - max of the other sheets, for balance only: decoding does not look at it. It is ignored
    in an image in which any other sheet is.
    """

    def __init__(
        self,
        points: int,
        *,
        sigma: float,
        swap: tuple[int, ...] = (),
        sigma_unit: Literal["input", "map"] = "input",
        stride: int = 1,
        background: bool = False,
        foreground: float = 1.0,
        loss: Literal["l2", "cross_entropy"] = "cross_entropy",
        decoding: peaks.Decoding = "log_fit",
    ) -> None:
        """Settle what the sheets look like.

        Args:
            points: Number of points K.
            sigma: Width of the Gaussians in pixels of `sigma_unit`.
            swap: Which point takes each point's name in a mirror; empty if none does.
            sigma_unit: Whether `sigma` counts pixels of the network's input or of its output.
            stride: Input pixels per pixel of the sheets.
            background: Whether there is a last sheet for "no point here"; only for `l2`.
            foreground: How many times an error at a point counts under `l2`, against one far from all; published: 1.
            loss: `l2`: sheets are beliefs; `cross_entropy`: sheets are logits of a softmax over all places, and the
                target is the Gaussian divided by its sum (a soft version of Mask R-CNN's one-hot target).
            decoding: How the peak is found; see `peaks`.

        Raises:
            UsageError: `swap` does not pair the points, `sigma` is too narrow for the stride, or a background sheet
                is asked for with `cross_entropy`.
        """
        self.points = points
        self.swap = checked_swap(swap, points)
        self.stride = stride
        self.sigma = sigma / stride if sigma_unit == "input" else sigma
        self.background = background
        self.foreground = foreground
        self.kind = loss
        self.decoding = decoding
        if self.sigma < NARROWEST:
            raise UsageError(
                f"sigma = {self.sigma:g} pixels of a sheet is too narrow: the peak would fall between its pixels",
                f"at stride {stride} take sigma >= {NARROWEST * stride:g} input pixels, or a smaller stride",
            )
        if background and loss == "cross_entropy":
            raise UsageError("a softmax over places has no background sheet", "set background=false, or loss=l2")

    @property
    def channels(self) -> int:
        """One sheet per point, and the background's."""
        return self.points + self.background

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Draw the sheets.

        Args:
            points: `(B, N, K, 2)`, (x, y) in input pixels; may be NaN where not present. Gradients flow to those
                present.
            presence: uint8 `(B, N, K)` of `Presence`.
            size: Height and width of the input image; the sheets cover it, so theirs are divided by the stride and
                rounded up.

        Returns:
            `heatmaps` `(B, channels, h, w)`, values in [0, 1], for `cross_entropy` of sum 1; and the sheets that have a
            loss, bool `known` `(B, channels)`.
        """
        points, presence = at_least_one(points, presence)
        present = presence >= Presence.HIDDEN
        x, y = (torch.where(present[..., None], points, 0) / self.stride).unbind(-1)
        height, width = (-(-side // self.stride) for side in size)
        across = torch.where(present[..., None], self._bell(x, width), 0)
        heatmaps = (self._bell(y, height)[..., :, None] * across[..., None, :]).amax(1)
        known = _known(presence)
        if self.kind == "cross_entropy":
            total = heatmaps.sum((2, 3), keepdim=True).clamp(min=torch.finfo(heatmaps.dtype).tiny)
            return {"heatmaps": heatmaps / total, "known": known & present.any(1)}
        if self.background:
            heatmaps = torch.cat([heatmaps, 1 - heatmaps.amax(1, keepdim=True)], 1)
            known = torch.cat([known, known.all(1, keepdim=True)], 1)
        return {"heatmaps": heatmaps, "known": known}

    def _bell(self, position: Tensor, length: int) -> Tensor:
        """Return exp(-d^2 / 2 sigma^2) `(..., length)` along one axis; their product is the Gaussian of both."""
        distance = torch.arange(length, device=position.device) + 0.5 - position[..., None]
        return (-distance.square() / (2 * self.sigma**2)).exp()

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the best position of each point.

        Confidence is the sheet's largest value; under `cross_entropy` its largest probability relative to that of a
        perfect sheet, 1 / (2 pi sigma^2). Both are clipped to [0, 1].

        Args:
            outputs: `(B, channels, h, w)` beliefs or logits.
            size: Height and width of the input image; points are clipped to it.
        """
        sheets = outputs[:, : self.points]
        logits = self.kind == "cross_entropy"
        largest = sheets.amax((2, 3))
        logs = sheets if logits else sheets.clamp(min=1e-30).log()
        beliefs = (sheets - largest[..., None, None]).exp() if logits else sheets
        found = peaks.found(self.decoding, logs, beliefs, self.sigma)
        if logits:
            largest = (largest - sheets.flatten(2).logsumexp(-1)).exp() * (2 * math.pi * self.sigma**2)
        x, y = (found * self.stride).unbind(-1)
        return Points(torch.stack([x.clamp(0, size[1]), y.clamp(0, size[0])], -1), largest.clamp(0, 1))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the loss of a sheet, averaged over the known sheets; 0 with zero gradients if there are none.

        `l2` is the sum of squared errors over a sheet divided by pi sigma^2, the sum of squares of one Gaussian. So,
        unweighted, a sheet of zeros costs 1 whatever its size, stride and sigma. The usual mean over all pixels makes the
        same sheet cost some 0.003 and its gradients as small: plain gradient descent, or one loss among several, then
        stays near zero (Adam alone divides such a factor out). The error at a pixel of height t counts
        1 + (foreground - 1) t times: nearly all of a sheet is 0, and without that a network says nearly 0 for long.
        `cross_entropy` cannot collapse: a softmax puts its mass somewhere.
        """
        heatmaps, known = targets["heatmaps"], targets["known"]
        if self.kind == "cross_entropy":
            return spatial_cross_entropy(outputs, heatmaps, known)
        weight = 1 + (self.foreground - 1) * heatmaps
        weight[:, self.points :] = 1
        squares = (weight * (outputs - heatmaps).square()).sum((2, 3))
        return masked_mean(squares / (math.pi * self.sigma**2), known)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets and exchange those that swap their names; the background is its own mirror image.

        Exact if the width of the input is a multiple of the stride.
        """
        background = range(self.points, self.channels)
        return outputs.flip(-1)[:, [*self.swap, *background]]


def _known(presence: Tensor) -> Tensor:
    """Return bool `(B, K)`: some instance is labelled, and none of the labelled instances lacks this point's label."""
    labelled = presence != Presence.UNKNOWN
    instance = labelled.any(-1, keepdim=True)
    return instance.any(1) & (labelled | ~instance).all(1)
