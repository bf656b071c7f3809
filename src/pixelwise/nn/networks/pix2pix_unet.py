"""The generator of pix2pix, layer for layer as published in PyTorch (Isola, Zhu, Zhou and Efros 2017)."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, Statistics, norm
from pixelwise.nn.initialisation import initialise
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.products import Double, Halve
from pixelwise.nn.upsample import Upsample, initialise_icnr, upsample


class Config(NetworkConfig):
    """Settings of the pix2pix generator; the defaults are the published U-Net-256, `depth=7` is the U-Net-128."""

    kind: Literal["pix2pix_unet"] = "pix2pix_unet"
    width: int = Field(64, ge=1, description="channels after the first convolution (ngf), at most 8 times later")
    depth: int = Field(8, ge=2, le=10, description="how many times the sides are halved: 8 for 256 pixels, 7 for 128")
    norm: Norm = Field("batch", description="normalisation; none on first and innermost level")
    dropout: float = Field(0.5, ge=0, lt=1, description="probability of dropping a value in the dropout stages")
    dropout_stages: tuple[PositiveInt, ...] | None = Field(
        None,
        description="decoder stages with dropout, the innermost is 1; default 2 ... depth-4 as in the PyTorch code "
        "(the Torch code and the paper have 1, 2, 3)",
    )

    upsample: Upsample = Field(
        "transposed",
        description="how the decoder enlarges its maps: 4x4 transposed convolutions as published, or in another way and then a "
        "3x3 convolution (Odena et al. 2016)",
    )
    test_statistics: Statistics = Field(
        "picture", description="what batch norm uses in evaluation: each picture's own statistics (published), or the running"
    )

    @model_validator(mode="after")
    def _pooled(self) -> Self:
        if self.upsample == "unpool":
            raise ValueError("unpool needs the indices of a max pooling, and this network halves by strided convolutions")
        return self

    @model_validator(mode="after")
    def _stages_exist(self) -> Self:
        if any(stage >= self.depth for stage in self.dropout_stages or ()):
            raise ValueError(f"dropout_stages must lie in 1 ... depth - 1 = {self.depth - 1}")
        return self

    def build(self, in_channels: int, out_channels: int) -> Pix2PixUNet:
        """Return the network with weights from N(0, 0.02)."""
        network = Pix2PixUNet(self, in_channels, out_channels)
        initialise(network)
        initialise_icnr(network)
        return network


class Pix2PixUNet(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) in [-1, 1], stride 1.

    Convolutions 4x4 of stride 2 down to H / 2^depth (1x1 at 256 pixels), transposed convolutions back up (or `upsample`),
    the map of each level concatenated. Sides that are not multiples of 2^depth are continued by mirroring and cropped back;
    at multiples (256x256) nothing is added.

    pix2pix is published with batch 1 and left in training mode at test time: batch norm then uses the statistics of the
    very picture. So it does here in evaluation, whatever the batch (`test_statistics="running"` gives the usual batch
    norm). The published test keeps dropout on as well, as its only noise; here evaluation turns it off, so that an answer
    repeats.
    The innermost level has no norm: at batch 1 and 1x1 it would leave only zeros (the paper's erratum).
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [config.width * min(2**level, 8) for level in range(config.depth)]
        bias = config.norm != "batch"  # which would remove it
        published = range(2, config.depth - 3)
        dropped = published if config.dropout_stages is None else config.dropout_stages
        self.multiple = 2**config.depth
        self.down = nn.ModuleList([Halve(in_channels, widths[0], bias)])
        self.up = nn.ModuleList()
        for level in range(1, config.depth):
            innermost = level == config.depth - 1
            down = Halve(widths[level - 1], widths[level], bias)
            self.down.append(nn.Sequential(down, nn.Identity() if innermost else _norm(config, widths[level])))
            below = widths[level] if innermost else 2 * widths[level]
            up = _double(config, below, widths[level - 1], bias)
            dropout = nn.Dropout(config.dropout if config.depth - level in dropped else 0.0)
            self.up.insert(0, nn.Sequential(up, _norm(config, widths[level - 1]), dropout))
        self.up.append(_double(config, 2 * widths[0], out_channels))

    def forward(self, image: Tensor) -> Tensor:
        """Return the translation of `image`."""
        height, width = image.shape[-2:]
        maps = self.down[0](mirror_to_multiple(image, self.multiple))
        skips = []
        for down in self.down[1:]:
            skips.append(maps)
            maps = down(nn.functional.leaky_relu(maps, 0.2))
        for up in self.up[:-1]:
            maps = torch.cat([skips.pop(), up(torch.relu(maps))], 1)
        picture = torch.tanh(self.up[-1](torch.relu(maps)))
        return picture[..., :height, :width]


def _double(config: Config, in_channels: int, out_channels: int, bias: bool = True) -> nn.Module:
    if config.upsample == "transposed":
        return Double(in_channels, out_channels, bias)
    enlarged = upsample(config.upsample, in_channels, out_channels)
    return nn.Sequential(enlarged, nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias))


def _norm(config: Config, channels: int) -> nn.Module:
    return norm(config.norm, channels, config.test_statistics)
