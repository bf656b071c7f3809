"""Agreement of masks that may overlap, from counts over the known pixels of all images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.metrics.averages import averages, named
from pixelwise.metrics.confusion import confusion


class MaskMetrics:
    """Accumulates counts of each mask, so that a large image weighs more than a small one.

    - `miou_present`: mean of |P and G| / |P or G| over the masks that are in the truth or in the prediction.
    - `mdice_present`: mean of 2 |P and G| / (|P| + |G|), the F1 score of the pixels, over the same masks.
    - `pixel_accuracy`: share of the known decisions, of all masks and pixels together, that are right.
    - `iou/<mask>`, `dice/<mask>`: of each mask in the truth or in the prediction.

    A metric that cannot be measured has no key.

    Attributes:
        counts: int64 `(L, 2, 2)`: pixels of each mask by truth (row) and prediction (column), 0 outside and 1 inside.
    """

    def __init__(self, masks: Sequence[str]) -> None:
        """Begin with no pixels of the named `masks`."""
        self.masks = tuple(masks)
        self.counts = torch.zeros(len(masks), 2, 2, dtype=torch.int64)

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Take in one image's masks `(L, H, W)`: 1 or 0 as predicted; 1, 0 or 255 for unknown in truth."""
        self.counts += confusion(predicted, truth, 2).cpu()

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        counts = self.counts.double()
        both, ours, true = counts[:, 1, 1], counts[:, :, 1].sum(1), counts[:, 1].sum(1)
        iou, dice = both / (ours + true - both), 2 * both / (ours + true)
        return averages(
            {
                "miou_present": iou,
                "mdice_present": dice,
                "pixel_accuracy": (counts[:, 0, 0] + both).sum() / counts.sum(),
                **named("iou", self.masks, iou),
                **named("dice", self.masks, dice),
            }
        )
