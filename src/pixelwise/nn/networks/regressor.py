"""Regression of numbers from a picture: convolutions and pooling, then fully connected layers (CS194-26, project 5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, convolution
from pixelwise.nn.network import NetworkConfig


class Config(NetworkConfig):
    """Settings of the regressor."""

    kind: Literal["regressor"] = "regressor"
    channels: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 128, 128), min_length=1, description="channels of each convolution; the map is halved after each"
    )
    kernel: Literal[3, 5, 7] = Field(3, description="side of the convolutions: 3, 5 or 7")
    norm: Norm = Field("batch", description="normalisation between convolution and ReLU")
    grid: tuple[PositiveInt, PositiveInt] = Field(
        (3, 4), description="height and width of the last map, averaged to this size before the fully connected layers"
    )
    hidden: int = Field(256, ge=1, description="units of the hidden fully connected layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a hidden unit")

    def build(self, in_channels: int, out_channels: int) -> Regressor:
        """Return the network."""
        return Regressor(self, in_channels, out_channels)


class Regressor(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, 1, 1) numbers without activation.

    The last map is averaged to a fixed grid, so any size goes in; at H = grid * 2^len(channels) this changes nothing
    and the network is the plain one of the course. `stride` is 0: the output lies on no pixel grid.

    Instance norm, and batch norm when training on one picture, need H or W above 2^(len(channels) - 1).
    """

    stride = 0
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels, *config.channels]
        blocks = [
            nn.Sequential(convolution(before, after, config.norm, config.kernel), nn.MaxPool2d(2, ceil_mode=True))
            for before, after in pairwise(widths)
        ]
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(config.grid))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * config.grid[0] * config.grid[1], config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the numbers of `image`."""
        numbers: Tensor = self.head(self.features(image))
        return numbers[:, :, None, None]
