"""One network for several answers: they share everything but a small head each (hard parameter sharing, Caruana 1997)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Heads(nn.Module):
    """(B, C, H, W) -> (B, sum of `channels`, H / stride, W / stride): the answers of all heads, one after the other.

    A head is a 3x3 convolution, ReLU, and a 1x1 convolution.

    Args:
        trunk: (B, C, H, W) -> (B, width, H / stride, W / stride) features, with `stride` and, to be exported, `multiple`.
        width: Channels of the features, and within each head.
        channels: Sheets of each answer.
    """

    def __init__(self, trunk: nn.Module, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.trunk, self.stride, self.multiple = trunk, trunk.stride, getattr(trunk, "multiple", None)
        heads = (nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, c, 1)) for c in channels)
        self.heads = nn.ModuleList(heads)

    def forward(self, image: Tensor) -> Tensor:
        """Return the sheets of all answers."""
        features = functional.relu(self.trunk(image))
        return torch.cat([head(features) for head in self.heads], 1)
