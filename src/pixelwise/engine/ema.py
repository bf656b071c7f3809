"""Averaged weights: what is deployed is the moving average of the trained weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pixelwise.engine.distributed import local


class Ema:
    """A copy, in evaluation mode, of every deployed network, whose weights follow the trained ones slowly."""

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.networks = nn.ModuleDict({name: copy.deepcopy(network) for name, network in networks.items()})
        self.networks.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, networks: nn.ModuleDict, step: int) -> None:
        """Move the average towards `networks` after training step `step` (from 0).

        `average += (1 - d) (weight - average)` with `d = min(decay, (1 + step) / (10 + step))`, so that a short run
        forgets its initial weights. Buffers (running statistics) are copied: they are averages already.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = _pairs(self.networks, networks, "parameters")
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, value in zip(*_pairs(self.networks, networks, "buffers"), strict=True):
            average.copy_(value)


def _pairs(averages: nn.ModuleDict, networks: nn.ModuleDict, kind: str) -> tuple[list[Tensor], list[Tensor]]:
    def tensors(network: nn.Module) -> Iterator[Tensor]:
        return map(local, getattr(network, kind)())

    names = list(averages)
    return [t for n in names for t in tensors(averages[n])], [t for n in names for t in tensors(networks[n])]
