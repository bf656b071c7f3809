"""The ways a decoder can make a map larger, behind one signature, so that they can be compared in the same network.

`transposed` is the 2x2 "up-convolution" of U-Net (Ronneberger et al. 2015); its kernel equals its stride, so every
output pixel has the same number of contributions and no checkerboard is built in (Odena et al. 2016).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Upsample = Literal["bilinear", "nearest", "transposed"]


class Interpolate(nn.Module):
    """Enlarge maps by a whole factor, pixel areas aligned (`align_corners=False`)."""

    def __init__(self, mode: Literal["bilinear", "nearest"], factor: int) -> None:
        super().__init__()
        self.mode, self.factor = mode, factor

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, factor H, factor W) of (B, C, H, W)."""
        align_corners = False if self.mode == "bilinear" else None
        return functional.interpolate(maps, scale_factor=self.factor, mode=self.mode, align_corners=align_corners)


def upsample(kind: Upsample, in_channels: int, out_channels: int, factor: int = 2) -> nn.Module:
    """Return a module (B, in_channels, H, W) -> (B, out_channels, factor H, factor W).

    Args:
        kind: `bilinear` or `nearest` interpolation after a 1x1 convolution (the two commute, and this order computes
            the convolution on the small map), or one `transposed` convolution.
        in_channels: Channels of the small map.
        out_channels: Channels of the large map.
        factor: How many times larger each side becomes.
    """
    if kind == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, factor, stride=factor)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), Interpolate(kind, factor))
