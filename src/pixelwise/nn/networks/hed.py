"""Holistically-nested edge detection: every resolution of an encoder gives an answer, and all are fused (Xie and Tu 2015)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm
from pixelwise.nn.encoders import EncoderConfig, Pyramid
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.side_outputs import SideOutputs


class Config(EncoderConfig):
    """Settings of the deeply supervised network; without `encoder` it has the contracting path of U-Net."""

    kind: Literal["hed"] = "hed"
    width: int = Field(32, ge=1, description="channels at full resolution; doubled with every level, up to 16 times")
    depth: int = Field(4, ge=1, le=8, description="how many times the resolution is halved; there are depth + 1 side outputs")
    norm: Norm = Field("batch", description="normalisation after each convolution")

    def build(self, in_channels: int, out_channels: int) -> HED:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or there are fewer side outputs than `out_channels` - 1.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return HED(self, in_channels, out_channels)


class HED(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation: the finest side outputs, the fused one last.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        own = config.replacement(in_channels)
        self.encoder = own or Pyramid(in_channels, config.width, config.depth, config.norm)
        self.multiple = max(self.encoder.channels)
        self.sides = SideOutputs(self.encoder.channels, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        maps = self.encoder(mirror_to_multiple(image, self.multiple, self.encoder.least))
        scores: Tensor = self.sides(maps, height, width)
        return scores
