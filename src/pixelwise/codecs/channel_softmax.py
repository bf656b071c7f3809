"""Key points as a class of every pixel: one of the K points, or none of them (softmax over K + 1 channels)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelwise.codecs import peaks
from pixelwise.codecs.codec import Points, checked_swap
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.points import SheetsCodec, Targets

NEVER = -1e9
"""Logit of a class that is not to be considered; finite, because 0 times infinity is no number."""


class ChannelSoftmaxCodec(SheetsCodec):
    """K sheets and the background, which together sum to 1 at every pixel.

    With g_k the Gaussian of point k (peak 1), the target of a pixel is 1 - max g for the background, and the rest is shared
    among the points as their Gaussians are: t_k = max g * g_k / sum g. So several points within one pixel share it, none is
    lost, and g is got back: g_k = t_k (1 - t_background) / max t.

    Pixels are not weighted, although most are background. The log loss has no need of it: where a point is denied, its
    gradient has full size. A weight would multiply the odds that are learned, and make every peak a plateau.

    An UNKNOWN point leaves the softmax of its image: nothing is learned about it, and the others share the pixels without it.
    An ABSENT point is a class that no pixel has.
    """

    kind = "cross_entropy"

    def __init__(
        self,
        points: int,
        *,
        sigma: float,
        swap: tuple[int, ...] = (),
        stride: int = 1,
        decoding: peaks.Decoding = "log_fit",
    ) -> None:
        """Settle what the sheets look like.

        Args:
            points: Number of points K.
            sigma: Width of the Gaussians in input pixels.
            swap: Which point takes each point's name in a mirror; empty if none does.
            stride: Input pixels per pixel of the sheets.
            decoding: How the peak is found; see `peaks`.

        Raises:
            UsageError: `swap` does not pair the points, or `sigma` is too narrow for the stride.
        """
        self.gaussians = GaussianHeatmapsCodec(points, sigma=sigma, swap=swap, stride=stride, loss="l2")
        self.points, self.swap = points, checked_swap(swap, points)
        self.stride, self.decoding = stride, decoding

    @property
    def channels(self) -> int:
        """One sheet per point, and the background's."""
        return self.points + 1

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Share every pixel among the points and the background; arguments as for `GaussianHeatmapsCodec.encode`.

        Returns:
            `shares` `(B, K + 1, h, w)`, sum 1 over the channels, the background last; and the points that take part, bool
            `known` `(B, K)`.
        """
        drawn = self.gaussians.encode(points, presence, size)
        known = drawn["known"]
        heights = torch.where(known[..., None, None], drawn["heatmaps"], 0)
        largest = heights.amax(1, keepdim=True)
        total = heights.sum(1, keepdim=True).clamp(min=torch.finfo(heights.dtype).tiny)
        return {"shares": torch.cat([heights * (largest / total), 1 - largest], 1), "known": known}

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the peak of each point's Gaussian, and as its confidence the height there.

        Args:
            outputs: `(B, K + 1, h, w)` logits.
            size: Height and width of the input image; points are clipped to it.
        """
        logs = outputs.log_softmax(1)[:, : self.points]
        logs = logs + logs.logsumexp(1, keepdim=True) - logs.amax(1, keepdim=True)
        found = peaks.found(self.decoding, logs, logs.exp(), self.gaussians.sigma)
        x, y = (found * self.stride).unbind(-1)
        places = torch.stack([x.clamp(0, size[1]), y.clamp(0, size[0])], -1)
        return Points(places, logs.amax((2, 3)).exp().clamp(0, 1))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return -sum t log softmax(outputs) over all pixels and channels, divided by what one Gaussian holds and by points.

        That is by 2 pi sigma^2, the pixels that one point takes, times the number of known points: the loss depends on the
        size of the picture as little as that of a single point does.
        """
        known = targets["known"]
        considered = torch.cat([known, torch.ones_like(known[:, :1])], 1)[..., None, None]
        logs = outputs.masked_fill(~considered, NEVER).log_softmax(1)
        each = -(targets["shares"] * logs).sum((1, 2, 3))
        return each.sum() / (2 * math.pi * self.gaussians.sigma**2 * known.sum().clamp(min=1))

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets and exchange those that swap their names; exact if the stride divides the width."""
        return outputs.flip(-1)[:, [*self.swap, self.points]]
