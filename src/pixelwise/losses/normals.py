"""Losses between maps of directions; what is unknown (NaN) has no part and exactly zero gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.losses.regression import masked_mean


def cosine_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of 1 - cos of the angle, in [0, 2].

    Args:
        prediction: `(B, 3, H, W)` of length 1.
        target: Same shape, of length 1; NaN is unknown.
    """
    valid, target = known(target)
    return masked_mean(1 - (prediction * target).sum(1), valid)


def angular_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean angle in radians, in [0, pi]; arguments as for `cosine_loss`.

    The angle is atan2(|p x t|, p . t): unlike the arc cosine its gradient is finite everywhere, at most 1 in size, and 0 where
    the two are parallel or opposite.
    """
    valid, target = known(target)
    sine = torch.linalg.vector_norm(torch.linalg.cross(prediction, target, dim=1), dim=1)
    cosine = (prediction * target).sum(1)
    # a prediction of length 0 or an unknown target points nowhere: a right angle, without gradient
    nowhere = (sine == 0) & (cosine == 0)
    return masked_mean(torch.atan2(sine, torch.where(nowhere, 1, cosine)), valid)


def squared_distance_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of |p - t|^2; of vectors of length 1 it is twice the cosine loss, others are drawn to that length.

    Args:
        prediction: `(B, 3, H, W)` of any length.
        target: Same shape, of length 1; NaN is unknown.
    """
    valid, target = known(target)
    return masked_mean((prediction - target).square().sum(1), valid)


def known(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a target `(B, 3, H, W)` is known, `(B, H, W)`, and the target with 0 where it is not."""
    valid = target.isfinite().all(1)
    return valid, torch.where(valid[:, None], target, 0)
