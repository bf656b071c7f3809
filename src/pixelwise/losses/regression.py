"""Losses between numbers that average over what was valid only, so that unknown values have exactly zero gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_mean(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of `values` where `valid`, and 0 (with zero gradients) where nothing is.

    Args:
        values: Any shape; may be NaN where not valid.
        valid: bool, broadcastable to `values`; None means everywhere.

    Returns:
        A scalar: the sum over the valid values divided by their number.
    """
    if valid is None:
        return values.mean()
    valid = valid.expand_as(values)
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def l1_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of |prediction - target|.

    Args:
        prediction: Any shape.
        target: Same shape; may be NaN where not valid.
        valid: bool, broadcastable to `prediction`; None means everywhere.
    """
    return masked_mean(_difference(prediction, target, valid).abs(), valid)


def l2_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of (prediction - target)^2, not halved; arguments as for `l1_loss`."""
    return masked_mean(_difference(prediction, target, valid).square(), valid)


def charbonnier_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(d^2 + epsilon^2), an L1 that is smooth at 0 (Charbonnier et al. 1994; Lai et al. 2017).

    Args:
        prediction: Any shape.
        target: Same shape; may be NaN where not valid.
        valid: bool, broadcastable to `prediction`; None means everywhere.
        epsilon: Below which it is a parabola, in the unit of the prediction; > 0.
    """
    return masked_mean((_difference(prediction, target, valid).square() + epsilon**2).sqrt(), valid)


def smooth_l1_loss(prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, beta: float = 1.0) -> Tensor:
    """Return the mean of d^2 / (2 beta) where d = |prediction - target| < beta, else of d - beta / 2 (Girshick 2015).

    Args:
        prediction: Any shape.
        target: Same shape; may be NaN where not valid.
        valid: bool, broadcastable to `prediction`; None means everywhere.
        beta: Where the parabola becomes a line, in the unit of the prediction; > 0.
    """
    distance = _difference(prediction, target, valid).abs()
    smooth = torch.where(distance < beta, distance.square() / (2 * beta), distance - beta / 2)
    return masked_mean(smooth, valid)


def wing_loss(
    prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, end: float = 10.0, sharpness: float = 2.0
) -> Tensor:
    """Return the mean of w log(1 + |d| / e) where |d| < w, else of |d| - C with C = w - w log(1 + w / e) (Feng et al. 2018).

    Small errors pull more than under L1: the gradient is w / (e + |d|), so w / e at 0. The lengths w and e belong to the unit
    of d: with relative coordinates, always far below w = 10 and e = 2, it would be little else than a scaled L1.

    Args:
        prediction: Any shape.
        target: Same shape; may be NaN where not valid.
        valid: bool, broadcastable to `prediction`; None means everywhere.
        end: w, where the logarithm becomes a line, in the unit of the prediction; > 0.
        sharpness: e (epsilon), in the same unit; > 0.
    """
    distance = _difference(prediction, target, valid).abs()
    constant = end - end * math.log1p(end / sharpness)
    curved = end * (distance / sharpness).log1p()
    return masked_mean(torch.where(distance < end, curved, distance - constant), valid)


def _difference(prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
    """Zero the invalid differences before any non-linearity: the gradient of a NaN that is masked later is NaN."""
    difference = prediction - target
    return difference if valid is None else torch.where(valid, difference, 0)
