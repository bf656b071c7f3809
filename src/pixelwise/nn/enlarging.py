"""What networks that enlarge share: s x s values for every input pixel as so many sheets, so that their stride is 1.

`pixel_shuffle` lays the sheets out as the picture (Shi et al. 2016). Tiles, memory and receptive fields need not know of it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.geometry.resample import keys
from pixelwise.metrics.image import luma
from pixelwise.nn.network import NetworkConfig

REACH = 2
"""Pixels that bicubic enlargement looks beyond a pixel."""
STUDIO = 219 / 255
"""Luma of white above that of black."""


class EnlargingConfig(NetworkConfig):
    """Settings of a network that enlarges as many times as the square root of its outputs per channel says."""

    usual_channels: ClassVar[int] = 1

    def usual_outputs(self, in_channels: int) -> int:
        """Return the sheets of twice the size."""
        return 4 * in_channels


def scale_of(in_channels: int, out_channels: int) -> int:
    """Return the scale of a network that puts out so many sheets.

    Raises:
        UsageError: The sheets are no square number for each channel of the input.
    """
    scale = math.isqrt(out_channels // in_channels)
    if scale < 1 or scale**2 * in_channels != out_channels:
        what = f"a network that enlarges has s x s sheets for each of {in_channels} channels, not {out_channels} in all"
        raise UsageError(what, "use it for task.kind=super_resolution")
    return scale


class BicubicSheets(nn.Module):
    """(B, C, H, W) -> (B, C s^2, H, W): the sheets of `geometry.resample.bicubic`, in float32 also under autocast.

    Each of the s x s pixels in the place of one is a fixed mean of its 5 x 5 neighbours; the border is mirrored.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        taps = torch.arange(-REACH, REACH + 1)
        place = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        line = keys(place[:, None] - taps)
        self.kernel: Tensor
        kernel = (line[:, None, :, None] * line[None, :, None, :]).float()
        self.register_buffer("kernel", kernel.reshape(scale**2, 1, 2 * REACH + 1, 2 * REACH + 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets, those of a channel one after the other."""
        channels = image.shape[1]
        exact = image.to(torch.promote_types(image.dtype, torch.float32))
        continued = _continued(_continued(exact, -2), -1)
        with torch.autocast(image.device.type, enabled=False):
            return functional.conv2d(continued, self.kernel.to(exact).repeat(channels, 1, 1, 1), groups=channels)


def _continued(image: Tensor, axis: int) -> Tensor:
    """Mirror two pixels at either end of an axis, the outermost included."""
    size = image.shape[axis]
    if torch.compiler.is_exporting():  # whether a size is 1 is not known before the graph runs
        period = torch.full((1,), 2 * size, device=image.device)
        position = torch.arange(-REACH, size + REACH, device=image.device) % period
        return image.index_select(axis, torch.minimum(position, 2 * size - 1 - position))
    second, last = min(1, size - 1), max(size - 2, 0)
    ends = [image.narrow(axis, at, 1) for at in (second, 0, size - 1, last)]
    return torch.cat([*ends[:2], image, *ends[2:]], axis)


class LumaEnlarger(nn.Module):
    """(B, 3, H, W) sRGB in [0, 1] -> (B, 3 s^2, H, W): a network enlarges the luma, bicubic the two chromas.

    Bicubic enlargement and YCbCr are linear: what the network's luma has above the bicubic one is added to all three channels.
    """

    stride = 1

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        self.network, self.bicubic, self.scale = network, BicubicSheets(scale), scale
        self.multiple = getattr(network, "multiple", None)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets of the enlarged picture, not clipped."""
        seen, sheets = luma(image.float()), self.bicubic(image).unflatten(1, (3, -1))
        detail = (self.network(seen).float() - self.bicubic(seen)) / STUDIO
        enlarged: Tensor = (sheets + detail[:, None]).flatten(1, 2)
        return enlarged
