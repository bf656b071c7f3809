"""Simple baseline: an encoder down to its coarsest map, a few enlargements, a 1x1 convolution; nothing else.

Xiao, Wu and Wei 2018, "Simple Baselines for Human Pose Estimation and Tracking".
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.nn.blocks import Norm, convolution, norm
from pixelwise.nn.encoders import Encoder, ResidualPyramid, TimmEncoder
from pixelwise.nn.initialisation import begin_near_zero
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.stages import at_stride
from pixelwise.nn.upsample import upsample


class Config(NetworkConfig):
    """Settings of the simple baseline; the decoder is published, with `encoder=resnet50`."""

    kind: Literal["simple_baseline"] = "simple_baseline"
    width: int = Field(256, ge=1, description="channels of the enlarged maps")
    encoder: str | None = Field(None, description="name of a timm model; without one, residual blocks of our own")
    pretrained: bool = Field(False, description="download the encoder's pretrained weights")
    encoder_width: int = Field(16, ge=1, description="our encoder's channels at full resolution; doubled with every level")
    depth: int = Field(5, ge=1, le=8, description="how many times our encoder halves the resolution")
    norm: Norm = Field("batch", description="normalisation after each convolution of ours")
    upsample: Literal["deconvolution", "nearest", "bilinear", "transposed", "pixel_shuffle"] = Field(
        "deconvolution",
        description="how maps are enlarged: deconvolution (4x4, stride 2, published), or as elsewhere and a 3x3 convolution",
    )
    output_stride: Literal[1, 2, 4, 8, 16] = Field(4, description="input pixels per output pixel: 4 (published), 1, 2, 8 or 16")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder is None and self.pretrained:
            raise ValueError("pretrained needs encoder, the name of a timm model")
        if self.encoder is None and self.output_stride > 2**self.depth:
            raise ValueError(f"output_stride {self.output_stride} needs depth {self.output_stride.bit_length() - 1}")
        return self

    def build(self, in_channels: int, out_channels: int) -> SimpleBaseline:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or it does not fit.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return SimpleBaseline(self, in_channels, out_channels)

    def untrained(self) -> Self:
        """Return the same architecture without downloaded weights."""
        return self.model_copy(update={"pretrained": False})


class SimpleBaseline(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, ceil(H/stride), ceil(W/stride)) scores without activation.

    The decoder moves nothing: a kernel of 4 with stride 2 reaches equally far to both sides of a pixel's area. Encoders of
    timm may: a strided 3x3 or 7x7 convolution looks half a pixel to the left, and the weights have to make up for it.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = config.output_stride
        self.encoder: Encoder = (
            ResidualPyramid(in_channels, config.encoder_width, config.depth, config.norm)
            if config.encoder is None
            else TimmEncoder(config.encoder, in_channels, config.pretrained)
        )
        self.multiple = max(self.encoder.channels)
        if self.multiple < self.stride:
            raise UsageError(f"encoder {config.encoder!r} ends at stride {self.multiple}, before output_stride")
        halvings = (self.multiple // self.stride).bit_length() - 1
        befores = [self.encoder.channels[self.multiple], *[config.width] * halvings]
        self.decoder = nn.Sequential(*(_doubled(config, before) for before in befores[:halvings]))
        self.scores = begin_near_zero(nn.Conv2d(befores[-1], out_channels, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = at_stride(image, self.stride)
        maps = self.encoder(mirror_to_multiple(image, self.multiple, self.encoder.least))[self.multiple]
        scores: Tensor = self.scores(self.decoder(maps))
        return scores[..., :height, :width]


def _doubled(config: Config, before: int) -> nn.Module:
    """Return a module (B, before, H, W) -> (B, width, 2H, 2W)."""
    width, kind = config.width, config.norm
    if config.upsample == "deconvolution":
        layer = nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=kind == "none")
        return nn.Sequential(layer, norm(kind, width), nn.ReLU(inplace=True))
    return nn.Sequential(upsample(config.upsample, before, width), convolution(width, width, kind))
