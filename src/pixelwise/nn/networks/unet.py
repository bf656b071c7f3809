"""U-Net: a decoder that sees every resolution of its encoder (Ronneberger, Fischer and Brox 2015)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.nn.blocks import Norm, Skips, Stage
from pixelwise.nn.encoders import DilatableEncoderConfig, Pyramid, level_width
from pixelwise.nn.initialisation import begin_near_zero
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.upsample import Upsample


class Config(DilatableEncoderConfig):
    """Settings of the U-Net."""

    kind: Literal["unet"] = "unet"
    width: int = Field(32, ge=1, description="channels at full resolution; doubled with every level, up to 16 times")
    depth: int = Field(4, ge=1, le=8, description="how many times the resolution is halved (without encoder)")
    norm: Norm = Field("batch", description="normalisation after each convolution")
    upsample: Upsample = Field("bilinear", description="how the decoder enlarges its maps")
    skips: Skips = Field("concatenate", description="how each level of the decoder sees the encoder's map of its size")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value at the coarsest level")
    output_stride: Literal[1, 2, 4, 8] = Field(1, description="input pixels per output pixel: 1, 2, 4 or 8")
    near_zero: bool = Field(False, description="let the first answers be nearly 0, as most of a sheet of beliefs is")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder is None and self.output_stride > 2**self.depth:
            raise ValueError(f"output_stride {self.output_stride} needs depth {self.output_stride.bit_length() - 1}")
        if self.upsample == "unpool" and self.encoder is not None:
            raise ValueError("unpool needs the indices of max poolings, and timm's encoders halve most maps without them")
        return self

    def build(self, in_channels: int, out_channels: int) -> UNet:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or it does not fit.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return UNet(self, in_channels, out_channels)


class UNet(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, ceil(H/stride), ceil(W/stride)) scores without activation.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = config.output_stride
        self.skips, self.unpools = config.skips != "none", config.upsample == "unpool"
        own = config.replacement(in_channels)
        self.encoder = own or Pyramid(in_channels, config.width, config.depth, config.norm)
        channels = self.encoder.channels
        self.multiple = max(channels)
        if self.multiple < self.stride:
            raise UsageError(f"encoder {config.encoder!r} ends at stride {self.multiple}, before output_stride")
        self.dropout = nn.Dropout(config.dropout)
        self.stages = nn.ModuleDict()
        stride, below = self.multiple, channels[self.multiple]
        while stride > self.stride:
            stride //= 2
            skip = channels.get(stride, 0) if self.skips else 0
            out = level_width(config.width, stride)
            self.stages[str(stride)] = Stage(below, skip, out, config.norm, config.upsample, config.skips)
            below = out
        self.head = nn.Conv2d(below, out_channels, 1)
        if config.near_zero:
            begin_near_zero(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = ((side + self.stride - 1) // self.stride for side in image.shape[-2:])
        image = mirror_to_multiple(image, self.multiple, self.encoder.least)
        indices: dict[int, Tensor] = {}
        features = self.encoder(image, indices) if self.unpools else self.encoder(image)
        maps = self.dropout(features[self.multiple])
        if not self.skips:
            features = {}  # frees the maps that nobody looks at any more
        for stride, stage in self.stages.items():
            maps = stage(maps, features.get(int(stride)), indices.get(int(stride)))
        scores: Tensor = self.head(maps)
        return scores[..., :height, :width]
