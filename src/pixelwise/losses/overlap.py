"""Losses on whole regions: how far a predicted one overlaps the true one, so that a small region counts like a large one.

Soft Dice (Milletari et al. 2016) and the Lovasz extension of the Jaccard index (Berman et al. 2018). All pixels of a batch
are one region per sheet, since the metrics count over all images too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.losses.regression import masked_mean


def soft_dice(probabilities: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return 1 - 2 sum p t / (sum p + sum t), averaged over the sheets with a true pixel; 0 if there is none.

    The denominator has p and t themselves, as the Dice score of a mask; Milletari et al. 2016 square them. A sheet without a
    true pixel would be 1 whatever is predicted: it has no part.

    Args:
        probabilities: `(B, C, H, W)` in [0, 1].
        truth: bool, the same shape.
        known: bool, broadcastable to it; elsewhere nothing counts.
    """
    true = (truth & known).float()
    predicted = torch.where(known, probabilities, 0)
    shared, total = (sheet.sum((0, 2, 3)) for sheet in (predicted * true, predicted + true))
    present = true.any(-1).any(-1).any(0)
    return masked_mean(1 - 2 * shared / torch.where(present, total, 1), present)


def lovasz_softmax(logits: Tensor, labels: Tensor, *, ignore: int = UNKNOWN) -> Tensor:
    """Return the Lovasz extension of 1 - IoU at the errors |t_c - p_c|, averaged over the classes c in the truth.

    Berman et al. 2018, equation 11 with p = softmax(logits), classes "present", over the whole batch; 0 if nothing is known.

    Args:
        logits: `(B, C, H, W)`.
        labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.
        ignore: The label of unknown pixels.
    """
    truth = one_hot(labels, logits.shape[1])
    errors = (truth.float() - logits.softmax(1)).abs()
    values = _lovasz(_by_sheet(errors.masked_fill((labels == ignore)[:, None], 0)), _by_sheet(truth))
    return masked_mean(values, _by_sheet(truth).any(1))


def lovasz_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the Lovasz extension of 1 - IoU at the hinge errors max(0, 1 - z s), averaged over the sheets with a known pixel.

    Berman et al. 2018, section 3.1: z are the logits, s is 1 where the target is 1 and -1 where it is 0, over the whole batch.

    Args:
        logits: `(B, L, H, W)`.
        targets: The same shape: 1, 0, or NaN for unknown.
    """
    known = ~targets.isnan()
    errors = functional.relu(1 - logits * (2 * targets.nan_to_num() - 1)).masked_fill(~known, 0)
    return masked_mean(_lovasz(_by_sheet(errors), _by_sheet(targets == 1)), _by_sheet(known).any(1))


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return where each class is, bool `(B, C, H, W)`, from labels `(B, H, W)`; a label of no class is nowhere."""
    return labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]


def _by_sheet(maps: Tensor) -> Tensor:
    return maps.movedim(1, 0).flatten(1)


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """Return the extension for each sheet `(L,)`: Berman et al. 2018, algorithm 1.

    Args:
        errors: `(L, N)`, at least 0; 0 where unknown, which adds nothing wherever it is sorted among the zeros.
        truth: bool `(L, N)`; false where unknown.
    """
    ordered, order = errors.sort(dim=1, descending=True)
    true = truth.gather(1, order).double()
    whole = true.sum(1, keepdim=True)
    jaccard = 1 - (whole - true.cumsum(1)) / (whole + (1 - true).cumsum(1))
    steps = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return (ordered * steps.to(ordered)).sum(1)
