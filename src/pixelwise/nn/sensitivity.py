"""What an output pixel can see at most, found by asking the network itself (Araujo, Norris and Sim 2019, section 5).

The gradient of one output with respect to the picture is nonzero exactly where the output can see, once nothing can cancel:
weights become positive, biases zero, max pooling becomes average pooling; norms, activations and dropout are taken out.
Normalisation over the whole picture, which makes every output see everything, is thereby left aside. It costs one backward
pass for every output pixel, and is how the exact intervals of `receptive_field` are verified.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
DROPOUTS = (nn.Dropout, nn.Dropout2d)


class Extent(NamedTuple):
    """A rectangle of pixels: rows `top` ... `bottom - 1`, columns `left` ... `right - 1`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def receptive_field(network: nn.Module, channels: int, size: tuple[int, int], phases: int = 1) -> tuple[int, int]:
    """Return the largest extent (height, width) of an output pixel near the centre, in input pixels.

    Args:
        network: (1, channels, H, W) -> (1, any, H', W'); not changed.
        channels: Channels of the input.
        size: Input size (H, W) to try; a field as large as this may be larger in truth.
        phases: How many neighbouring output positions to look at: a decoder repeats itself after as many as its
            largest stride, and its field differs between them.
    """
    image, output = _probe(network, channels, size)
    row, column = ((side - phases) // 2 for side in output.shape)
    sizes = [_seen(image, output, (row + phase, column + phase)).size for phase in range(phases)]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def extent(network: nn.Module, channels: int, size: tuple[int, int], position: tuple[int, int]) -> Extent:
    """Return which pixels of a (1, channels, *size) image the output at `position` (row, column) can see."""
    return extents(network, channels, size, [position])[0]


def extents(network: nn.Module, channels: int, size: tuple[int, int], positions: Iterable[tuple[int, int]]) -> list[Extent]:
    """Return which pixels of a (1, channels, *size) image the outputs at some positions (row, column) can see."""
    image, output = _probe(network, channels, size)
    return [_seen(image, output, position) for position in positions]


def _probe(network: nn.Module, channels: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.ones(1, channels, *size, dtype=torch.float64, requires_grad=True)
    return image, neutralised(network)(image).sum((0, 1))


def _seen(image: torch.Tensor, output: torch.Tensor, position: tuple[int, int]) -> Extent:
    (gradient,) = torch.autograd.grad(output[position], image, retain_graph=True)
    rows, columns = gradient[0].sum(0).nonzero().unbind(1)
    if not len(rows):
        return Extent(0, 0, 0, 0)
    return Extent(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)


def neutralised(network: nn.Module) -> nn.Module:
    """Return a float64 copy of `network` in which every path from input to output has a positive gradient.

    Convolutions average what they see, so that nothing grows and no activation written into a `forward` saturates.
    """
    network = nn.Sequential(copy.deepcopy(network)).double().eval()
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            inputs = module.weight[0].numel()
            nn.init.constant_(module.weight, 1 / inputs)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, child in module.named_children():
            setattr(module, name, _passive(child))
    return network


class _AveragePool(nn.MaxPool2d):
    """Takes the place of a max pooling, with the same indices."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        kernel, stride, padding = self.kernel_size, self.stride, self.padding
        averages = functional.avg_pool2d(maps, kernel, stride, padding, self.ceil_mode)
        return (averages, super().forward(maps)[1]) if self.return_indices else averages


def _passive(module: nn.Module) -> nn.Module:
    if isinstance(module, (*NORMS, *DROPOUTS)) or type(module).__module__ == "torch.nn.modules.activation":
        return nn.Identity()
    if isinstance(module, nn.MaxPool2d):
        settings = module.kernel_size, module.stride, module.padding, module.dilation, module.return_indices
        return _AveragePool(*settings, module.ceil_mode)
    return nn.AdaptiveAvgPool2d(module.output_size) if isinstance(module, nn.AdaptiveMaxPool2d) else module
