"""Whether an encoder whose strides were replaced by dilation still computes the features it was trained for.

Where a stride is left out, every later convolution has to look that many times further apart, and then finds the old
features and others between them (the algorithme à trous: Holschneider et al. 1989; Chen et al. 2015). The convolution
that lost its stride keeps its old rate; libraries that dilate it as well make other features of the same weights, and
nothing fails but the accuracy. So it is tried out.

Not held against a network is what squeeze-and-excitation and other gates do: they scale the maps by a pool over all
positions, of which a denser grid has others, so the features do differ from those of the plain network. With gates and
random weights, the relative error at stride 8 was 1.8 for efficientnet_b0, 1.5 for rexnet_100 and 0.21 for
mobilenetv3_small_050, instead of less than 1e-5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pixelwise.errors import UsageError
from pixelwise.seeds import torch_generator

SIDE = 128
"""Pixels across the pictures: 4 positions at stride 32."""
TOLERANCE = 1e-3
"""Largest relative error: of timm's networks, the exact ones stay below 1e-5, and the others are above 0.05."""
VARIATION = 0.01
"""What must vary over space, relative to the features; where nothing does, shifted features would agree as well."""
GATES = (
    *("SEModule", "SqueezeExcite", "SqueezeExciteCl", "EffectiveSEModule", "EcaModule", "CecaModule"),
    *("GatherExcite", "GlobalContext", "GlobalResponseNorm"),
)
"""Classes of timm that scale maps by a pool over the whole of them; over a denser grid, pool and features differ."""


def refuse_inexact(name: str, dilated: nn.Module, plain: nn.Module, channels: int) -> None:
    """Compare two networks (B, channels, H, W) -> list of maps that should differ in nothing but their strides.

    Args:
        name: How to call the encoder in a message.
        dilated: The network with dilation; changed.
        plain: The network without; changed.
        channels: Channels of the pictures.

    Raises:
        UsageError: They find something else at the positions they share.
    """
    error = relative_error(dilated, plain, channels)
    if not error < TOLERANCE:
        raise UsageError(
            f"encoder {name!r} computes something else when it is dilated: relative error {error:.2g}",
            "another encoder_stride may be exact; without one it computes what it was trained for",
        )


@torch.no_grad()
def relative_error(dilated: nn.Module, plain: nn.Module, channels: int) -> float:
    """Return the largest difference of any map, relative to how much the map varies over space.

    `dilated` is given the weights of `plain`. In both, gates are taken out; scales of norms and layers are set to 1 and
    biases to 0, because many start so small that their layers say nothing; and batch norms are calibrated on the pictures.

    Returns:
        The error, about 1e-6 if all is well; infinite if the two have different weights, or if some map does not vary,
        which would make any agreement empty.
    """
    if dilated.state_dict().keys() != plain.state_dict().keys():
        return math.inf
    for network in (dilated, plain):
        _expose(network.eval())
    pictures = _pictures(channels)
    _calibrate(plain, pictures)
    dilated.load_state_dict(plain.state_dict())
    pairs = zip(dilated(pictures[:1]), plain(pictures[:1]), strict=True)
    return float(torch.stack([_difference(*maps) for maps in pairs]).max())


def _expose(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if type(module).__name__ in GATES:
                setattr(parent, name, nn.Identity())
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.numel() == max(parameter.shape):
            nn.init.ones_(parameter)


def _pictures(channels: int) -> Tensor:
    """Return two random smooth pictures (2, channels, SIDE, SIDE), always the same."""
    noise = torch.randn(2, channels, SIDE // 8, SIDE // 8, generator=torch_generator(0, "dilation"))
    return functional.interpolate(noise, scale_factor=8, mode="bilinear")


def _calibrate(network: nn.Module, pictures: Tensor) -> None:
    """Set the running statistics of all batch norms to those of the pictures, by one pass in training mode."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for module in norms:
        module.train()
        module.momentum = 1
    network(pictures)
    for module in norms:
        module.eval()


def _difference(dilated: Tensor, plain: Tensor) -> Tensor:
    """Compare (B, C, k H, k W) with (B, C, H, W) on that one of k x k grids where they agree best.

    Convolutions with even kernels or one-sided padding find the old features on another grid than the one at (0, 0).
    """
    factor = dilated.shape[-1] // plain.shape[-1]
    grids = [dilated[..., row::factor, column::factor] for row in range(factor) for column in range(factor)]
    variation = (plain - plain.mean((2, 3), keepdim=True)).norm()
    if variation <= VARIATION * plain.norm():
        return torch.tensor(math.inf)
    nearest: Tensor = torch.stack([(grid - plain).norm() for grid in grids]).min() / variation
    return nearest
