"""Agreement of label maps, from one table of counts over the known pixels of all images (Long et al. 2015, 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.metrics.averages import averages, named
from pixelwise.metrics.confusion import confusion, intersection_over_union
from pixelwise.metrics.outlines import BoundaryIou


class SegmentationMetrics:
    """Accumulates counts, so that a large image weighs more than a small one.

    - `pixel_accuracy`: share of the known pixels that are right.
    - `mean_accuracy_present`: mean over the classes in the truth of the share of their pixels that are right.
    - `miou_present`: mean intersection over union of the classes in the truth or in the prediction (as FCN,
      mmsegmentation and torchmetrics; torchvision gives NaN if a class is in neither, SMP counts it as 1, detectron2
      drops those not in the truth).
    - `frequency_weighted_iou`: the same, weighted with the true frequency of each class.
    - `iou/<class>`: of every class in the truth or in the prediction.
    - `accuracy/<class>`: of every class in the truth, the share of its pixels that are right.
    - `boundary_miou_present@0.02`, `boundary_iou/<class>`: the same within a fiftieth of the diagonal of the other classes
      (see `BoundaryIou`).

    A metric that cannot be measured has no key.

    Attributes:
        matrix: int64 `(C, C)` counts, rows true, columns predicted.
        records: Pixel accuracy of every image, in order; NaN where no pixel is known.
    """

    def __init__(self, classes: Sequence[str], *, ignore: int = UNKNOWN) -> None:
        """Begin with no pixels of the named `classes`; `ignore` is the label of unknown pixels."""
        self.classes = tuple(classes)
        self.ignore = ignore
        self.matrix = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self.records: list[Tensor] = []
        self.boundaries = BoundaryIou(classes, ignore=ignore)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Take in label maps `(B, H, W)` or one `(H, W)`: what was predicted, and the truth."""
        predicted, labels = (maps.reshape(-1, *labels.shape[-2:]) for maps in (predicted, labels))
        counts = confusion(predicted, labels, len(self.classes), ignore=self.ignore).cpu()
        self.matrix += counts.sum(0)
        self.boundaries.update(predicted, labels)
        self.records += (counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2))).unbind()

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        matrix = self.matrix
        truth, hits, iou = matrix.sum(1), matrix.diagonal(), intersection_over_union(matrix)
        frequent = truth > 0
        return (
            averages(
                {
                    "pixel_accuracy": hits.sum() / matrix.sum(),
                    "mean_accuracy_present": hits / truth,
                    "miou_present": iou,
                    "frequency_weighted_iou": (truth[frequent] * iou[frequent]).sum() / truth.sum(),
                    **named("iou", self.classes, iou),
                    **named("accuracy", self.classes, hits / truth),
                }
            )
            | self.boundaries.compute()
        )
