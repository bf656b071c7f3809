"""A compact OpenPose: shared features, beliefs about parts and fields of limbs beside each other, refined stage by stage.

Cao, Simon, Wei and Sheikh 2017, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields"; the cheaper stages:
Osokin 2018, "Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.nn.blocks import Norm, convolution
from pixelwise.nn.encoders import Encoder, ResidualPyramid, TimmEncoder
from pixelwise.nn.initialisation import begin_near_zero
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.stages import answer, at_stride


class Config(NetworkConfig):
    """Settings of the compact OpenPose.

    With `refinement=convolutions`, `width=128`, `refinements=5` and `norm=none` the stages are those of the 2017 paper, with
    `residual`, `width=128` and `refinements=1` those of Lightweight OpenPose, with a norm after every convolution.
    """

    kind: Literal["openpose"] = "openpose"
    width: int = Field(64, ge=1, description="channels of the stages, and of the features they share")
    refinements: int = Field(1, ge=0, description="stages after the first, each of which sees the answer before it")
    refinement: Literal["residual", "convolutions"] = Field(
        "residual", description="what a later stage is: five residual blocks for all heads, or five 7x7 convolutions for each"
    )
    norm: Norm = Field("batch", description="normalisation after each convolution of ours")
    encoder: str | None = Field(None, description="name of a timm model, dilated to output_stride 8; without one, our own")
    pretrained: bool = Field(False, description="download the encoder's pretrained weights")
    encoder_width: int = Field(16, ge=1, description="our encoder's channels at full resolution; doubled with every level")
    output_stride: Literal[2, 4, 8] = Field(8, description="input pixels per output pixel: 8 (published), 4 or 2")
    heads: tuple[PositiveInt, ...] = Field(
        (), description="sheets of each head, beliefs and fields; the task says which; empty: one head for all"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.encoder is None and self.pretrained:
            raise ValueError("pretrained needs encoder, the name of a timm model")
        if self.encoder is not None and self.output_stride != 8:
            raise ValueError(f"encoders of timm are dilated to output_stride 8, not {self.output_stride}")
        return self

    def build(self, in_channels: int, out_channels: int) -> OpenPose:
        """Return the network.

        Raises:
            UsageError: The heads do not add up to `out_channels`; timm has no such encoder, or it cannot be dilated.
            ModelError: Pretrained weights are wanted and cannot be had.
        """
        return OpenPose(self, in_channels, out_channels)

    def untrained(self) -> Self:
        """Return the same architecture without downloaded weights."""
        return self.model_copy(update={"pretrained": False})

    def with_heads(self, channels: Sequence[int]) -> Self:
        """Return the same architecture with a head for each group of sheets."""
        return self.model_copy(update={"heads": (*channels,)})


class Block(nn.Module):
    """(B, before, H, W) -> (B, width, H, W): a 1x1 convolution, and what two 3x3, the second dilated, add to its result."""

    def __init__(self, before: int, width: int, kind: Norm) -> None:
        super().__init__()
        self.before = convolution(before, width, kind, 1)
        self.branch = nn.Sequential(convolution(width, width, kind), convolution(width, width, kind, dilation=2))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the changed maps."""
        maps = self.before(maps)
        changed: Tensor = maps + self.branch(maps)
        return changed


class Stage(nn.Module):
    """(B, before, H, W) -> (B, sum of heads, H, W): what the heads share, then each head by itself."""

    def __init__(self, config: Config, layers: Callable[[], nn.Module], hidden: int, heads: Sequence[int]) -> None:
        """Build the stage.

        Args:
            config: Whether the heads share the layers, and their width.
            layers: Makes what is (B, before, H, W) -> (B, width, H, W).
            hidden: Channels between the two 1x1 convolutions of each head.
            heads: Sheets of each head.
        """
        super().__init__()
        together = config.refinement == "residual"
        self.shared = layers() if together else nn.Identity()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Identity() if together else layers(),
                convolution(config.width, hidden, config.norm, 1),
                begin_near_zero(nn.Conv2d(hidden, sheets, 1)),
            )
            for sheets in heads
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the scores of all heads, one after the other."""
        shared = self.shared(maps)
        return torch.cat([head(shared) for head in self.heads], 1)


class OpenPose(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, ceil(H/stride), ceil(W/stride)) scores without activation.

    The first stage is three 3x3 convolutions and 1x1 convolutions to 4 width channels and to the scores; a later one sees the
    features and the scores of the stage before.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        heads = config.heads or (out_channels,)
        if sum(heads) != out_channels:
            raise UsageError(f"network.heads = {list(heads)} are {sum(heads)} sheets, and the task wants {out_channels}")
        self.stride, self.stages = config.output_stride, config.refinements + 1
        self.encoder = _encoder(config, in_channels)
        self.multiple = max(self.encoder.channels)
        self.features = convolution(self.encoder.channels[self.stride], config.width, config.norm)
        width, later = config.width, partial(_later, config, config.width + out_channels)
        self.first = Stage(config, partial(_first, config), 4 * width, heads)
        self.following = nn.ModuleList(Stage(config, later, width, heads) for _ in range(config.refinements))

    def forward(self, image: Tensor, every: bool = False) -> Tensor:
        """Return the scores of the last stage, or with `every` those of each, (B, S, C, h, w), first to last."""
        size = at_stride(image, self.stride)
        maps = self.encoder(mirror_to_multiple(image, self.multiple, self.encoder.least))
        features = self.features(maps[self.stride])
        scores = [self.first(features)]
        for stage in self.following:
            scores.append(stage(torch.cat([features, scores[-1]], 1)))
        return answer(scores, size, every)


def _encoder(config: Config, in_channels: int) -> Encoder:
    if config.encoder is not None:
        return TimmEncoder(config.encoder, in_channels, config.pretrained, config.output_stride)
    return ResidualPyramid(in_channels, config.encoder_width, config.output_stride.bit_length() - 1, config.norm)


def _first(config: Config) -> nn.Module:
    return nn.Sequential(*(convolution(config.width, config.width, config.norm) for _ in range(3)))


def _later(config: Config, before: int) -> nn.Module:
    width, kind = config.width, config.norm
    befores = (before, *[width] * 4)
    if config.refinement == "residual":
        return nn.Sequential(*(Block(channels, width, kind) for channels in befores))
    return nn.Sequential(*(convolution(channels, width, kind, 7) for channels in befores))
