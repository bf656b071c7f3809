"""SRCNN: three convolutions on the picture that bicubic enlargement gives (Dong, Loy, He and Tang 2014, 2016)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.enlarging import BicubicSheets, EnlargingConfig, scale_of


class Config(EnlargingConfig):
    """Settings of SRCNN; the defaults are the published 9-1-5, `kernels=9,5,5` is the larger one."""

    kind: Literal["srcnn"] = "srcnn"
    kernels: tuple[int, int, int] = Field(default=(9, 1, 5), description="sides of the three kernels, odd")
    widths: tuple[int, int] = Field(default=(64, 32), description="channels after the first and second convolution")

    def build(self, in_channels: int, out_channels: int) -> SRCNN:
        """Return the network; its scale follows from the channels."""
        return SRCNN(self, in_channels, out_channels)


class SRCNN(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W), the sheets of a picture s times as large.

    It works on the large picture, whose border is continued by its last pixels.
    """

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale = scale_of(in_channels, out_channels)
        self.bicubic = BicubicSheets(self.scale)
        first, second = config.widths
        convolutions = [
            nn.Conv2d(before, after, side, padding=side // 2, padding_mode="replicate")
            for before, after, side in zip(
                (in_channels, first, second), (first, second, in_channels), config.kernels, strict=True
            )
        ]
        self.layers = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets."""
        large = functional.pixel_shuffle(self.bicubic(image), self.scale)
        return functional.pixel_unshuffle(self.layers(large), self.scale)
