"""Residual encoder-decoder: most of the work at a quarter of the resolution, in blocks that add to what is there.

Johnson, Alahi and Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution"; the defaults
are the generator of CycleGAN (Zhu, Park, Isola and Efros 2017), which has 7x7 convolutions at both ends.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, Statistics, norm
from pixelwise.nn.initialisation import initialise
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.upsample import Projected, Upsample, upsample


class Config(NetworkConfig):
    """Settings of the residual encoder-decoder."""

    kind: Literal["residual"] = "residual"
    width: int = Field(64, ge=1, description="channels at full resolution; doubled at each of the two halvings")
    blocks: int = Field(9, ge=0, description="residual blocks at a quarter of the resolution")
    kernel: Literal[7, 9] = Field(7, description="side of the first and the last convolution: 7 (CycleGAN), 9 (Johnson et al.)")
    norm: Norm = Field("instance", description="normalisation after each convolution but the last")
    upsample: Upsample = Field(
        "transposed",
        description="how the maps are enlarged: one 3x3 transposed convolution of stride 2 (published), or any other way "
        "followed by a 3x3 convolution",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability of dropping a value inside a block; 0.5 published, as a choice"
    )
    test_statistics: Statistics = Field(
        "running", description="what batch norm uses in evaluation: the running statistics, or each picture's own"
    )
    activation: Literal["none", "tanh"] = Field(
        "none", description="on the output: none for scores, tanh for pictures in [-1, 1] (published)"
    )

    @model_validator(mode="after")
    def _has_indices(self) -> Self:
        if self.upsample == "unpool":
            raise ValueError("unpool needs the indices of a max pooling, and this network halves by strided convolutions")
        return self

    def build(self, in_channels: int, out_channels: int) -> ResidualEncoderDecoder:
        """Return the network with weights from N(0, 0.02)."""
        network = ResidualEncoderDecoder(self, in_channels, out_channels)
        for layer in network.layers:
            if not isinstance(layer, Projected):  # pixel shuffle comes with a start of its own
                initialise(layer)
        return network


class Block(nn.Module):
    """(B, channels, H, W) -> the same: two 3x3 convolutions, added to their input; no activation after the sum."""

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        kind = config.norm
        between = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(config.dropout)) if config.dropout else nn.ReLU(inplace=True)
        self.branch = nn.Sequential(
            *(_convolution(channels, channels, kind, 3), _norm(config, channels), between),
            *(_convolution(channels, channels, kind, 3), _norm(config, channels)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the changed maps."""
        changed: Tensor = maps + self.branch(maps)
        return changed


class ResidualEncoderDecoder(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W), stride 1.

    A 7x7 convolution, two 3x3 of stride 2, the blocks, two enlargements, a 7x7 convolution. The outer convolutions and the
    blocks continue their maps by reflection, so that no frame of zeros is painted into the picture.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1
    multiple = 4

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        kind, width = config.norm, config.width
        layers: list[nn.Module] = [_convolution(in_channels, width, kind, config.kernel), *_norm_and_relu(config, width)]
        for before in (width, 2 * width):
            halve = nn.Conv2d(before, 2 * before, 3, 2, 1, bias=_biased(kind))
            layers += [halve, *_norm_and_relu(config, 2 * before)]
        layers += [Block(4 * width, config) for _ in range(config.blocks)]
        for after in (2 * width, width):
            layers += [*_enlarge(config, 2 * after, after), *_norm_and_relu(config, after)]
        layers.append(nn.Conv2d(width, out_channels, config.kernel, padding=config.kernel // 2, padding_mode="reflect"))
        self.layers = nn.Sequential(*layers, nn.Tanh() if config.activation == "tanh" else nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`, or its translation."""
        height, width = image.shape[-2:]
        # at a quarter of 8 pixels a reflection still has a second row to show
        answer: Tensor = self.layers(mirror_to_multiple(image, self.multiple, least=8))
        return answer[..., :height, :width]


def _enlarge(config: Config, before: int, after: int) -> list[nn.Module]:
    biased = _biased(config.norm)
    if config.upsample == "transposed":
        return [nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=biased)]
    return [upsample(config.upsample, before), nn.Conv2d(before, after, 3, padding=1, bias=biased)]


def _convolution(before: int, after: int, kind: Norm, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, padding_mode="reflect", bias=_biased(kind))


def _norm_and_relu(config: Config, channels: int) -> list[nn.Module]:
    return [_norm(config, channels), nn.ReLU(inplace=True)]


def _norm(config: Config, channels: int) -> nn.Module:
    return norm(config.norm, channels, config.test_statistics)


def _biased(kind: Norm) -> bool:
    """Tell whether convolutions before a norm have a bias: the published ones do, but for batch norm."""
    return kind != "batch"
