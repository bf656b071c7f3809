"""What Johnson, Alahi and Fei-Fei 2016 compare of a network's maps: the maps themselves, and their Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def feature_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the feature reconstruction loss, the mean squared difference of the maps (equation 2: over C H W).

    Args:
        ours: (B, C, H, W) of one layer.
        theirs: The same of the target.
    """
    return (ours.float() - theirs.float()).square().mean()


def gram(maps: Tensor) -> Tensor:
    """Return (B, C, C): F F^T / (C H W), which channels answer together, wherever it is (equation 3).

    Args:
        maps: (B, C, H, W).
    """
    rows = maps.float().flatten(2)
    return rows @ rows.mT / rows[0].numel()


def style_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the style reconstruction loss, the mean squared difference of Gram matrices (equation 4, divided by C^2).

    Args:
        ours: (B, C, H, W) of one layer.
        theirs: (B or 1, C, H', W') of pictures of any size.
    """
    return (gram(ours) - gram(theirs)).square().mean()


def summed(
    loss: Callable[[Tensor, Tensor], Tensor], ours: Sequence[Tensor], theirs: Sequence[Tensor], levels: Sequence[int]
) -> Tensor:
    """Return the sum of a loss over some levels, counted from 1."""
    return torch.stack([loss(ours[level - 1], theirs[level - 1]) for level in levels]).sum()
