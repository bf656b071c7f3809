"""How much each pixel of the picture counts for an answer in its middle (Luo, Li, Urtasun and Zemel 2016).

An answer may see 200 pixels and yet listen to the nearest 40. The gradient says so: its size, averaged over pictures of noise,
is large in the middle and fades like a bell long before the border of the (theoretical) receptive field.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pixelwise.nn.operations import tensors_in
from pixelwise.seeds import torch_generator

THRESHOLD = 1 - 0.9545
"""Share of the largest influence above which a pixel counts as seen: what lies within two deviations of a bell."""


def influence(network: nn.Module, channels: int, size: tuple[int, int], pictures: int = 16, seed: int = 0) -> Tensor:
    """Return how much each pixel changes the (first) output in the middle of the picture, on average.

    Args:
        network: (1, channels, H, W) -> maps (1, K, H', W'), or numbers, which are then all the output; not changed.
        channels: Channels of the picture.
        size: Height and width of the picture.
        pictures: How many pictures, from N(0, 1), and as many directions of the K outputs, to average over.
        seed: Of the pictures.

    Returns:
        (H, W) sizes of gradients, relative to the largest.
    """
    draws = (torch_generator(seed, "influence", number) for number in range(pictures))
    return _averaged(network, ((torch.randn(1, channels, *size, generator=noise), noise) for noise in draws))


def influence_on(network: nn.Module, images: Tensor, seed: int = 0) -> Tensor:
    """Return the same for given pictures `(N, channels, H, W)`: what a trained network makes of noise says little of it."""
    return _averaged(network, ((image[None], torch_generator(seed, "influence", n)) for n, image in enumerate(images)))


def _averaged(network: nn.Module, drawn: Iterable[tuple[Tensor, torch.Generator]]) -> Tensor:
    """Return the mean size of gradients for pictures (1, channels, H, W), each with what draws a direction of the outputs."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    like = next(network.parameters(), torch.empty(0))
    total = torch.zeros((), dtype=torch.float64)
    for picture, noise in drawn:
        image = picture.to(like).requires_grad_()
        with torch.enable_grad():
            middle = _middle(tensors_in(network(image))[0])
            (gradient,) = torch.autograd.grad(middle, image, torch.randn(middle.shape, generator=noise).to(middle))
        total = total + gradient[0].abs().double().mean(0).cpu()
    return total / total.max().clamp(min=torch.finfo(total.dtype).tiny)


def _middle(output: Tensor) -> Tensor:
    return output[..., output.shape[-2] // 2, output.shape[-1] // 2] if output.dim() == 4 else output


def width(influences: Tensor, threshold: float = THRESHOLD) -> float:
    """Return the width of the effective receptive field in pixels: the side of a square of as many pixels.

    Args:
        influences: (H, W), from `influence`.
        threshold: Pixels with more than this share of the largest influence belong to it.
    """
    return math.sqrt(int((influences > threshold * influences.max()).sum()))
