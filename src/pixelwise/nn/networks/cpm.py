"""Convolutional pose machine: every stage reads the picture and all beliefs of the stage before, over an ever wider field.

Wei, Ramakrishna, Kanade and Sheikh 2016, "Convolutional Pose Machines". Where an elbow is hard to see, the beliefs about
shoulder and wrist say where it must be; large convolutions on the coarse beliefs are what looks from one to the other.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, convolution
from pixelwise.nn.initialisation import initialise_he
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.stages import answer, at_stride


class Config(NetworkConfig):
    """Settings of the pose machine; the defaults are published, for pictures of 368 x 368."""

    kind: Literal["cpm"] = "cpm"
    width: int = Field(128, ge=4, multiple_of=4, description="channels of most convolutions, a multiple of 4")
    stages: int = Field(6, ge=1, description="how many times the beliefs are formed, each time from those before")
    kernel: int = Field(9, ge=1, description="side of the convolutions on the picture, odd")
    stage_kernel: int = Field(11, ge=1, description="side of the three convolutions on beliefs and features, odd")
    norm: Norm = Field("none", description="normalisation after each convolution; batch trains much sooner from scratch")
    output_stride: Literal[1, 2, 4, 8] = Field(8, description="input pixels per pixel of the beliefs: 8 (published), 4, 2 or 1")

    @field_validator("kernel", "stage_kernel")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError("the side of a convolution that looks equally far to both sides is odd")
        return side

    def build(self, in_channels: int, out_channels: int) -> PoseMachine:
        """Return the network; what a ReLU follows is initialised so that a signal keeps its size (He et al. 2015)."""
        network = PoseMachine(self, in_channels, out_channels)
        for part in network.modules():
            if isinstance(part, Features | First | Next):
                initialise_he(nn.ModuleList(layer for layer in part if isinstance(layer, nn.Sequential)))
        return network


class Features(nn.Sequential):
    """(B, in_channels, H, W) -> (B, width / 4, H / stride, W / stride): three large convolutions, and one of about half."""

    def __init__(self, config: Config, in_channels: int) -> None:
        width, kind = config.width, config.norm
        parts: list[nn.Module] = []
        for place, before in enumerate((in_channels, width, width), 1):
            parts.append(convolution(before, width, kind, config.kernel))
            if 2**place <= config.output_stride:
                parts.append(nn.MaxPool2d(2))
        super().__init__(*parts, convolution(width, width // 4, kind, config.kernel // 4 * 2 + 1))


class First(nn.Sequential):
    """(B, width / 4, h, w) features -> (B, out_channels, h, w): what the picture alone says of each place."""

    def __init__(self, config: Config, out_channels: int) -> None:
        width, hidden, kind = config.width, 4 * config.width, config.norm
        super().__init__(
            convolution(width // 4, hidden, kind, config.kernel),
            convolution(hidden, hidden, kind, 1),
            nn.Conv2d(hidden, out_channels, 1),
        )


class Next(nn.Sequential):
    """(B, width / 4 + out_channels, h, w) features and beliefs -> (B, out_channels, h, w): the beliefs, revised."""

    def __init__(self, config: Config, out_channels: int) -> None:
        width, kind = config.width, config.norm
        befores = (width // 4 + out_channels, width, width)
        super().__init__(
            *(convolution(before, width, kind, config.stage_kernel) for before in befores),
            convolution(width, width, kind, 1),
            nn.Conv2d(width, out_channels, 1),
        )


class PoseMachine(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, ceil(H/stride), ceil(W/stride)) scores without activation.

    Layer for layer the authors' network, but for three things. They pool over 3x3, one-sidedly, so that their maps lie 3.5
    pixels beside the picture and see 167 and 407 pixels after the first and second stage; here it is 2x2, which shifts nothing
    and gives the fields that the paper states (160 and 400). Their dropout is left out. And there is no map of where the
    person is: the person in question is the one that the picture was cropped around.

    The first stage has features of its own; all others share one set of features. With `output_stride` 4, 2 or 1 the last
    poolings are left out, for small pictures.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = self.multiple = config.output_stride
        self.stages = config.stages
        self.first = nn.Sequential(Features(config, in_channels), First(config, out_channels))
        self.features = Features(config, in_channels) if self.stages > 1 else nn.Identity()
        self.following = nn.ModuleList(Next(config, out_channels) for _ in range(self.stages - 1))

    def forward(self, image: Tensor, every: bool = False) -> Tensor:
        """Return the scores of the last stage, or with `every` those of each, (B, S, C, h, w), first to last."""
        # a single position would leave a norm nothing to normalise
        size, image = at_stride(image, self.stride), mirror_to_multiple(image, self.multiple, 2 * self.multiple)
        scores = [self.first(image)]
        features = self.features(image)
        for stage in self.following:
            scores.append(stage(torch.cat([features, scores[-1]], 1)))
        return answer(scores, size, every)
