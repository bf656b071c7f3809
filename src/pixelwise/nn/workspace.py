"""What a convolution allocates on a CPU beside its operands and results: copies in the layout that the library computes in.

Measured with oneDNN 3.13 under torch 2.15 on x86, on some fifty convolutions, each alone in a process; none is documented.
Maps that lie in memory channel by channel are copied into blocks of 16 channels or, by some of its kernels, pixel by pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelwise.nn.operations import Operation

BLOCK = 16
"""Channels of a block, with AVX-512; the last block is filled up with zeros."""
FEW = 3
"""Up to so many input channels are read as they are."""


def workspace(operation: Operation) -> int:
    """Return the bytes that an operation allocates and frees while it runs: those of convolutions on a CPU, else 0."""
    if operation.name not in ("convolution", "convolution_backward"):
        return 0
    maps: Tensor = operation.arguments["input"]
    weight: Tensor = operation.arguments["weight"]
    if maps.device.type != "cpu" or maps.dim() != 4:
        return 0
    forward = operation.name == "convolution"
    answer: Tensor = operation.result if forward else operation.arguments["grad_output"]
    if "Slow" in _backend(operation):
        return _unfolded(weight, answer, forward)
    if any(_pixel_by_pixel(tensor) for tensor in (maps, weight)):
        return weight.nbytes if forward else 2 * weight.nbytes
    return (_forward if forward else _backward)(operation, maps, weight, answer)


def _backend(operation: Operation) -> str:
    a = operation.arguments
    geometry = (a["stride"], a["padding"], a["dilation"], a["transposed"], a["output_padding"], a["groups"])
    return str(torch._C._select_conv_backend(a["input"], a["weight"], None, *geometry))


def _unfolded(weight: Tensor, answer: Tensor, forward: bool) -> int:
    """Torch's own convolution multiplies unfolded windows: of all pictures at once forwards, of one at a time backwards."""
    windows = weight.nbytes // len(weight) * math.prod(answer.shape[2:])
    if forward:
        return windows * len(answer) if math.prod(weight.shape[2:]) > 1 else 0
    return windows


def _forward(operation: Operation, maps: Tensor, weight: Tensor, answer: Tensor) -> int:
    copies = 2 if operation.arguments["transposed"] or maps.dtype != torch.float32 else 1
    return max(_copied(maps, FEW) + weight.nbytes + _copied(answer) - answer.nbytes, copies * _copied(answer))


def _backward(operation: Operation, maps: Tensor, weight: Tensor, gradient: Tensor) -> int:
    a = operation.arguments
    by_pixel = maps.dtype != torch.float32 or (max(a["stride"]) > 1 and a["groups"] == 1 and not a["transposed"])
    copies = 2 if by_pixel and operation.result[0] is not None else 0
    return max(_copied(maps, FEW) + _copied(gradient), weight.nbytes, copies * maps.nbytes)


def _pixel_by_pixel(tensor: Tensor) -> bool:
    """Whether it lies in memory pixel by pixel, and not channel by channel as well: then maps are not copied."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _copied(maps: Tensor, few: int = 0) -> int:
    """Return the bytes of a copy of `maps` (B, C, H, W), in blocks if they are of float32 and more than `few`."""
    channels = maps.shape[1]
    if maps.dtype != torch.float32 or channels <= few:
        return maps.nbytes
    return maps.nbytes // channels * -(-channels // BLOCK) * BLOCK
