"""Convolutions with their norm and activation: the bricks every network here is made of."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

Norm = Literal["batch", "instance", "group", "none"]


def norm(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation of (B, channels, H, W) maps.

    Args:
        kind: `batch` (affine, running statistics), `instance` (no affine, no running statistics, as in pix2pix and
            CycleGAN), `group` (up to 8 groups, affine) or `none`.
        channels: Channels of the maps.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, 8), channels) if kind == "group" else nn.Identity()


def convolution(in_channels: int, out_channels: int, kind: Norm, kernel: int = 3) -> nn.Sequential:
    """Return convolution (same size) - norm - ReLU; the convolution has a bias only where no norm removes it."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=kind == "none")
    return nn.Sequential(layer, norm(kind, out_channels), nn.ReLU(inplace=True))


def double_convolution(in_channels: int, out_channels: int, kind: Norm) -> nn.Sequential:
    """Return two 3x3 convolutions with norm and ReLU: one level of U-Net (Ronneberger et al. 2015)."""
    return nn.Sequential(
        *convolution(in_channels, out_channels, kind),
        *convolution(out_channels, out_channels, kind),
    )
