"""Losses between maps of depth, in whatever unit a codec gives them; what is unknown has no part and exactly zero gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.losses.regression import masked_mean


def berhu_loss(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of |d| up to c and (d^2 + c^2) / (2 c) beyond, c a fifth of the batch's largest |d| (Laina et al. 2016).

    Args:
        prediction: Any shape; d is its difference to the target.
        target: Same shape; may be NaN where not valid.
        valid: bool, same shape. No gradient flows through c.
    """
    distance = torch.where(valid, prediction - target, 0).abs()
    c = 0.2 * distance.detach().amax().clamp(min=torch.finfo(distance.dtype).tiny)
    return masked_mean(torch.where(distance <= c, distance, (distance.square() / c + c) / 2), valid)


def scale_invariant_log_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, share: float = 0.5) -> Tensor:
    """Return mean(d^2) - share mean(d)^2, the means over each picture's valid pixels (Eigen, Puhrsch and Fergus 2014, eq. 4).

    Args:
        prediction: `(B, ...)`, natural logarithm of the depth; d is its difference to the target.
        target: Same shape; may be NaN where not valid.
        valid: bool, same shape. Pictures without a valid pixel do not count.
        share: The paper's lambda: 0 is plain L2 in the logarithm, 1 forgives any factor; 0.5 is what the paper trains with.
    """
    difference = torch.where(valid, prediction - target, 0).flatten(1)
    count = valid.flatten(1).sum(1)
    mean, square = (values.sum(1) / count.clamp(min=1) for values in (difference, difference.square()))
    return masked_mean(square - share * mean.square(), count > 0)


def gradient_matching_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, scales: int = 4) -> Tensor:
    """Return the sum over scales of the mean |horizontal| + |vertical| change of the error: edges where the truth has them.

    Li and Snavely 2018 (MegaDepth) and Ranftl et al. 2020 (MiDaS). Scale k sees every 2^k-th pixel;
    a change counts if both of its pixels are valid, and a scale is divided by its number of valid pixels.

    Args:
        prediction: `(..., H, W)`; in MegaDepth the logarithm of the depth.
        target: Same shape; may be NaN where not valid.
        valid: bool, same shape.
        scales: How many, from the full resolution down.
    """
    error, total = torch.where(valid, prediction - target, 0), prediction.new_zeros(())
    for k in range(scales):
        e, m = error[..., :: 2**k, :: 2**k], valid[..., :: 2**k, :: 2**k]
        changes = sum((e.diff(dim=axis).abs() * _both(m, axis)).sum() for axis in (-2, -1))
        total = total + changes / m.sum().clamp(min=1)
    return total


def _both(valid: Tensor, axis: int) -> Tensor:
    """Return where a pixel and the next one along `axis` are valid."""
    count = valid.shape[axis]
    return valid.narrow(axis, 1, max(count - 1, 0)) & valid.narrow(axis, 0, max(count - 1, 0))
