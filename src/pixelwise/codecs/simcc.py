"""Key points as two classifications each, of the column and of the row (SimCC, Li et al. 2022)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pixelwise.codecs.codec import Points, checked_swap
from pixelwise.codecs.points import PointsCodec, Targets, only_one
from pixelwise.errors import UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.losses.regression import masked_mean

NARROWEST = 0.5
"""Least sigma in bins: a narrower Gaussian falls between them."""


class SimCCCodec(PointsCodec):
    """Logits of bins that part the width and the height: outputs `(B, K (columns + rows), 1, 1)`, columns first.

    The bins span the picture, whatever its size. Their number per pixel is the paper's splitting factor k: with more bins than
    pixels, a place is known more finely than the input is. Where two places are possible, each axis keeps both by itself,
    and which column goes with which row is lost; a sheet would know.

    UNKNOWN points and ABSENT ones have no loss: a softmax over places says where, not whether.
    """

    scale = 0.0
    kind = "cross_entropy"

    def __init__(
        self,
        points: int,
        *,
        bins: tuple[int, int],
        sigma: float,
        swap: tuple[int, ...] = (),
        decoding: Literal["log_taylor", "argmax"] = "log_taylor",
    ) -> None:
        """Settle the bins.

        Args:
            points: Number of points K.
            bins: How many along the height and along the width.
            sigma: Width of the Gaussian that smooths the targets, in input pixels.
            swap: Which point takes each point's name in a mirror; empty if none does.
            decoding: The centre of the likeliest bin, or the peak of the parabola through its logarithm and its neighbours'.

        Raises:
            UsageError: `swap` does not pair the points, or there are fewer than 3 bins.
        """
        if min(bins) < 3:
            raise UsageError(f"{min(bins)} bins part nothing", "give at least 3 along each side")
        self.points, self.swap = points, checked_swap(swap, points)
        self.rows, self.columns = bins
        self.sigma, self.decoding = sigma, decoding

    @property
    def channels(self) -> int:
        """A number for every bin of every point."""
        return self.points * (self.rows + self.columns)

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Spread each point over the bins around it.

        Args:
            points: `(B, N, K, 2)` with N at most 1, (x, y) in input pixels; may be NaN where not present.
            presence: uint8 `(B, N, K)` of `Presence`.
            size: Height and width of the input image.

        Returns:
            `across` `(B, K, columns)` and `down` `(B, K, rows)`, each of sum 1, and bool `known` `(B, K)`.

        Raises:
            DataError: More than one instance per image.
            UsageError: `sigma` is too narrow for the bins.
        """
        points, presence = only_one(points, presence)
        present = presence >= Presence.HIDDEN
        x, y = torch.where(present[..., None], points, 0).unbind(-1)
        across, down = self._smoothed(x, self.columns, size[1]), self._smoothed(y, self.rows, size[0])
        return {"across": across, "down": down, "known": present}

    def _smoothed(self, position: Tensor, bins: int, length: int) -> Tensor:
        """Return a Gaussian of sum 1 around positions `(B, K)` in pixels, over the bins that part `length` pixels."""
        sigma = self.sigma * bins / length
        if sigma < NARROWEST:
            raise UsageError(
                f"sigma = {self.sigma:g} is too narrow for {bins} bins over {length} pixels",
                f"take task.sigma >= {NARROWEST * length / bins:g}, or more bins",
            )
        distance = torch.arange(bins, device=position.device) + 0.5 - position[..., None] * (bins / length)
        return (-distance.square() / (2 * sigma**2)).softmax(-1)

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the likeliest place of each point.

        Confidence is the lesser of both axes' largest probability, relative to that of a perfect answer.

        Args:
            outputs: `(B, K (columns + rows), 1, 1)`.
            size: Height and width of the input image.
        """
        across, down = self._axes(outputs)
        x, sure_x = self._found(across, size[1])
        y, sure_y = self._found(down, size[0])
        return Points(torch.stack([x, y], -1), torch.minimum(sure_x, sure_y).clamp(0, 1))

    def _found(self, logits: Tensor, length: int) -> tuple[Tensor, Tensor]:
        bins = logits.shape[-1]
        logs = logits.log_softmax(-1)
        best = logs.argmax(-1)
        place = best + 0.5 if self.decoding == "argmax" else _vertex(logs, best)
        perfect = math.sqrt(2 * math.pi) * self.sigma * bins / length
        return (place * length / bins).clamp(0, length), logs.amax(-1).exp() * perfect

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the cross-entropy along x plus that along y, averaged over the known points."""
        across, down = (axis.log_softmax(-1) for axis in self._axes(outputs))
        each = -(targets["across"] * across).sum(-1) - (targets["down"] * down).sum(-1)
        return masked_mean(each, targets["known"])

    def flip(self, outputs: Tensor) -> Tensor:
        """Turn the columns around and exchange the points that swap their names."""
        across, down = self._axes(outputs)
        return torch.cat([across.flip(-1), down], -1)[:, list(self.swap)].view_as(outputs)

    def _axes(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits along x `(B, K, columns)` and along y `(B, K, rows)`."""
        bins = outputs.reshape(-1, self.points, self.columns + self.rows)
        return bins[..., : self.columns], bins[..., self.columns :]


def _vertex(logs: Tensor, best: Tensor) -> Tensor:
    """Return the peak of the parabola through three neighbouring values, within a bin of the best one; `(B, K)` in bins.

    For a Gaussian it is exact: its logarithm is a parabola.
    """
    middle = best.clamp(1, logs.shape[-1] - 2)
    before, here, after = (logs.gather(-1, (middle + step)[..., None])[..., 0] for step in (-1, 0, 1))
    slope, curvature = (after - before) / 2, after - 2 * here + before
    bent = curvature < 0
    step = torch.where(bent, -slope / torch.where(bent, curvature, 1), (best - middle).to(logs.dtype))
    return best + 0.5 + (middle + step - best).clamp(-1, 1)
