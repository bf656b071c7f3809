"""Cross-entropy over classes (a label per pixel), places (a pixel per sheet) or yes and no, dividing by what was valid.

`focal` weighs every pixel by how wrong it still is (Lin et al. 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.losses.regression import masked_mean

GAMMA = 2.0
"""Focusing exponent of the focal loss, as Lin et al. 2017 found it best."""


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, smoothing: float = 0.0, ignore: int = UNKNOWN
) -> Tensor:
    """Return -sum w_y log softmax(logits)_y / sum w_y over the known pixels; 0 if there are none.

    Unlike `functional.cross_entropy`, a batch without any known pixel gives 0 and zero gradients, not NaN.

    Args:
        logits: `(B, C, H, W)`.
        labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.
        weights: `(C,)`, weight of each class; None means 1.
        smoothing: e in [0, 1): adds e / C sum_c w_c (-log softmax(logits)_c) to 1 - e times the above (Szegedy et al. 2016).
        ignore: The label of unknown pixels.
    """
    labels = labels.long()
    total = functional.cross_entropy(logits, labels, weights, ignore_index=ignore, reduction="sum", label_smoothing=smoothing)
    return total / _mass(labels, weights, ignore)


def focal(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, gamma: float = GAMMA, ignore: int = UNKNOWN
) -> Tensor:
    """Return -sum w_y (1 - p_y)^gamma log p_y / sum w_y over the known pixels, p = softmax(logits); 0 if there are none.

    Lin et al. 2017, equation 5, for several classes; they divide by the number of objects, which pixels do not have.
    Arguments as for `cross_entropy`; `gamma` >= 0, and 0 is cross-entropy.
    """
    labels = labels.long()
    known = labels != ignore
    # what is unknown is cut off before the logarithm, since 0 times infinity has no gradient
    chosen = torch.where(known, labels, 0)[:, None]
    log_p = torch.where(known, logits.log_softmax(1).gather(1, chosen)[:, 0], 0)
    weight = 1 if weights is None else weights[chosen[:, 0]]
    return -(weight * _doubt(log_p) ** gamma * log_p).sum() / _mass(labels, weights, ignore)


def _doubt(log_p: Tensor) -> Tensor:
    """Return 1 - p; what rounding makes 0 is kept above it, where every power has a gradient."""
    return -torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).tiny))


def _mass(labels: Tensor, weights: Tensor | None, ignore: int) -> Tensor:
    """Return the sum of the weights of the known pixels; 1 if it is 0."""
    known = labels != ignore
    mass = known.sum() if weights is None else torch.where(known, weights[torch.where(known, labels, 0)], 0).sum()
    return torch.where(mass > 0, mass, 1)


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


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smoothing: float = 0.0) -> Tensor:
    """Return -sum w (t log s + (1 - t) log(1 - s)) / sum w over the known targets, s = sigmoid(logits); 0 if there are none.

    Args:
        logits: `(B, N, ...)`.
        targets: Of the same shape, in [0, 1]; NaN is unknown.
        weights: Broadcastable to `targets`; None means 1.
        smoothing: e in [0, 1): a target t becomes (1 - e) t + e / 2.
    """
    softened = (1 - smoothing) * targets.nan_to_num() + smoothing / 2
    each = functional.binary_cross_entropy_with_logits(logits, softened, reduction="none")
    return _weighted_mean(each, targets, weights)


def binary_focal(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, gamma: float = GAMMA) -> Tensor:
    """Return -sum w (1 - p)^gamma log p / sum w over the known targets, p the probability of what is true; 0 if there are none.

    Lin et al. 2017, equation 5; their alpha is `weights`. Arguments as for `binary_cross_entropy`, targets 0, 1 or NaN.
    """
    log_p = functional.logsigmoid(logits * (2 * targets.nan_to_num() - 1))
    return _weighted_mean(-(_doubt(log_p) ** gamma) * log_p, targets, weights)


def _weighted_mean(each: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    mass = ~targets.isnan() * (1 if weights is None else weights)
    total = mass.sum()
    return (each * mass).sum() / torch.where(total > 0, total, 1)
