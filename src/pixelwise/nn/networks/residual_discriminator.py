"""A small modern discriminator: residual blocks that halve the side, without batch norm (Miyato et al. 2018, appendix B.4).

With one output per class beside the first it is a projection discriminator (Miyato and Koyama 2018): the first is what it says
of any picture, each other the product of the picture's features with the vector of a class.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.sides import Side, widths


class Config(NetworkConfig):
    """Settings of the discriminator."""

    kind: Literal["residual_discriminator"] = "residual_discriminator"
    size: Side = Field(64, description="side of the pictures; the task generation sets it to that of view.size")
    width: int = Field(32, ge=1, description="channels of the largest map; twice as many at each smaller one, at most 8 times")
    spectral_norm: bool = Field(True, description="divide every weight by its largest singular value; without it use task.r1")

    def build(self, in_channels: int, out_channels: int = 1) -> ResidualDiscriminator:
        """Return the network, its weights as Glorot and Bengio 2010 draw them."""
        network = ResidualDiscriminator(self, in_channels, out_channels)
        for module in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
            nn.init.xavier_uniform_(module.weight)
            if self.spectral_norm:
                spectral_norm(module)
        return network


class Block(nn.Module):
    """(B, before, H, W) -> (B, after, H/2, W/2): two 3x3 convolutions, added to the shrunk maps."""

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)
        self.begins = first

    def forward(self, maps: Tensor) -> Tensor:
        """Return the smaller maps."""
        inner = self.first(maps if self.begins else functional.relu(maps))
        inner = functional.avg_pool2d(self.second(functional.relu(inner)), 2)
        changed: Tensor = inner + self.skip(functional.avg_pool2d(maps, 2))
        return changed


class ResidualDiscriminator(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, 1, 1) logits, positive for real, of the features summed over the picture.

    A picture smaller than `size` is continued to it by mirroring.
    """

    stride = 0
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int = 1) -> None:
        super().__init__()
        self.least = config.size
        channels = [in_channels, *widths(config.size, config.width)[::-1]]
        self.blocks = nn.Sequential(*(Block(*pair, first=not level) for level, pair in enumerate(pairwise(channels))))
        self.judge = nn.Conv2d(channels[-1], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        maps = functional.relu(self.blocks(mirror_to_multiple(image, self.multiple, self.least)))
        logits: Tensor = self.judge(maps.sum((2, 3), keepdim=True))
        return logits
