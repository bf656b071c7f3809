"""SegNet: the decoder puts every value back where the encoder's pooling found it (Badrinarayanan, Kendall, Cipolla 2017).

As published but for the biases of normalised convolutions, which the normalisation removes anyway.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pixelwise.nn.blocks import convolution
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.upsample import Upsample, upsample

# channels, in widths, and number of convolutions in each level of VGG-16 (Simonyan and Zisserman 2015)
LEVELS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))


class Config(NetworkConfig):
    """Settings of SegNet; the defaults are the published network."""

    kind: Literal["segnet"] = "segnet"
    width: int = Field(64, ge=1, description="channels at full resolution; at most 8 times later")
    depth: int = Field(5, ge=1, le=5, description="how many levels of VGG-16, each ending in 2x2 max pooling")
    upsample: Upsample = Field("unpool", description="how the decoder enlarges its maps")

    def build(self, in_channels: int, out_channels: int) -> SegNet:
        """Return the network."""
        return SegNet(self, in_channels, out_channels)


class SegNet(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.multiple = 2**config.depth
        self.unpools = config.upsample == "unpool"
        self.halve = nn.MaxPool2d(2, return_indices=self.unpools)
        self.encoder, self.enlarge, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for times, count in LEVELS[: config.depth]:
            widths = [before, *[config.width * times] * count]
            before = widths[-1]
            self.encoder.append(_level(widths))
            self.enlarge.insert(0, upsample(config.upsample, before))
            self.decoder.insert(0, _level(widths[::-1] if self.decoder else widths[:0:-1]))
        self.head = nn.Conv2d(config.width, out_channels, 3, padding=1)  # mirrors the very first convolution

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        maps = mirror_to_multiple(image, self.multiple)
        found: list[Tensor | None] = []
        for level in self.encoder:
            halved = self.halve(level(maps))
            maps, indices = halved if self.unpools else (halved, None)
            found.append(indices)
        for enlarge, level in zip(self.enlarge, self.decoder, strict=True):
            maps = level(enlarge(maps, found.pop()))
        scores: Tensor = self.head(maps)
        return scores[..., :height, :width]


def _level(widths: list[int]) -> nn.Sequential:
    return nn.Sequential(*(convolution(before, after, "batch") for before, after in pairwise(widths)))
