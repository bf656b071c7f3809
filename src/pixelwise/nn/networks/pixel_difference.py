"""A boundary detector of less than 100,000 parameters: PiDiNet in its lightest form (Su et al. 2021)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.blocks import Norm, norm
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.pixel_difference import Difference, PixelDifference
from pixelwise.nn.side_outputs import SideOutputs

ORDER: tuple[Difference, ...] = ("central", "angular", "radial", "plain")
PLAIN: tuple[Difference, ...] = ("plain", "plain", "plain", "plain")


class Config(NetworkConfig):
    """Settings; `width=20` is the published Tiny-L, without attention and without dilated branches."""

    kind: Literal["pixel_difference"] = "pixel_difference"
    width: int = Field(20, ge=1, description="channels at full resolution; twice and four times as many below")
    differences: bool = Field(True, description="central, angular, radial and plain in turn; false: plain convolutions only")
    norm: Norm = Field("none", description="normalisation after each block's depthwise convolution; none is published")

    def build(self, in_channels: int, out_channels: int) -> PixelDifferenceNetwork:
        """Return the network.

        Raises:
            UsageError: `out_channels` is more than its four side outputs and the fused one.
        """
        return PixelDifferenceNetwork(self, in_channels, out_channels)


class Block(nn.Module):
    """A depthwise convolution of differences, ReLU, a 1x1 convolution, added to the input, which may be halved before."""

    def __init__(self, kind: Difference, in_channels: int, out_channels: int, halves: bool, normalisation: Norm) -> None:
        super().__init__()
        self.halve = nn.MaxPool2d(2) if halves else nn.Identity()
        self.depthwise = PixelDifference(kind, in_channels, in_channels, groups=in_channels)
        self.norm = norm(normalisation, in_channels)
        self.activation = nn.ReLU(inplace=True)
        self.mix = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if halves else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, out_channels, H, W), or half of H and W."""
        maps = self.halve(maps)
        changed: Tensor = self.skip(maps) + self.mix(self.activation(self.norm(self.depthwise(maps))))
        return changed


class PixelDifferenceNetwork(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation: the finest side outputs, the fused one last.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        kinds: tuple[Difference, ...] = ORDER if config.differences else PLAIN
        widths = {1: config.width, 2: 2 * config.width, 4: 4 * config.width, 8: 4 * config.width}
        self.multiple = max(widths)
        self.first = PixelDifference(kinds[0], in_channels, config.width)
        self.stages = nn.ModuleDict()
        before = config.width
        for stride, width in widths.items():
            # the first layer of all stands for the first block of stride 1, so that every stage goes through all kinds
            blocks = [] if stride == 1 else [Block(kinds[0], before, width, True, config.norm)]
            blocks += [Block(kind, width, width, False, config.norm) for kind in kinds[1:]]
            self.stages[str(stride)] = nn.Sequential(*blocks)
            before = width
        self.sides = SideOutputs(widths, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        maps = self.first(mirror_to_multiple(image, self.multiple, 16))
        found: dict[int, Tensor] = {}
        for stride, stage in self.stages.items():
            maps = stage(maps)
            found[int(stride)] = maps
        scores: Tensor = self.sides(found, height, width)
        return scores
