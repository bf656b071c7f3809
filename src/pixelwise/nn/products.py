"""Convolutions as plain matrix products, where a large weight meets few positions: the depths of a pix2pix U-Net.

There a convolution library spends its time reordering the weights of one step, not multiplying. Unfolding the map
instead (Chellapilla, Puri and Simard 2006) uses the weights where they lie: about three times faster on CPU at batch
1, forwards and backwards, equal to rounding. Parameters and state are those of the torch classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL, STRIDE, PADDING = 4, 2, 1


class Halve(nn.Conv2d):
    """The 4x4 convolution of stride 2 and padding 1: (B, in, H, W) -> (B, out, H/2, W/2), H and W even or odd."""

    few = 256  # positions in the smaller map up to which the product is faster; 0 never uses it

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the smaller maps."""
        batch, height, width = maps.shape[0], maps.shape[-2] // 2, maps.shape[-1] // 2
        if not _on_cpu(maps) or batch * height * width > self.few:
            return super().forward(maps)
        columns = functional.unfold(maps, KERNEL, padding=PADDING, stride=STRIDE)  # (B, in * 16, positions)
        product = self.weight.flatten(1) @ columns.transpose(0, 1).flatten(1)
        return _biased(product.view(-1, batch, height, width).transpose(0, 1), self.bias)


class Double(nn.ConvTranspose2d):
    """The 4x4 transposed convolution of stride 2 and padding 1: (B, in, H, W) -> (B, out, 2H, 2W)."""

    few = 256

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the larger maps."""
        batch, _, height, width = maps.shape
        if output_size or not _on_cpu(maps) or batch * height * width > self.few:
            return super().forward(maps, output_size)
        product = self.weight.flatten(1).t() @ maps.transpose(0, 1).flatten(1)  # (out * 16, B * positions)
        columns = product.view(-1, batch, height * width).transpose(0, 1)
        larger = functional.fold(columns, (2 * height, 2 * width), KERNEL, padding=PADDING, stride=STRIDE)
        return _biased(larger, self.bias)


def _on_cpu(maps: Tensor) -> bool:
    """Compilers and exporters get the convolution itself, whatever the size they are shown."""
    return maps.device.type == "cpu" and not torch.compiler.is_compiling()


def _biased(maps: Tensor, bias: Tensor | None) -> Tensor:
    return maps if bias is None else maps + bias[:, None, None].to(maps.dtype)
