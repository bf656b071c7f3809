"""How weights start: small Gaussians for GANs, and as large as a deep network without norm needs them."""

from __future__ import annotations

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator | None = None, deviation: float = 0.02) -> None:
    """Draw weights of convolutions from N(0, deviation), scales of batch norms from N(1, deviation); zero all biases.

    The initialisation of DCGAN, pix2pix and CycleGAN (Isola et al. 2017, section 6.2).

    Args:
        network: Changed in place.
        generator: Where the numbers come from; torch's global generator if None.
        deviation: Standard deviation; 0.02 in the papers.
    """
    for module in network.modules():
        if not isinstance(module, (*CONVOLUTIONS, nn.BatchNorm2d)):
            continue
        mean = float(isinstance(module, nn.BatchNorm2d))
        nn.init.normal_(module.weight, mean, deviation, generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def initialise_he(network: nn.Module) -> None:
    """Draw weights of convolutions from N(0, 2 / inputs) and zero their biases, from torch's global generator.

    Through ReLU a signal then keeps its mean square over any number of layers (He et al. 2015, section 2.2); with
    torch's own start every layer keeps a sixth of it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def begin_near_zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the last layer of a network, changed so that its first answers are nearly 0 (Xiao et al. 2018).

    Most of a sheet of beliefs is 0: a network that begins there need not first unlearn what chance has written.
    """
    nn.init.normal_(layer.weight, std=0.001)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
