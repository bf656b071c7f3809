"""Named points of one or several objects, drawn over the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor

from pixelwise.geometry.skeleton import Skeleton
from pixelwise.prediction import Prediction, to_pillow


@dataclass(frozen=True)
class KeypointsPrediction(Prediction):
    """Points of one or several objects.

    Attributes:
        points: float `(N, K, 2)` (x, y) in pixels; NaN where there is none.
        confidence: float `(N, K)`.
        skeleton: Names of the K points, and the limbs that are drawn.
        scores: float `(N,)`, how sure each object is; None where there is always one.
    """

    points: Tensor
    confidence: Tensor
    skeleton: Skeleton
    scores: Tensor | None = field(default=None, kw_only=True)

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers as JSON."""
        return (".json",)

    def render(self) -> PillowImage.Image:
        """Draw points and limbs over the image."""
        grey = self.image if self.image.shape[0] == 3 else self.image.expand(3, -1, -1)
        picture = to_pillow(grey)
        draw = ImageDraw.Draw(picture)
        radius = max(1.0, max(picture.size) / 160)
        for instance in self.points - 0.5:  # Pillow puts integers at pixel centres
            seen = instance.isfinite().all(-1)
            for a, b in self.skeleton.limbs:
                if seen[a] and seen[b]:
                    draw.line([*instance[a].tolist(), *instance[b].tolist()], (255, 214, 0), max(1, round(radius)))
            for x, y in instance[seen].tolist():
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], (255, 40, 60))
        return picture

    def to_json(self) -> dict[str, Any]:
        """Return every point with its name, position in pixels and confidence; null where there is none."""
        instances = [
            {
                name: [round(v, 3) for v in (*point, sure)] if all(np.isfinite(point)) else None
                for name, point, sure in zip(self.skeleton.names, points, confidence, strict=True)
            }
            for points, confidence in zip(self.points.tolist(), self.confidence.tolist(), strict=True)
        ]
        return {"kind": "keypoints", **self._size(), "instances": instances}
