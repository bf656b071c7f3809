"""Convolutions with their norm and activation, and the level of a decoder: the bricks every network here is made of."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.upsample import Upsample, upsample

Norm = Literal["batch", "instance", "group", "none"]
Statistics = Literal["picture", "running"]
Skips = Literal["concatenate", "add", "none"]


class PictureNorm(nn.BatchNorm2d):
    """Batch norm that in evaluation normalises each picture by its own statistics, as batch norm does at batch 1."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the normalised maps (B, channels, H, W); a map of one pixel becomes the bias alone."""
        if self.training:
            return super().forward(maps)
        centred = maps - maps.mean((2, 3), keepdim=True)
        scale = torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + self.eps)
        return centred * scale * self.weight[:, None, None] + self.bias[:, None, None]


def norm(kind: Norm, channels: int, statistics: Statistics = "running") -> nn.Module:
    """Return the normalisation of (B, channels, H, W) maps.

    Args:
        kind: `batch` (affine, running statistics), `instance` (no affine, no running statistics, as in pix2pix and
            CycleGAN), `group` (up to 8 groups, affine) or `none`.
        channels: Channels of the maps.
        statistics: What `batch` uses in evaluation: the running ones, or each picture's own, as all others do.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels) if statistics == "running" else PictureNorm(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, 8), channels) if kind == "group" else nn.Identity()


def convolution(in_channels: int, out_channels: int, kind: Norm, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """Return convolution (same size) - norm - ReLU; the convolution has a bias only where no norm removes it."""
    padding = kernel // 2 * dilation
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=kind == "none")
    return nn.Sequential(layer, norm(kind, out_channels), nn.ReLU(inplace=True))


def double_convolution(in_channels: int, out_channels: int, kind: Norm) -> nn.Sequential:
    """Return two 3x3 convolutions with norm and ReLU: one level of U-Net (Ronneberger et al. 2015)."""
    return nn.Sequential(
        *convolution(in_channels, out_channels, kind),
        *convolution(out_channels, out_channels, kind),
    )


class Residual(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W): two 3x3 convolutions, added to their input (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, kind: Norm) -> None:
        super().__init__()
        last = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=kind == "none")
        self.branch = nn.Sequential(*convolution(in_channels, out_channels, kind), last, norm(kind, out_channels))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the changed maps."""
        return functional.relu(self.skip(maps) + self.branch(maps))


class Stage(nn.Module):
    """One level of a decoder: enlarge, join the encoder's map of that size if there is one, two 3x3 convolutions."""

    def __init__(self, below: int, skip: int, out: int, norm: Norm, kind: Upsample, skips: Skips = "concatenate") -> None:
        """Build the level.

        Args:
            below: Channels of the smaller maps.
            skip: Channels of the encoder's map; 0 without one.
            out: Channels of the result.
            norm: Normalisation after each convolution.
            kind: How the maps are enlarged.
            skips: How the encoder's map is joined; to be added, it gets a 1x1 convolution unless it has `out` channels.
        """
        super().__init__()
        self.add = skips == "add"
        self.enlarge = upsample(kind, below, out)
        self.convolutions = double_convolution(out if self.add else out + skip, out, norm)
        self.project = nn.Conv2d(skip, out, 1) if self.add and skip not in (0, out) else nn.Identity()

    def forward(self, maps: Tensor, skip: Tensor | None = None, indices: Tensor | None = None) -> Tensor:
        """Return (B, out, 2H, 2W) of maps (B, below, H, W), skip (B, skip, 2H, 2W), unpool's indices (B, out, H, W)."""
        maps = self.enlarge(maps, indices)
        if skip is not None:
            maps = maps + self.project(skip) if self.add else torch.cat([skip, maps], 1)
        joined: Tensor = self.convolutions(maps)
        return joined
