"""The discriminator of DCGAN: from a picture to one verdict by strided convolutions (Radford, Metz and Chintala 2016)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pixelwise.nn.blocks import Norm, norm
from pixelwise.nn.initialisation import initialise
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.sides import FIRST, Side, widths


class Config(NetworkConfig):
    """Settings of the discriminator."""

    kind: Literal["dcgan_discriminator"] = "dcgan_discriminator"
    size: Side = Field(64, description="side of the pictures; the task generation sets it to that of view.size")
    width: int = Field(64, ge=1, description="channels after the first convolution, twice as many after each, at most 8 times")
    norm: Norm = Field("batch", description="normalisation; none on the first level")
    spectral_norm: bool = Field(
        False, description="divide every weight by its largest singular value (Miyato et al. 2018), usually with norm=none"
    )

    def build(self, in_channels: int, out_channels: int = 1) -> DCGANDiscriminator:
        """Return the network with weights from N(0, 0.02)."""
        network = DCGANDiscriminator(self, in_channels, out_channels)
        initialise(network)
        if self.spectral_norm:
            for module in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
                spectral_norm(module)
        return network


class DCGANDiscriminator(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, 1, 1) logits, positive for real; of a larger picture the mean over its parts.

    4x4 convolutions of stride 2 down to 4 x 4, with leaky ReLU, then one of the whole map. A picture smaller than `size` is
    continued to it by mirroring.
    """

    stride = 0
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int = 1) -> None:
        super().__init__()
        self.least = config.size
        channels = widths(config.size, config.width)[::-1]
        biased = config.norm != "batch"
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels[0], 4, 2, 1, bias=biased), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(channels):
            halve = nn.Conv2d(before, after, 4, 2, 1, bias=biased)
            layers += [halve, norm(config.norm, after), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], out_channels, FIRST, bias=biased))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        logits: Tensor = self.layers(mirror_to_multiple(image, self.multiple, self.least))
        return logits.mean((2, 3), keepdim=True)
