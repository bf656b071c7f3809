"""Deep supervision: a score of its own at every resolution, all brought to full size and fused (Xie and Tu 2015)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError


class SideOutputs(nn.Module):
    """Maps by stride -> (B, shown + 1, H, W): the finest `shown` side outputs, the finest first, and what fuses all of them."""

    def __init__(self, channels: Mapping[int, int], out_channels: int) -> None:
        """Build a 1x1 convolution per map, and one that fuses their scores and starts as their mean.

        Args:
            channels: Of each map, by stride.
            out_channels: Side outputs that are put out too, plus one.

        Raises:
            UsageError: There are not so many.
        """
        super().__init__()
        if out_channels > len(channels) + 1:
            raise UsageError(
                f"{out_channels - 1} side outputs are asked for, and this network has {len(channels)}",
                f"set task.sides={len(channels)}, or another network.kind for another task",
            )
        self.shown = out_channels - 1
        self.scores = nn.ModuleDict({str(stride): nn.Conv2d(count, 1, 1) for stride, count in channels.items()})
        self.fuse = nn.Conv2d(len(channels), 1, 1)
        nn.init.constant_(self.fuse.weight, 1 / len(channels))
        nn.init.zeros_(self.fuse.bias)  # type: ignore[arg-type]

    def forward(self, maps: Mapping[int, Tensor], height: int, width: int) -> Tensor:
        """Return the scores without activation, cropped to (height, width) of the maps times their strides."""
        sides = [self._side(score(maps[int(stride)]), int(stride)) for stride, score in self.scores.items()]
        every = torch.cat([side[..., :height, :width] for side in sides], 1)
        fused = self.fuse(every)
        return torch.cat([every[:, : self.shown], fused], 1) if self.shown else fused

    def _side(self, score: Tensor, stride: int) -> Tensor:
        return (
            score if stride == 1 else functional.interpolate(score, scale_factor=stride, mode="bilinear", align_corners=False)
        )
