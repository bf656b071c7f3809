"""The generator of DCGAN: from a code to a picture by transposed convolutions (Radford, Metz and Chintala 2016)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.initialisation import initialise
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.sides import FIRST, Side, widths


class Config(NetworkConfig):
    """Settings of the generator; width 128 has the channels of the paper's Figure 1."""

    usual_channels: ClassVar[int] = 100
    kind: Literal["dcgan"] = "dcgan"
    size: Side = Field(64, description="side of the pictures; the task generation sets it to that of view.size")
    width: int = Field(
        64, ge=1, description="channels of the last map before the picture; twice as many at each smaller one, at most 8 times"
    )

    def usual_outputs(self, in_channels: int) -> int:
        """Return the channels of a picture."""
        return 3

    def build(self, in_channels: int, out_channels: int) -> DCGANGenerator:
        """Return the network with weights from N(0, 0.02)."""
        network = DCGANGenerator(self, in_channels, out_channels)
        initialise(network)
        return network


class DCGANGenerator(nn.Module):
    """(B, in_channels, 1, 1) codes -> (B, out_channels, size, size) pictures in [-1, 1]; of larger maps it takes the mean.

    A code is projected to 4 x 4, then 4x4 transposed convolutions double the side; batch norm and ReLU after each but the last,
    which ends in tanh. `stride` is 0: a code lies on no grid.
    """

    stride = 0
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.size = config.size
        channels = widths(config.size, config.width)
        layers: list[nn.Module] = [nn.ConvTranspose2d(in_channels, channels[0], FIRST, bias=False)]
        for before, after in pairwise((*channels, out_channels)):
            double = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True), double]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, codes: Tensor) -> Tensor:
        """Return the pictures."""
        pictures: Tensor = self.layers(codes.mean((2, 3), keepdim=True))
        return pictures
