"""VDSR: twenty convolutions that say what bicubic enlargement lacks (Kim, Lee and Lee 2016)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.enlarging import BicubicSheets, EnlargingConfig, scale_of
from pixelwise.nn.initialisation import initialise_he


class Config(EnlargingConfig):
    """Settings of VDSR; the defaults are the published network."""

    kind: Literal["vdsr"] = "vdsr"
    depth: int = Field(default=20, ge=2, description="convolutions")
    width: int = Field(default=64, ge=1, description="channels between them")

    def build(self, in_channels: int, out_channels: int) -> VDSR:
        """Return the network with He's weights; its scale follows from the channels."""
        return VDSR(self, in_channels, out_channels)


class VDSR(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W), the sheets of a picture s times as large: bicubic plus a learned residual.

    All convolutions are 3x3 on the large picture.
    """

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale = scale_of(in_channels, out_channels)
        self.bicubic = BicubicSheets(self.scale)
        layers: list[nn.Module] = []
        for before in (in_channels, *[config.width] * (config.depth - 2)):
            layers += [nn.Conv2d(before, config.width, 3, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(config.width, in_channels, 3, padding=1))
        initialise_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets."""
        sheets = self.bicubic(image)
        residual = self.layers(functional.pixel_shuffle(sheets, self.scale))
        enlarged: Tensor = sheets + functional.pixel_unshuffle(residual, self.scale)
        return enlarged
