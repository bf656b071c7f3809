"""A small modern generator: residual blocks that double the side, their norms steered by the code.

Blocks of Miyato et al. 2018 (spectral normalisation, appendix B.4), nearest neighbours and a convolution instead of transposed
convolutions (Odena et al. 2016); batch norm whose scale and shift the code decides: the class in it (Dumoulin et al. 2017) and
the noise (Chen et al. 2019).
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.sides import FIRST, Side, widths
from pixelwise.nn.upsample import nearest


class Config(NetworkConfig):
    """Settings of the generator."""

    usual_channels: ClassVar[int] = 128
    kind: Literal["residual_generator"] = "residual_generator"
    size: Side = Field(64, description="side of the pictures; the task generation sets it to that of view.size")
    width: int = Field(32, ge=1, description="channels of the largest map; twice as many at each smaller one, at most 8 times")

    def usual_outputs(self, in_channels: int) -> int:
        """Return the channels of a picture."""
        return 3

    def build(self, in_channels: int, out_channels: int) -> ResidualGenerator:
        """Return the network, its convolutions as Glorot and Bengio 2010 draw them."""
        network = ResidualGenerator(self, in_channels, out_channels)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        return network


class SteeredNorm(nn.Module):
    """Batch norm, then a scale and a shift of each channel that are linear in the code; they begin near 1 and 0."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.steer = nn.Linear(code, 2 * channels)
        nn.init.normal_(self.steer.weight, std=0.02)
        nn.init.zeros_(self.steer.bias)

    def forward(self, maps: Tensor, code: Tensor) -> Tensor:
        """Return the maps (B, channels, H, W) as the code (B, code) wants them."""
        scale, shift = self.steer(code)[:, :, None, None].chunk(2, 1)
        steered: Tensor = self.norm(maps) * (1 + scale) + shift
        return steered


class Block(nn.Module):
    """(B, before, H, W) -> (B, after, 2H, 2W): two 3x3 convolutions, added to the enlarged maps."""

    def __init__(self, before: int, after: int, code: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([SteeredNorm(before, code), SteeredNorm(after, code)])
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, maps: Tensor, code: Tensor) -> Tensor:
        """Return the larger maps."""
        inner = self.first(nearest(functional.relu(self.norms[0](maps, code))))
        changed: Tensor = nearest(self.skip(maps)) + self.second(functional.relu(self.norms[1](inner, code)))
        return changed


class ResidualGenerator(nn.Module):
    """(B, in_channels, 1, 1) codes -> (B, out_channels, size, size) pictures in [-1, 1]; of larger maps it takes the mean.

    `stride` is 0: a code lies on no grid.
    """

    stride = 0
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.size = config.size
        channels = widths(config.size, config.width)
        self.project = nn.Linear(in_channels, channels[0] * FIRST**2)
        self.blocks = nn.ModuleList(Block(*pair, in_channels) for pair in pairwise((*channels, config.width)))
        self.norm = nn.BatchNorm2d(config.width)
        self.paint = nn.Conv2d(config.width, out_channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the pictures."""
        code = codes.mean((2, 3))
        maps = self.project(code).unflatten(1, (-1, FIRST, FIRST))
        for block in self.blocks:
            maps = block(maps, code)
        return functional.tanh(self.paint(functional.relu(self.norm(maps))))
