"""The plain encoder-decoder: the whole answer passes a bottleneck, a coarse map or a vector, and no skip goes round it."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.blocks import Norm, Stage
from pixelwise.nn.encoders import Pyramid
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple
from pixelwise.nn.upsample import Upsample


class Config(NetworkConfig):
    """Settings of the encoder-decoder; its levels are those of `unet` with the same settings."""

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    width: int = Field(32, ge=1, description="channels at full resolution; doubled with every level, up to 16 times")
    depth: int = Field(4, ge=1, le=8, description="how many times the resolution is halved")
    norm: Norm = Field("batch", description="normalisation after each convolution")
    upsample: Upsample = Field(
        "bilinear", description="how the decoder enlarges its maps; unpool lets positions of maxima past the bottleneck"
    )
    bottleneck: Literal["spatial", "vector"] = Field(
        "spatial", description="what the decoder starts from: the coarsest map, or numbers without a place"
    )
    grid: tuple[PositiveInt, PositiveInt] = Field(
        (4, 4), description="vector: height and width the coarsest map is averaged to; image sides / 2^depth resize nothing"
    )
    code: int = Field(256, ge=1, description="vector: how many numbers")

    def build(self, in_channels: int, out_channels: int) -> EncoderDecoder:
        """Return the network."""
        return EncoderDecoder(self, in_channels, out_channels)


class VectorBottleneck(nn.Module):
    """(B, C, H, W) -> (B, C, H, W) by way of `code` numbers that are fully connected to both."""

    def __init__(self, channels: int, grid: tuple[int, int], code: int) -> None:
        super().__init__()
        numbers = channels * grid[0] * grid[1]
        self.encode = nn.Sequential(nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Linear(numbers, code))
        self.decode = nn.Sequential(nn.Linear(code, numbers), nn.ReLU(inplace=True), nn.Unflatten(1, (channels, *grid)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps that the decoder starts from."""
        return functional.interpolate(self.decode(self.encode(maps)), maps.shape[-2:], mode="bilinear")


class EncoderDecoder(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W) scores without activation.

    Any H and W: the image is continued by mirroring to the right and below, and the output is cropped back.
    """

    stride = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.unpools = config.upsample == "unpool"
        self.encoder = Pyramid(in_channels, config.width, config.depth, config.norm)
        strides, channels = zip(*reversed(self.encoder.channels.items()), strict=True)
        self.multiple = strides[0]
        vector = config.bottleneck == "vector"
        self.bottleneck = VectorBottleneck(channels[0], config.grid, config.code) if vector else nn.Identity()
        self.stages = nn.ModuleDict(
            {
                str(stride): Stage(below, 0, out, config.norm, config.upsample)
                for stride, (below, out) in zip(strides[1:], pairwise(channels), strict=True)
            }
        )
        self.head = nn.Conv2d(channels[-1], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`."""
        height, width = image.shape[-2:]
        indices: dict[int, Tensor] = {}
        maps = self.bottleneck(self._coarsest(image, indices if self.unpools else None))
        for stride, stage in self.stages.items():
            maps = stage(maps, indices=indices.get(int(stride)))
        scores: Tensor = self.head(maps)
        return scores[..., :height, :width]

    def code(self, image: Tensor) -> Tensor:
        """Return (B, code): the numbers that a vector bottleneck makes of `image`.

        Raises:
            UsageError: The bottleneck is spatial.
        """
        if not isinstance(self.bottleneck, VectorBottleneck):
            raise UsageError("a spatial bottleneck has no code", "build the network with bottleneck=vector")
        code: Tensor = self.bottleneck.encode(self._coarsest(image))
        return code

    def _coarsest(self, image: Tensor, indices: dict[int, Tensor] | None = None) -> Tensor:
        image = mirror_to_multiple(image, self.multiple, self.encoder.least)
        coarsest: Tensor = self.encoder(image, indices)[self.multiple]
        return coarsest
