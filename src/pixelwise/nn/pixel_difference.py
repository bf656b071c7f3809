"""Convolutions of differences between pixels, which see edges from the start (Su et al. 2021).

"Pixel Difference Networks for Efficient Edge Detection", section 3.1: each weight of the eight neighbours multiplies a
difference of two pixels. As a difference is linear in the pixels, every such layer is a plain convolution with a kernel that is
linear in the weights (section 3.3): it always runs as that, and working out the kernel costs next to nothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Difference = Literal["central", "angular", "radial", "plain"]
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Rows and columns to the eight neighbours, clockwise."""


def differences(kind: Difference) -> Tensor:
    """Return float32 `(weights, k * k)`: what each weight contributes to a kernel of k x k pixels.

    Args:
        kind: `central`, neighbour minus centre; `angular`, neighbour minus the next one clockwise; `radial`, the pixel two
            steps away minus the neighbour in the same direction (k = 5); `plain`, the nine pixels themselves.
    """
    if kind == "plain":
        return torch.eye(9)
    side = 5 if kind == "radial" else 3
    matrix = torch.zeros(8, side, side)
    for i, (row, column) in enumerate(RING):
        far = 2 if kind == "radial" else 1
        other = {"central": (0, 0), "angular": RING[(i + 1) % 8], "radial": (row, column), "plain": (0, 0)}[kind]
        matrix[i, side // 2 + far * row, side // 2 + far * column] += 1
        matrix[i, side // 2 + other[0], side // 2 + other[1]] -= 1
    return matrix.flatten(1)


class PixelDifference(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H, W): a convolution of differences without bias, zeros outside."""

    matrix: Tensor

    def __init__(self, kind: Difference, in_channels: int, out_channels: int, groups: int = 1) -> None:
        super().__init__()
        matrix = differences(kind)
        self.groups, self.side = groups, math.isqrt(matrix.shape[1])
        self.register_buffer("matrix", matrix, persistent=False)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, len(matrix)))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def kernel(self) -> Tensor:
        """Return the equal plain convolution's weight, (out_channels, in_channels / groups, k, k)."""
        kernel: Tensor = self.weight @ self.matrix
        return kernel.view(*kernel.shape[:2], self.side, self.side)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved maps."""
        return functional.conv2d(maps, self.kernel(), padding=self.side // 2, groups=self.groups)
