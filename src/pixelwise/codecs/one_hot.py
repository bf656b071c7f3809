"""Key points as one pixel each of a sheet, found by the log loss of a softmax over places (Mask R-CNN, He et al. 2017).

It is what `gaussian_heatmaps` with cross-entropy becomes as sigma goes to 0: cheaper, and blind to where within its pixel a
point lies.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pixelwise.codecs import peaks
from pixelwise.codecs.codec import Points, checked_swap
from pixelwise.codecs.points import SheetsCodec, Targets, only_one
from pixelwise.geometry.presence import Presence
from pixelwise.losses.regression import masked_mean


class OneHotCodec(SheetsCodec):
    """One sheet of logits per point; the target is the pixel that the point is in.

    UNKNOWN points and ABSENT ones have no loss: a softmax over places says where, not whether.
    """

    kind = "cross_entropy"

    def __init__(
        self,
        points: int,
        *,
        swap: tuple[int, ...] = (),
        stride: int = 1,
        decoding: Literal["local_mean", "argmax"] = "local_mean",
    ) -> None:
        """Settle what the sheets look like.

        Args:
            points: Number of points K.
            swap: Which point takes each point's name in a mirror; empty if none does.
            stride: Input pixels per pixel of the sheets.
            decoding: The centre of the likeliest pixel, or the mean place of the 5 x 5 probabilities around it.

        Raises:
            UsageError: `swap` does not pair the points.
        """
        self.points, self.swap = points, checked_swap(swap, points)
        self.stride, self.decoding = stride, decoding

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Return the pixel of every point.

        Args:
            points: `(B, N, K, 2)` with N at most 1, (x, y) in input pixels; may be NaN where not present.
            presence: uint8 `(B, N, K)` of `Presence`.
            size: Height and width of the input image; sheets have these divided by the stride and rounded up.

        Returns:
            `cell` int64 `(B, K)`, row times width plus column; and bool `known` `(B, K)`: points present and on the sheet.

        Raises:
            DataError: More than one instance per image.
        """
        points, presence = only_one(points, presence)
        present = presence >= Presence.HIDDEN
        height, width = (-(-side // self.stride) for side in size)
        x, y = torch.where(present[..., None], points, 0).unbind(-1)
        inside = (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])
        column = (x / self.stride).floor().long().clamp(0, width - 1)  # the far border belongs to the last pixel
        row = (y / self.stride).floor().long().clamp(0, height - 1)
        return {"cell": row * width + column, "known": present & inside}

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the best position of each point; its confidence is the largest probability.

        The centre of a pixel is off by up to half a pixel of the sheet, whatever the network.

        Args:
            outputs: `(B, K, h, w)` logits.
            size: Height and width of the input image; points are clipped to it.
        """
        probabilities = outputs.flatten(2).softmax(-1).view_as(outputs)
        found = peaks.centre(outputs) if self.decoding == "argmax" else peaks.local_mean(probabilities)
        x, y = (found * self.stride).unbind(-1)
        places = torch.stack([x.clamp(0, size[1]), y.clamp(0, size[0])], -1)
        return Points(places, probabilities.amax((2, 3)))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return -log softmax(outputs) at the points' pixels, averaged over the known points."""
        logs = outputs.flatten(2).log_softmax(-1).gather(-1, targets["cell"][..., None])[..., 0]
        return masked_mean(-logs, targets["known"])

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets and exchange those that swap their names; exact if the stride divides the width."""
        return outputs.flip(-1)[:, list(self.swap)]
