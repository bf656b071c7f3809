"""Dropout as a generator's only noise, also when it is used: pix2pix answers so (Isola et al. 2017, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropouts(network: nn.Module) -> list[nn.Dropout]:
    """Return the layers that drop something while the network is trained."""
    return [module for module in network.modules() if isinstance(module, nn.Dropout) and module.p]


def answer_with_dropout(network: nn.Module, pictures: Tensor, seed: int) -> Tensor:
    """Return the network's answers (B, ...) to `pictures` (B, C, H, W), dropping what `seed` says.

    Every picture is dropped from alike, so that its answer does not depend on others and those to a video do not flicker.
    torch's global generator is left as it was.
    """
    layers = dropouts(network)
    for layer in layers:
        layer.train()
    try:
        return torch.cat([_seeded(network, picture[None], seed) for picture in pictures])
    finally:
        for layer in layers:
            layer.eval()


def _seeded(network: nn.Module, picture: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[picture.device] if picture.is_cuda else []):
        torch.manual_seed(seed)
        answer: Tensor = network(picture)
        return answer
