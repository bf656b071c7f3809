"""ESPCN: three convolutions at the low resolution and a pixel shuffle (Shi et al. 2016)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.enlarging import EnlargingConfig, scale_of


class Config(EnlargingConfig):
    """Settings of ESPCN; the defaults are the published network."""

    kind: Literal["espcn"] = "espcn"
    widths: tuple[int, int] = Field(default=(64, 32), description="channels after the first and second convolution")

    def build(self, in_channels: int, out_channels: int) -> ESPCN:
        """Return the network; its scale follows from the channels."""
        return ESPCN(self, in_channels, out_channels)


class ESPCN(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W), the sheets of a picture s times as large: 5x5, tanh, 3x3, tanh, 3x3."""

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        scale_of(in_channels, out_channels)
        first, second = config.widths
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels, first, 5, padding=2), nn.Tanh()),
            *(nn.Conv2d(first, second, 3, padding=1), nn.Tanh()),
            nn.Conv2d(second, out_channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets."""
        sheets: Tensor = self.layers(image)
        return sheets
