"""How likely each pixel lies on a boundary, and the clean line drawing made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.geometry.lines import drawn
from pixelwise.prediction import Prediction, to_pillow


class Pen(NamedTuple):
    """Which lines are drawn: from pixels of at least `low` that are connected with one of `high`, `length` pixels or more."""

    low: float
    high: float
    length: int


@dataclass(frozen=True)
class BoundaryPrediction(Prediction):
    """How likely each pixel lies on a boundary.

    Attributes:
        probabilities: float `(H, W)` in [0, 1]; NaN is unknown (only in truths).
        pen: How lines are drawn; None shows the probabilities themselves.
    """

    probabilities: Tensor
    pen: Pen | None

    def shades(self) -> Tensor:
        """Return the drawing, uint8 `(1, H, W)`: black lines, or in proportion to the probabilities, on white."""
        if self.pen is None:
            ink = self.probabilities.nan_to_num(0)
        else:
            ink = torch.from_numpy(drawn(self.probabilities.numpy(), *self.pen)).float()
        return (255 * (1 - ink)).round().to(torch.uint8)[None]

    def render(self) -> PillowImage.Image:
        """Draw dark lines on white."""
        return to_pillow(self.shades().expand(3, -1, -1))

    def answer(self) -> PillowImage.Image:
        """Return the drawing as a grey picture."""
        return to_pillow(self.shades())

    def to_json(self) -> dict[str, Any]:
        """Return the mean probability of the known pixels; the lines are in the saved picture."""
        mean = float(self.probabilities.double().nanmean().nan_to_num(0))
        return {"kind": "boundaries", **self._size(), "mean_probability": round(mean, 6)}
