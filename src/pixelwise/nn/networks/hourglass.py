"""Stacked hourglasses: down to the coarsest map and up again, several times, each time with an answer of its own.

Newell, Yang and Deng 2016, "Stacked Hourglass Networks for Human Pose Estimation".
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, convolution, norm
from pixelwise.nn.initialisation import begin_near_zero
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.stages import answer, at_stride
from pixelwise.nn.upsample import Upsample, upsample


class Config(NetworkConfig):
    """Settings of the stacked hourglass; width, depth, norm and upsampling are published, with `stacks=8`."""

    kind: Literal["hourglass"] = "hourglass"
    width: int = Field(256, ge=4, multiple_of=4, description="channels of the hourglasses, a multiple of 4")
    stacks: int = Field(2, ge=1, description="hourglasses one after the other")
    depth: int = Field(4, ge=1, le=8, description="how many times an hourglass halves the resolution")
    norm: Norm = Field("batch", description="normalisation before each convolution of a residual module")
    upsample: Upsample = Field("nearest", description="how an hourglass enlarges its maps")
    output_stride: Literal[1, 2, 4] = Field(
        4, description="input pixels per pixel of the hourglasses and their output: 4 (published), 2 or 1"
    )

    def build(self, in_channels: int, out_channels: int) -> StackedHourglass:
        """Return the network."""
        return StackedHourglass(self, in_channels, out_channels)


class Residual(nn.Module):
    """1x1 to half the channels, 3x3, 1x1, norm and ReLU before each: what is added to the input (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, kind: Norm) -> None:
        super().__init__()
        half, biased = out_channels // 2, kind == "none"
        self.branch = nn.Sequential(
            *(norm(kind, in_channels), nn.ReLU(), nn.Conv2d(in_channels, half, 1, bias=biased)),
            *(norm(kind, half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1, bias=biased)),
            *(norm(kind, half), nn.ReLU(), nn.Conv2d(half, out_channels, 1)),
        )
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of (B, in_channels, H, W)."""
        changed: Tensor = self.skip(maps) + self.branch(maps)
        return changed


class Hourglass(nn.Module):
    """(B, width, H, W) -> the same: the map itself, and what comes back from half its resolution, added."""

    def __init__(self, config: Config, depth: int) -> None:
        super().__init__()
        width, kind = config.width, config.norm
        self.keep = Residual(width, width, kind)
        self.halve = nn.MaxPool2d(2, return_indices=True)
        self.before = Residual(width, width, kind)
        self.within = Hourglass(config, depth - 1) if depth > 1 else Residual(width, width, kind)
        self.after = Residual(width, width, kind)
        self.enlarge = upsample(config.upsample, width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps, changed by what was seen at every coarser resolution."""
        small, indices = self.halve(maps)
        small = self.after(self.within(self.before(small)))
        changed: Tensor = self.keep(maps) + self.enlarge(small, indices)
        return changed


class Stage(nn.Module):
    """One hourglass with its answer; all but the last also give the next one its input."""

    def __init__(self, config: Config, out_channels: int, last: bool) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(Hourglass(config, config.depth), convolution(width, width, config.norm, 1))
        self.scores = begin_near_zero(nn.Conv2d(width, out_channels, 1))
        self.features_on = None if last else nn.Conv2d(width, width, 1)
        self.scores_on = None if last else nn.Conv2d(out_channels, width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the next stage and this stage's scores."""
        features = self.features(maps)
        scores = self.scores(features)
        if self.features_on is not None and self.scores_on is not None:
            maps = maps + self.features_on(features) + self.scores_on(scores)
        return maps, scores


class StackedHourglass(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, ceil(H/stride), ceil(W/stride)) scores without activation.

    Layer for layer the authors' network, without the biases that a norm after them removes. The published stem
    halves twice, by the stride of its 7x7 convolution and by pooling; `output_stride` 2 drops the pooling and 1 the
    stride as well, so everything after costs 4 and 16 times as much.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = config.output_stride
        self.multiple = self.stride * 2**config.depth
        width, kind = config.width, config.norm
        first = nn.Conv2d(in_channels, width // 4, 7, min(self.stride, 2), 3, bias=kind == "none")
        self.stem = nn.Sequential(
            *(first, norm(kind, width // 4), nn.ReLU(inplace=True)),
            Residual(width // 4, width // 2, kind),
            nn.MaxPool2d(2) if self.stride == 4 else nn.Identity(),
            Residual(width // 2, width // 2, kind),
            Residual(width // 2, width, kind),
        )
        self.stages = config.stacks
        self.hourglasses = nn.ModuleList(Stage(config, out_channels, last=n == self.stages) for n in range(1, self.stages + 1))

    def forward(self, image: Tensor, every: bool = False) -> Tensor:
        """Return the scores of the last hourglass, or with `every` those of each, (B, S, C, h, w), first to last."""
        # a single position at the bottom would leave a norm nothing to normalise
        maps = self.stem(mirror_to_multiple(image, self.multiple, 2 * self.multiple))
        scores = []
        for hourglass in self.hourglasses:
            maps, found = hourglass(maps)
            scores.append(found)
        return answer(scores, at_stride(image, self.stride), every)
