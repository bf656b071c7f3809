"""Losses between maps of directions; what is unknown (NaN) has no part and exactly zero gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.losses.regression import masked_mean

NO_LENGTH = 1e-12
"""Length up to which a vector has no direction."""


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
    the two are parallel or opposite. A prediction of length 0 points nowhere: a right angle, without gradient.
    """
    valid, target = known(target)
    prediction, length = _lengthened(prediction)
    sine = torch.linalg.vector_norm(torch.linalg.cross(prediction, target, dim=1), dim=1)
    cosine = (prediction * target).sum(1)
    nowhere = ~valid | (length <= NO_LENGTH)
    return masked_mean(torch.atan2(torch.where(nowhere, 1, sine), torch.where(nowhere, 0, cosine)), valid)


def _lengthened(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors `(B, 3, H, W)` with the shorter ones at length 1, and the lengths they had, `(B, H, W)`.

    The gradient passes as if they were as they came: that of an angle grows with 1 / length, here it does not.
    """
    fixed = vectors.detach()
    length = torch.linalg.vector_norm(fixed, dim=1, keepdim=True)
    missing = fixed * (1 / length.clamp(min=NO_LENGTH) - 1)
    return vectors + torch.where(length < 1, missing, 0), length[:, 0]


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
