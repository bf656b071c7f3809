"""Holistically-nested edge detection: every resolution of an encoder gives an answer, and all are fused (Xie and Tu 2015)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm
from pixelwise.nn.encoders import Pyramid, TimmEncoder
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.side_outputs import SideOutputs


class Config(NetworkConfig):
    """Settings of the deeply supervised network; without `encoder` it has the contracting path of U-Net."""

    kind: Literal["hed"] = "hed"
    width: int = Field(32, ge=1, description="channels at full resolution; doubled with every level, up to 16 times")
    depth: int = Field(4, ge=1, le=8, description="how many times the resolution is halved; there are depth + 1 side outputs")
    norm: Norm = Field("batch", description="normalisation after each convolution")
    encoder: str | None = Field(None, description="name of a timm model that replaces the contracting path")
    pretrained: bool = Field(False, description="download the encoder's pretrained weights")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder is None and self.pretrained:
            raise ValueError("pretrained needs encoder, the name of a timm model")
        return self

    def build(self, in_channels: int, out_channels: int) -> HED:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or there are fewer side outputs than `out_channels` - 1.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return HED(self, in_channels, out_channels)

    def untrained(self) -> Self:
        """Return the same architecture without downloaded weights."""
        return self.model_copy(update={"pretrained": False})


class HED(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation: the finest side outputs, the fused one last.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = (
            Pyramid(in_channels, config.width, config.depth, config.norm)
            if config.encoder is None
            else TimmEncoder(config.encoder, in_channels, config.pretrained)
        )
        self.multiple = max(self.encoder.channels)
        self.sides = SideOutputs(self.encoder.channels, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        maps = self.encoder(mirror_to_multiple(image, self.multiple, self.encoder.least))
        scores: Tensor = self.sides(maps, height, width)
        return scores
