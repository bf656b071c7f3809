"""FCN-32s, 16s and 8s: a classifier made fully convolutional, its scores fused with those of finer maps.

Long, Shelhamer and Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.blocks import Norm, convolution
from pixelwise.nn.encoders import DilatableEncoderConfig, Encoder
from pixelwise.nn.initialisation import initialise_he
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.upsample import Upsample, transposed_bilinear, upsample


class Config(DilatableEncoderConfig):
    """Settings of the FCN; the defaults are the published FCN-8s on VGG-16."""

    kind: Literal["fcn"] = "fcn"
    stride: Literal[32, 16, 8] = Field(8, description="stride of the finest map that is scored: FCN-32s, 16s or 8s")
    width: int = Field(64, ge=1, description="channels at full resolution, at most 8 times later (without encoder)")
    hidden: int = Field(4096, ge=1, description="channels of fc6 and fc7 (without encoder)")
    norm: Norm = Field("none", description="normalisation after each convolution (without encoder)")
    dropout: float = Field(0.5, ge=0, lt=1, description="probability of dropping a value after fc6 and fc7 (without encoder)")
    upsample: Upsample = Field("transposed", description="how scores are enlarged; transposed starts as bilinear (published)")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.upsample == "unpool":
            raise ValueError("unpool needs the indices of a max pooling of the same channels, and scores were never pooled")
        return self

    def build(self, in_channels: int, out_channels: int) -> FCN:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or it does not fit.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return FCN(self, in_channels, out_channels)


class VGG(Encoder):
    """VGG-16 as convolutions: pool3, pool4 and, at stride 32, fc7 (Simonyan and Zisserman 2015; configuration D)."""

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        width, hidden, kind = config.width, config.hidden, config.norm
        self.channels = {8: 4 * width, 16: 8 * width, 32: hidden}
        self.least = 64  # a single position at stride 32 would leave a norm nothing to normalise
        self.pool3 = nn.Sequential(
            *_level(in_channels, width, 2, kind), *_level(width, 2 * width, 2, kind), *_level(2 * width, 4 * width, 3, kind)
        )
        self.pool4 = nn.Sequential(*_level(4 * width, 8 * width, 3, kind))
        self.fc7 = nn.Sequential(
            *_level(8 * width, 8 * width, 3, kind),
            *(convolution(8 * width, hidden, kind, 7), nn.Dropout(config.dropout)),
            *(convolution(hidden, hidden, kind, 1), nn.Dropout(config.dropout)),
        )
        initialise_he(self)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the maps of strides 8, 16 and 32."""
        pool3 = self.pool3(image)
        pool4 = self.pool4(pool3)
        return {8: pool3, 16: pool4, 32: self.fc7(pool4)}


def _level(before: int, after: int, convolutions: int, kind: Norm) -> list[nn.Module]:
    layers = [convolution(before if n == 0 else after, after, kind) for n in range(convolutions)]
    return [*layers, nn.MaxPool2d(2)]


class Continued(nn.Module):
    """Enlarges maps as if they went on beyond their border, where a transposed convolution would fade towards zeros."""

    def __init__(self, kind: Upsample, channels: int, factor: int) -> None:
        super().__init__()
        bilinear = kind == "transposed"
        self.enlarge = transposed_bilinear(channels, factor) if bilinear else upsample(kind, channels, factor=factor)
        self.factor = factor

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, channels, factor H, factor W) of (B, channels, H, W)."""
        larger: Tensor = self.enlarge(functional.pad(maps, (1, 1, 1, 1), mode="replicate"))
        return larger[..., self.factor : -self.factor, self.factor : -self.factor]


class FCN(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation.

    The coarsest map is scored by a 1x1 convolution, enlarged, and the scores of the next finer map are added. These start
    at zero, so that at first the coarsest map decides alone.

    The paper pads the image by 100 zeros, leaves fc6 unpadded, and crops by offsets to align the maps again. Here the
    image is continued by mirroring to the right and below, fc6 is padded by 3, and scores are continued by their border
    while they are enlarged. So a map of stride s holds at i what is at pixels s i ... s i + s - 1, and nothing has to be
    shifted. The weights have the published shapes.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = config.replacement(in_channels) or VGG(config, in_channels)
        channels = self.encoder.channels
        if config.stride not in channels:
            has = ", ".join(map(str, channels))
            raise UsageError(f"encoder {config.encoder!r} has no maps of stride {config.stride}, only of {has}")
        strides = [stride for stride in reversed(channels) if stride >= config.stride]
        self.multiple = strides[0]
        self.scores = nn.ModuleDict({str(stride): nn.Conv2d(channels[stride], out_channels, 1) for stride in strides})
        self.enlarge = nn.ModuleDict(
            {str(to): Continued(config.upsample, out_channels, stride // to) for stride, to in pairwise([*strides, 1])}
        )
        for parameter in (p for stride in strides[1:] for p in self.scores[str(stride)].parameters()):
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        features = self.encoder(mirror_to_multiple(image, self.multiple, self.encoder.least))
        scores = self.scores[str(self.multiple)](features[self.multiple])
        for stride, enlarge in self.enlarge.items():
            scores = enlarge(scores)
            if stride in self.scores:
                scores = scores + self.scores[stride](features[int(stride)])
        answer: Tensor = scores[..., :height, :width]
        return answer
