"""The wrong way to an answer per pixel, as a baseline: a classifier of patches, called anew for the patch around every pixel.

Neighbouring patches share most of their pixels, and what they share is filtered again for each. The same convolutions, run
once over the whole picture, give the same scores (Long, Shelhamer and Darrell 2015, section 3.1).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.initialisation import initialise_he


def patch_classifier(depth: int, in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    """Return `depth` 3x3 convolutions without padding, with ReLU between: a patch of side 2 depth + 1 becomes one vector.

    Args:
        depth: Number of convolutions, at least 1.
        in_channels: Channels of the picture.
        width: Channels between the convolutions.
        out_channels: Scores per pixel.

    Returns:
        (B, in_channels, H, W) -> (B, out_channels, H - 2 depth, W - 2 depth), without activation at the end.
    """
    widths = [in_channels, *[width] * (depth - 1), out_channels]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    initialise_he(network)
    return network


def refiltering(depth: int) -> int:
    """Return how often sliding a `patch_classifier` computes the same value of its first layer: (2 depth - 1)^2.

    The first layer's map of a patch is 2 depth - 1 wide, so as many patches across, and down, share each value.
    """
    return (2 * depth - 1) ** 2


@torch.no_grad()
def slide(classifier: nn.Module, image: Tensor, patch: int, batch: int = 1) -> Tensor:
    """Return the scores of the patch around every pixel, computed patch by patch. The picture continues in zeros.

    Args:
        classifier: (N, C, patch, patch) -> (N, K) or (N, K, 1, 1).
        image: (B, C, H, W).
        patch: Side of a patch in pixels, odd, so that a pixel is its centre.
        batch: Patches per call; 1 is the naive way.

    Returns:
        (B, K, H, W), without gradients.

    Raises:
        UsageError: The patch has no centre, or there are no patches in a batch.
    """
    if batch < 1:
        raise UsageError(f"{batch} patches per call are too few")
    pictures, _, height, width = image.shape
    patches = _bordered(image, patch).unfold(2, patch, 1).unfold(3, patch, 1)
    scores: list[Tensor] = []
    for places in torch.split(torch.ones(pictures, height, width).nonzero(), batch):
        picture, row, column = places.unbind(1)
        scores.append(classifier(patches[picture, :, row, column]).flatten(1))
    return torch.cat(scores).reshape(pictures, height, width, -1).permute(0, 3, 1, 2)


def slide_densely(classifier: nn.Module, image: Tensor, patch: int) -> Tensor:
    """Return what `slide` returns, by one pass over the whole picture.

    Args:
        classifier: Convolutions of stride 1 without padding that see `patch` pixels, such as a `patch_classifier`, or
            what `to_fully_convolutional` makes of another.
        image: (B, C, H, W).
        patch: Side of a patch in pixels, odd.

    Returns:
        (B, K, H, W).

    Raises:
        UsageError: The patch has no centre.
    """
    scores: Tensor = classifier(_bordered(image, patch))
    return scores


def _bordered(image: Tensor, patch: int) -> Tensor:
    """Continue the picture by zeros, so that every pixel is the centre of a patch."""
    if patch % 2 == 0:
        raise UsageError(f"a patch of {patch} pixels has no pixel in its centre", f"use {patch + 1}")
    return functional.pad(image, [patch // 2] * 4)
