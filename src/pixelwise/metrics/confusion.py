"""Which class is taken for which: the counts from which every agreement of label maps follows (Long et al. 2015, 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.geometry.unknown import UNKNOWN


def confusion(predicted: Tensor, labels: Tensor, classes: int, *, ignore: int = UNKNOWN) -> Tensor:
    """Count the known pixels by true and predicted class, exactly.

    Args:
        predicted: Integer `(B, H, W)`, 0 to C - 1.
        labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.
        classes: Number of classes C.
        ignore: The label of pixels that do not count, not even in a union.

    Returns:
        int64 `(B, C, C)`; entry `[b, i, j]` is the number of pixels of class i in image b that are predicted as j.
    """
    images = torch.arange(len(labels), dtype=torch.int32, device=labels.device)[:, None, None]
    cell = (images * classes + labels.int()).mul_(classes).add_(predicted)
    beyond = len(labels) * classes**2
    counts = torch.bincount(cell.masked_fill_(labels == ignore, beyond).flatten(), minlength=beyond + 1)
    return counts[:beyond].view(len(labels), classes, classes)


def intersection_over_union(matrix: Tensor) -> Tensor:
    """Return n_ii / (t_i + sum_j n_ji - n_ii) of each class, float64 `(C,)`, from counts `(C, C)`; NaN if 0 / 0."""
    hits = matrix.diagonal().double()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)
