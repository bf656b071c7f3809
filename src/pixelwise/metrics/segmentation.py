"""Agreement of label maps, from one table of counts over the known pixels of all images (Long et al. 2015, 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.metrics.averages import averages


def confusion(predicted: Tensor, labels: Tensor, classes: int, *, ignore: int = 255) -> Tensor:
    """Count the known pixels by true and predicted class, exactly.

    Args:
        predicted: Integer `(B, H, W)`, 0 to C - 1.
        labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.
        classes: Number of classes C.
        ignore: The label of pixels that do not count, not even in a union.

    Returns:
        int64 `(B, C, C)`; entry `[b, i, j]` is the number of pixels of class i in image b that are predicted as j.
    """
    known = labels != ignore
    images = torch.arange(len(labels), device=labels.device)[:, None, None].expand_as(labels)
    cell = (images * classes + labels.long()) * classes + predicted.long()
    counts = torch.bincount(cell[known], minlength=len(labels) * classes**2)
    return counts.view(len(labels), classes, classes)


def intersection_over_union(matrix: Tensor) -> Tensor:
    """Return n_ii / (t_i + sum_j n_ji - n_ii) of each class, float64 `(C,)`, from counts `(C, C)`; NaN if 0 / 0."""
    hits = matrix.diagonal().double()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


class SegmentationMetrics:
    """Accumulates counts, so that a large image weighs more than a small one.

    - `pixel_accuracy`: share of the known pixels that are right.
    - `mean_accuracy_present`: mean over the classes in the truth of the share of their pixels that are right.
    - `miou_present`: mean intersection over union of the classes in the truth or in the prediction (as FCN,
      mmsegmentation and torchmetrics; torchvision gives NaN if a class is in neither, SMP counts it as 1, detectron2
      drops those not in the truth).
    - `frequency_weighted_iou`: the same, weighted with the true frequency of each class.
    - `iou/<class>`: of every class in the truth or in the prediction.

    A metric that cannot be measured has no key.

    Attributes:
        matrix: int64 `(C, C)` counts, rows true, columns predicted, on the device of the first update.
        records: Pixel accuracy of every image, in order; NaN where no pixel is known.
    """

    def __init__(self, classes: Sequence[str], *, ignore: int = 255) -> None:
        """Begin with no pixels of the named `classes`; `ignore` is the label of unknown pixels."""
        self.classes = tuple(classes)
        self.ignore = ignore
        self.matrix = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self.records: list[Tensor] = []

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Take in label maps `(B, H, W)` or one `(H, W)`: what was predicted, and the truth."""
        shape = (-1, *labels.shape[-2:])
        counts = confusion(predicted.reshape(shape), labels.reshape(shape), len(self.classes), ignore=self.ignore)
        self.matrix = self.matrix.to(counts.device) + counts.sum(0)
        self.records += (counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2))).unbind()

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        matrix = self.matrix.cpu()
        truth, hits, iou = matrix.sum(1), matrix.diagonal(), intersection_over_union(matrix)
        frequent = truth > 0
        return averages(
            {
                "pixel_accuracy": hits.sum() / matrix.sum(),
                "mean_accuracy_present": hits / truth,
                "miou_present": iou,
                "frequency_weighted_iou": (truth[frequent] * iou[frequent]).sum() / truth.sum(),
                **{f"iou/{name}": value for name, value in zip(self.classes, iou, strict=True)},
            }
        )
