"""Convolutions at full resolution and nothing else: the first wrong way to answer at every pixel, as a baseline."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, convolution
from pixelwise.nn.initialisation import initialise_he
from pixelwise.nn.network import NetworkConfig


class Config(NetworkConfig):
    """Settings of the stack; the defaults are the lecture's, too large to train, which is its point."""

    kind: Literal["stack"] = "stack"
    width: int = Field(200, ge=1, description="channels of every layer")
    depth: int = Field(100, ge=1, description="3x3 convolutions; an output sees 2 depth + 1 pixels across")
    norm: Norm = Field("none", description="normalisation after each convolution")

    def build(self, in_channels: int, out_channels: int) -> Stack:
        """Return the network, initialised so that a deep one without norm still passes its signal (He et al. 2015)."""
        network = Stack(self, in_channels, out_channels)
        initialise_he(network.layers)
        return network


class Stack(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation.

    n layers see 2n + 1 pixels across, so a view of 200 pixels takes 100 of them. A layer of 200 channels at 400x400 takes
    200 * 400 * 400 * 4 bytes = 122.07 MiB per picture, 100 layers and 20 pictures take 238.4 GiB, and that is without norms.
    """

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels, *[config.width] * config.depth]
        self.layers = nn.Sequential(*(convolution(before, after, config.norm) for before, after in pairwise(widths)))
        self.head = nn.Conv2d(config.width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        scores: Tensor = self.head(self.layers(image))
        return scores
