"""Cross-entropy over classes (a label per pixel), places (a pixel per sheet) or yes and no, dividing by what was valid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.losses.regression import masked_mean


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, ignore: int = 255) -> Tensor:
    """Return -sum w_y log softmax(logits)_y / sum w_y over the known pixels; 0 if there are none.

    Unlike `functional.cross_entropy`, a batch without any known pixel gives 0 and zero gradients, not NaN.

    Args:
        logits: `(B, C, H, W)`.
        labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.
        weights: `(C,)`, weight of each class; None means 1.
        ignore: The label of unknown pixels.
    """
    labels = labels.long()
    known = labels != ignore
    total = functional.cross_entropy(logits, labels, weights, ignore_index=ignore, reduction="sum")
    if weights is None:
        return total / known.sum().clamp(min=1)
    mass = torch.where(known, weights[torch.where(known, labels, 0)], 0).sum()
    return total / torch.where(mass > 0, mass, 1)


def spatial_cross_entropy(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return -sum_p t_p log softmax(logits)_p over the pixels p of a sheet, averaged over the valid sheets.

    With a one-hot target this is the key point loss of Mask R-CNN (He et al. 2017, section 5). Its smallest value is
    the entropy of the target.

    Args:
        logits: `(B, K, H, W)`; the softmax is over H x W.
        targets: `(B, K, H, W)`, >= 0, each valid sheet sums to 1.
        valid: bool `(B, K)`.
    """
    log_probability = logits.flatten(2).log_softmax(-1)
    return masked_mean(-(targets.flatten(2) * log_probability).sum(-1), valid)


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return -sum w (t log s + (1 - t) log(1 - s)) / sum w over the known targets, s = sigmoid(logits); 0 if there are none.

    Args:
        logits: `(B, N)`.
        targets: `(B, N)` in [0, 1]; NaN is unknown.
        weights: `(N,)`, weight of each label; None means 1.
    """
    known = ~targets.isnan()
    mass = known * (1 if weights is None else weights)
    each = functional.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    total = mass.sum()
    return (each * mass).sum() / torch.where(total > 0, total, 1)
