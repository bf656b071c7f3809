"""What every layer of a network costs: shape of its output, parameters, multiply-accumulates.

The convention: one multiplication with its addition counts 1, so this is half of what others call FLOPs. Counted are the
products of matrices: convolutions, transposed or not, fully connected layers, attention, written as modules or as functions.
Biases, norms, activations, pooling, resampling and sums of maps count 0. Zeros of padding count as any number.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelwise.nn.operations import Operation, Operations, faked, tensors_in

# The operations that multiply matrices, by the names of their factors.
PRODUCTS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
}
# What multiplies in ways that are not counted here, by parts of its name.
UNKNOWN = ("rnn", "lstm", "gru", "fft", "trilinear", "cdist", "conv_tbc")


class LayerCost(NamedTuple):
    """What one call of a layer costs, without its parts."""

    layer: str
    """Path of the module; "" is the network itself."""
    kind: str
    """Name of its class."""
    shape: tuple[int, ...]
    """Shape of its (first) output; () if it returns no tensor."""
    parameters: int
    """Its own; those of a layer that is called several times are in every call."""
    multiply_accumulates: int
    """Those of the operations that it runs itself; what its parts run is theirs."""


class Cost(NamedTuple):
    """What a network costs."""

    layers: list[LayerCost]
    """In the order in which they finished: those without parts, and those that compute something themselves."""
    parameters: int
    """Of the whole network, each once, used or not."""
    multiply_accumulates: int
    uncounted: list[str]
    """Operations that may well multiply, and that nothing is known about here; they count 0."""


def cost(network: nn.Module, channels: int, size: tuple[int, int], batch: int = 1) -> Cost:
    """Return what a network costs in evaluation mode; pictures of any size take no memory and no time.

    Args:
        network: (batch, channels, H, W) -> anything; not changed.
        channels: Channels of the pictures.
        size: Their height and width in pixels.
        batch: How many pictures.

    Raises:
        ModelError: The network does not take such pictures.
    """
    with faked(network) as copy, torch.no_grad():
        watch = _Costs(copy.eval())
        watch.run((batch, channels, *size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(watch.layers, parameters, sum(layer.multiply_accumulates for layer in watch.layers), [*watch.uncounted])


class _Costs(Operations):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.layers: list[LayerCost] = []
        self.uncounted: dict[str, None] = {}
        self._counts: Counter[str] = Counter()

    def seen(self, operation: Operation) -> None:
        count = counted(operation)
        if count is None:
            self.uncounted[operation.name] = None
        self._counts[operation.layer] += count or 0

    def left(self, layer: str, module: nn.Module, output: Any) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        shape = next((tuple(tensor.shape) for tensor in tensors_in(output)), ())
        self.layers.append(LayerCost(layer, type(module).__name__, shape, parameters, self._counts.pop(layer, 0)))


def counted(operation: Operation) -> int | None:
    """Return the multiply-accumulates of an operation; None if nothing is known about it."""
    name = operation.name
    if name == "convolution":
        return _convolution(operation)
    if name.startswith("_scaled_dot_product"):
        return _attention(*(operation.arguments[each] for each in ("query", "key", "value")))
    if name in PRODUCTS:
        left, right = (operation.arguments[factor] for factor in PRODUCTS[name])
        columns = right.shape[-1] if right.dim() > 1 else 1
        return int(left.numel() * columns)
    return None if "::" in name or any(part in name for part in UNKNOWN) else 0


def _convolution(operation: Operation) -> int:
    """Every element of the output has a kernel to itself; in a transposed convolution, every element of the input."""
    arguments = operation.arguments
    weight: Tensor = arguments["weight"]
    elements = arguments["input"] if arguments["transposed"] else operation.result
    return int(elements.numel() * weight[0].numel())


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Every query meets all keys, then all values."""
    return int(query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1]))
