"""A class for every pixel, as colours and as a palette image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.color.palette import colourise
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.prediction import EXACT, Prediction, to_pillow


@dataclass(frozen=True)
class LabelPrediction(Prediction):
    """A class for every pixel.

    Attributes:
        labels: uint8 `(H, W)` class indices; 255 is unknown (only in truths).
        confidence: float `(H, W)` probability of that class, or None.
        classes: Name of each class.
        palette: RGB colour of each class, 0 to 255.
    """

    suffixes: ClassVar[tuple[str, ...]] = EXACT
    labels: Tensor
    confidence: Tensor | None
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def render(self) -> PillowImage.Image:
        """Draw the class colours; unknown is black."""
        return to_pillow(colourise(self.labels, self.palette))

    def answer(self) -> PillowImage.Image:
        """Return a palette image whose pixel values are the class indices."""
        indexed = PillowImage.fromarray(self.labels.numpy())
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        indexed.putpalette(colours.tobytes())
        return indexed

    def to_json(self) -> dict[str, Any]:
        """Return the share of the known pixels that each class takes."""
        counts = torch.bincount(self.labels.flatten(), minlength=UNKNOWN + 1)
        total = max(1, int(counts.sum() - counts[UNKNOWN]))
        return {
            "kind": "labels",
            **self._size(),
            "share": {name: round(int(n) / total, 6) for name, n in zip(self.classes, counts, strict=False)},
        }
