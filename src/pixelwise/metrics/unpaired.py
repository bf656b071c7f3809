"""How near translated pictures are, as a set, to pictures of the other side; and to the truth, where there is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixelwise.metrics.distances import discrepancy
from pixelwise.metrics.image import ImageMetrics


class UnpairedMetrics:
    """Accumulates the features of two sets of pictures; the result is their kernel distance (Binkowski et al. 2018).

    All pictures are in one subset. It asks whether pictures look like those of the other side, not whether they still show what
    they showed before: true pictures are at about 0, or just below. Where the truth is known, the metrics of `ImageMetrics`
    join it.

    Args:
        name: Of the distance; it names the features.
        see: Turns a picture (3, H, W) into its features (D,).
    """

    def __init__(self, name: str, see: Callable[[Tensor], Tensor]) -> None:
        self.name, self.see = name, see
        self.pairs = ImageMetrics()
        self.ours: list[Tensor] = []
        self.theirs: list[Tensor] = []

    def update(self, image: Tensor, other: Tensor, truth: Tensor | None = None) -> None:
        """Take in a translated picture, any picture of the other side and, if known, what the first should be, uint8."""
        self.ours.append(self.see(image))
        self.theirs.append(self.see(other))
        if truth is not None:
            self.pairs.update(image, truth)

    def compute(self) -> dict[str, float]:
        """Return the distance, of at least two pictures, and the mean of the other metrics."""
        apart = {self.name: discrepancy(torch.stack(self.ours), torch.stack(self.theirs))} if len(self.ours) > 1 else {}
        return {**self.pairs.compute(), **apart}
