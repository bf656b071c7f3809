"""Residual blocks without norm at the low resolution, sheets for a pixel shuffle, and bicubic enlargement below it all.

The blocks and the pixel shuffle of EDSR (Lim et al. 2017) on the residual of VDSR (Kim et al. 2016), far smaller than either.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.enlarging import BicubicSheets, EnlargingConfig, scale_of
from pixelwise.nn.initialisation import begin_near_zero, initialise_he

START = 0.1
"""How much of its branch a block adds at first, so that depth does not add up (Szegedy et al. 2017, section 3.3)."""


class Config(EnlargingConfig):
    """Settings of the residual network with a pixel shuffle."""

    kind: Literal["residual_pixel_shuffle"] = "residual_pixel_shuffle"
    width: int = Field(default=64, ge=1, description="channels of the maps")
    blocks: int = Field(default=4, ge=0, description="residual blocks of two 3x3 convolutions")

    def build(self, in_channels: int, out_channels: int) -> ResidualPixelShuffle:
        """Return the network, which begins as bicubic enlargement; its scale follows from the channels."""
        network = ResidualPixelShuffle(self, in_channels, out_channels)
        initialise_he(network)
        with torch.no_grad():
            for block in network.blocks:
                block.branch[-1].weight.mul_(START)  # type: ignore[union-attr, index]
        begin_near_zero(network.last)
        return network


class Block(nn.Module):
    """(B, channels, H, W) -> the same: two 3x3 convolutions with a ReLU between them, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the changed maps."""
        changed: Tensor = maps + self.branch(maps)
        return changed


class ResidualPixelShuffle(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W), the sheets of a picture s times as large: bicubic plus a learned residual."""

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bicubic = BicubicSheets(scale_of(in_channels, out_channels))
        self.first = nn.Conv2d(in_channels, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(config.width) for _ in range(config.blocks)))
        self.last = nn.Conv2d(config.width, out_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets."""
        sheets: Tensor = self.bicubic(image) + self.last(torch.relu(self.blocks(self.first(image))))
        return sheets
