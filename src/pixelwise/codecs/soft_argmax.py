"""Key points as the mean place of a softmax over places: coordinates that a network of maps can regress (Nibali et al. 2018).

The mean of a map is a differentiable number, so the distance itself is minimised and no peak has to be found. But the mean of
two places is a third one, and every stray belief draws it to the middle of the picture: the map is kept one narrow peak by a
regulariser.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pixelwise.codecs.codec import Points, checked_swap
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.points import SheetsCodec, Targets, only_one
from pixelwise.losses.regression import masked_mean


class SoftArgmaxCodec(SheetsCodec):
    """One sheet of logits per point, read by its mean (DSNT, the differentiable spatial to numerical transform).

    UNKNOWN points and ABSENT ones have no loss: a mean always says where, never whether.
    """

    def __init__(
        self,
        points: int,
        *,
        sigma: float,
        swap: tuple[int, ...] = (),
        stride: int = 1,
        loss: Literal["euclidean", "l1"] = "euclidean",
        regulariser: Literal["js", "variance"] = "js",
        weight: float = 1.0,
    ) -> None:
        """Settle what is compared.

        Args:
            points: Number of points K.
            sigma: Standard deviation that the beliefs are drawn to, in input pixels.
            swap: Which point takes each point's name in a mirror; empty if none does.
            stride: Input pixels per pixel of the sheets.
            loss: Distance between mean and point: Euclidean, or |dx| + |dy|.
            regulariser: `js`: Jensen-Shannon divergence from the Gaussian around the true point; `variance`: squared
                differences of both variances from sigma^2, in pixels of the sheet.
            weight: The regulariser's, lambda in the paper, which has 1.

        Raises:
            UsageError: `swap` does not pair the points, or `sigma` is too narrow for the stride.
        """
        self.gaussians = GaussianHeatmapsCodec(points, sigma=sigma, swap=swap, stride=stride, loss="cross_entropy")
        self.points, self.swap = points, checked_swap(swap, points)
        self.stride, self.kind, self.regulariser, self.weight = stride, loss, regulariser, weight

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Scale the points to pixels of the sheets, and draw what the beliefs should look like.

        Args:
            points: `(B, N, K, 2)` with N at most 1, (x, y) in input pixels; may be NaN where not present.
            presence: uint8 `(B, N, K)` of `Presence`.
            size: Height and width of the input image.

        Returns:
            `places` `(B, K, 2)` in pixels of the sheets, `heatmaps` `(B, K, h, w)` of sum 1, bool `known` `(B, K)`.

        Raises:
            DataError: More than one instance per image.
        """
        alone, _ = only_one(points, presence)
        drawn = self.gaussians.encode(points, presence, size)
        return {"places": torch.where(drawn["known"][..., None], alone, 0) / self.stride, **drawn}

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the mean place of each sheet.

        Confidence is the largest probability relative to that of a perfect sheet, 1 / (2 pi sigma^2), at most 1.

        Args:
            outputs: `(B, K, h, w)` logits.
            size: Height and width of the input image; points are clipped to it.
        """
        probabilities = _probabilities(outputs)
        x, y = (expectation(probabilities) * self.stride).unbind(-1)
        sure = probabilities.amax((2, 3)) * (2 * math.pi * self.gaussians.sigma**2)
        return Points(torch.stack([x.clamp(0, size[1]), y.clamp(0, size[0])], -1), sure.clamp(0, 1))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the distance plus `weight` times the regulariser, averaged over the known points.

        Distances are in the paper's unit, in which sheets reach from -1 to 1 along both axes.
        """
        known, probabilities = targets["known"], _probabilities(outputs)
        extent = outputs.new_tensor([outputs.shape[-1], outputs.shape[-2]])
        apart = 2 * (expectation(probabilities) - targets["places"]) / extent
        # the gradient of a length is not defined at 0
        distance = apart.abs().sum(-1) if self.kind == "l1" else (apart.square().sum(-1) + 1e-12).sqrt()
        spread = divergence(probabilities, targets["heatmaps"]) if self.regulariser == "js" else self._misfit(probabilities)
        return masked_mean(distance + self.weight * spread, known)

    def _misfit(self, probabilities: Tensor) -> Tensor:
        return (variance(probabilities) - self.gaussians.sigma**2).square().sum(-1)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets and exchange those that swap their names; exact if the stride divides the width."""
        return outputs.flip(-1)[:, list(self.swap)]


def expectation(probabilities: Tensor) -> Tensor:
    """Return the mean place `(..., 2)`, (x, y) in pixels, of `(..., h, w)` that sums to 1; pixel i counts as i + 0.5."""
    height, width = probabilities.shape[-2:]
    x = torch.arange(width, device=probabilities.device) + 0.5
    y = torch.arange(height, device=probabilities.device) + 0.5
    return torch.stack([(probabilities.sum(-2) * x).sum(-1), (probabilities.sum(-1) * y).sum(-1)], -1)


def variance(probabilities: Tensor) -> Tensor:
    """Return the variance along x and y `(..., 2)`, in squared pixels, of `(..., h, w)` that sums to 1."""
    height, width = probabilities.shape[-2:]
    mean_x, mean_y = expectation(probabilities)[..., None].unbind(-2)
    x = torch.arange(width, device=probabilities.device) + 0.5 - mean_x
    y = torch.arange(height, device=probabilities.device) + 0.5 - mean_y
    return torch.stack([(probabilities.sum(-2) * x.square()).sum(-1), (probabilities.sum(-1) * y.square()).sum(-1)], -1)


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence `(...)` between `(..., h, w)` and the same, in nats: 0 to log 2."""
    middle = (one + other) / 2
    return (_relative_entropy(one, middle) + _relative_entropy(other, middle)) / 2


def _relative_entropy(one: Tensor, other: Tensor) -> Tensor:
    """Return sum p log p / q; p = 0 counts 0."""
    least = torch.finfo(one.dtype).tiny
    return (one * (one.clamp(min=least).log() - other.clamp(min=least).log())).sum((-2, -1))


def _probabilities(logits: Tensor) -> Tensor:
    return logits.flatten(-2).softmax(-1).view_as(logits)
