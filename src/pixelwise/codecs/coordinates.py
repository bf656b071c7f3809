"""Key points as plain numbers, regressed from the whole image (Toshev and Szegedy 2014); one instance per image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pixelwise.codecs.codec import Points, checked_swap
from pixelwise.codecs.points import PointsCodec, Targets, only_one
from pixelwise.geometry.presence import Presence
from pixelwise.losses.regression import l1_loss, l2_loss, smooth_l1_loss, wing_loss

BETA = 0.05
"""Where smooth L1 becomes linear, relative to the image's size; with torch's 1 it would never leave the parabola."""


class CoordinatesCodec(PointsCodec):
    """x / width and y / height of each point: outputs `(B, 2K, 1, 1)` in the order x0, y0, x1, y1, ..."""

    scale = 0.0

    def __init__(
        self,
        points: int,
        *,
        swap: tuple[int, ...] = (),
        loss: Literal["l2", "l1", "smooth_l1", "wing"] = "l2",
        wing: tuple[float, float] = (10.0, 2.0),
    ) -> None:
        """Settle what is regressed.

        Args:
            points: Number of points K.
            swap: Which point takes each point's name in a mirror; empty if none does.
            loss: Between relative coordinates; `smooth_l1` is linear beyond 5 % of the image's size. `wing` compares input
                pixels, which its two lengths are in.
            wing: Of the wing loss, from where on it is linear and how sharp it is at 0.

        Raises:
            UsageError: `swap` does not pair the points.
        """
        self.points = points
        self.swap = checked_swap(swap, points)
        self.kind, self.wing = loss, wing

    @property
    def channels(self) -> int:
        """Two numbers per point."""
        return 2 * self.points

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int]) -> Targets:
        """Divide by the size of the image.

        Args:
            points: `(B, N, K, 2)` with N at most 1, (x, y) in pixels; may be NaN where not present.
            presence: uint8 `(B, N, K)` of `Presence`; only HIDDEN and VISIBLE points have a coordinate to learn.
            size: Height and width of the image.

        Returns:
            `coordinates` `(B, K, 2)`, 0 where there is none, bool `present` `(B, K)`, and the `extent` `(B, 1, 2)`, width and
            height.

        Raises:
            DataError: More than one instance per image.
        """
        points, presence = only_one(points, presence)
        present = presence >= Presence.HIDDEN
        extent = points.new_tensor([size[1], size[0]]).expand(len(points), 1, 2)
        coordinates = torch.where(present[..., None], points / extent, 0)
        return {"coordinates": coordinates, "present": present, "extent": extent}

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> Points:
        """Return the points of outputs `(B, 2K, 1, 1)` in an image of `size` (height, width).

        Their confidence is 1: plain numbers do not say how sure they are.
        """
        coordinates = self._coordinates(outputs)
        x, y = coordinates.unbind(-1)
        return Points(torch.stack([x * size[1], y * size[0]], -1), torch.ones_like(x))

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the loss between relative coordinates (`wing`: input pixels), averaged over x and y of the points present."""
        arguments = self._coordinates(outputs), targets["coordinates"], targets["present"][..., None]
        if self.kind == "wing":
            found, wanted, present = arguments
            end, sharpness = self.wing
            return wing_loss(found * targets["extent"], wanted * targets["extent"], present, end=end, sharpness=sharpness)
        if self.kind == "smooth_l1":
            return smooth_l1_loss(*arguments, beta=BETA)
        return l1_loss(*arguments) if self.kind == "l1" else l2_loss(*arguments)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror x and exchange the points that swap their names."""
        x, y = self._coordinates(outputs)[:, list(self.swap)].unbind(-1)
        return torch.stack([1 - x, y], -1).view_as(outputs)

    def _coordinates(self, outputs: Tensor) -> Tensor:
        return outputs.reshape(outputs.shape[0], self.points, 2)
