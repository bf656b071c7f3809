"""FSRCNN: shrink, map, expand at the low resolution, and one transposed convolution to the high (Dong, Loy and Tang 2016)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.enlarging import EnlargingConfig, scale_of

KERNEL = 9
"""Side of the transposed convolution."""


class Config(EnlargingConfig):
    """Settings of FSRCNN; the defaults are the published FSRCNN (56, 12, 4), `32, 5, 1` is its FSRCNN-s."""

    kind: Literal["fsrcnn"] = "fsrcnn"
    features: int = Field(default=56, ge=1, description="channels of the features (d)")
    shrunk: int = Field(default=12, ge=1, description="channels in which they are mapped (s)")
    mappings: int = Field(default=4, ge=0, description="3x3 convolutions that map them (m)")

    def build(self, in_channels: int, out_channels: int) -> FSRCNN:
        """Return the network; its scale follows from the channels.

        Raises:
            UsageError: The scale is so large that the 9x9 kernels would leave gaps.
        """
        return FSRCNN(self, in_channels, out_channels)


class FSRCNN(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W), the sheets of a picture s times as large; PReLU after every convolution but the last.

    The kernel of the transposed convolution lies over the pixel that it enlarges as evenly as 9 over s pixels can.
    """

    stride = 1
    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale = scale_of(in_channels, out_channels)
        if self.scale > KERNEL:
            raise UsageError(f"fsrcnn enlarges at most {KERNEL} times, not {self.scale}", "try network.kind=espcn")
        wide, narrow = config.features, config.shrunk
        sides = [(in_channels, wide, 5), (wide, narrow, 1), *[(narrow, narrow, 3)] * config.mappings, (narrow, wide, 1)]
        layers: list[nn.Module] = []
        for before, after, side in sides:
            layers += [nn.Conv2d(before, after, side, padding=side // 2), nn.PReLU(after)]
        self.layers = nn.Sequential(*layers)
        odd = (KERNEL - self.scale) % 2
        self.enlarge = nn.ConvTranspose2d(
            wide, in_channels, KERNEL, self.scale, (KERNEL - self.scale + odd) // 2, output_padding=odd
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets."""
        return functional.pixel_unshuffle(self.enlarge(self.layers(image)), self.scale)
