"""From a picture to scores: convolutions, average pooling, fully connected layers (LeCun et al. 1998; Lin et al. 2014)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, norm
from pixelwise.nn.encoders import EncoderConfig, TimmEncoder
from pixelwise.nn.padding import mirror_to_multiple


class Config(EncoderConfig):
    """Settings of the classifier."""

    kind: Literal["classifier"] = "classifier"
    channels: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 128), min_length=1, description="channels of the convolutions (without encoder), each followed by pooling"
    )
    kernel: Literal[3, 5, 7] = Field(3, description="side of the convolutions: 3, 5 or 7")
    norm: Norm = Field("batch", description="normalisation between convolution and ReLU")
    padding: Literal["zero", "none"] = Field(
        "zero", description="around the maps; with none, and without encoder, an exactly equivalent dense network exists"
    )
    grid: tuple[PositiveInt, PositiveInt] = Field(
        (1, 1), description="height and width that the last map is averaged to before the fully connected layers"
    )
    hidden: int = Field(0, ge=0, description="units of a hidden fully connected layer; 0: none")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a value before the scores")

    def build(self, in_channels: int, out_channels: int) -> Classifier:
        """Return the network.

        Raises:
            UsageError: timm has no such encoder, or it does not fit.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return Classifier(self, in_channels, out_channels)


class Classifier(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, 1, 1) scores without activation; `stride` is 0, as they lie on no grid.

    Any H and W; a picture too small for the convolutions is continued by mirroring to the right and below.

    Attributes:
        reduction: Pixels per position of the last map.
        least: Smallest side that is not continued.
    """

    stride = 0

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if (encoder := config.replacement(in_channels)) is None:
            self.features: nn.Module = _convolutions(config, in_channels)
            self.reduction, self.multiple, self.least = 2 ** len(config.channels), 1, _least(config)
            channels = config.channels[-1]
        else:
            self.features = Deepest(encoder)
            self.reduction = self.multiple = max(encoder.channels)
            self.least, channels = encoder.least, encoder.channels[self.multiple]
        self.pool = nn.AdaptiveAvgPool2d(config.grid)
        self.flatten = nn.Flatten()
        self.head = _head(config, channels * config.grid[0] * config.grid[1], out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        maps = self.features(mirror_to_multiple(image, self.multiple, self.least))
        scores: Tensor = self.head(self.flatten(self.pool(maps)))
        return scores[:, :, None, None]


class Deepest(nn.Module):
    """The maps of an encoder's largest stride."""

    def __init__(self, encoder: TimmEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, channels, H/stride, W/stride)."""
        maps: dict[int, Tensor] = self.encoder(image)
        return maps[max(maps)]


def _convolutions(config: Config, in_channels: int) -> nn.Sequential:
    """Return levels of convolution, norm, ReLU and 2x2 max pooling."""
    padding = config.kernel // 2 if config.padding == "zero" else 0
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *config.channels)):
        convolution = nn.Conv2d(before, after, config.kernel, padding=padding, bias=config.norm == "none")
        layers += [convolution, norm(config.norm, after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def _least(config: Config) -> int:
    """Return the smallest side of which one pixel is left at the end."""
    lost = config.kernel - 1 if config.padding == "none" else 0
    side = 1
    for _ in config.channels:
        side = 2 * side + lost
    return side


def _head(config: Config, features: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    if config.hidden:
        layers += [nn.Linear(features, config.hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(config.hidden or features, out_channels))
