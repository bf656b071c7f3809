"""Named points of one or several objects, drawn over the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from pixelwise.color.palette import distinct_colours
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.prediction import Prediction, to_pillow

DIFFERENT = 24
"""Colours of identities; then they begin anew."""


@dataclass(frozen=True)
class KeypointsPrediction(Prediction):
    """Points of one or several objects.

    Attributes:
        points: float `(N, K, 2)` (x, y) in pixels; NaN where there is none.
        confidence: float `(N, K)`.
        skeleton: Names of the K points, and the limbs that are drawn.
        identities: int64 `(N,)` of the objects, the same from frame to frame; -1 for none. Only where a video was tracked.
    """

    points: Tensor
    confidence: Tensor
    skeleton: Skeleton
    identities: Tensor | None = field(default=None, kw_only=True)

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers as JSON."""
        return (".json",)

    def render(self) -> PillowImage.Image:
        """Draw points and limbs over the image; each identity in its own colour, with its number."""
        grey = self.image if self.image.shape[0] == 3 else self.image.expand(3, -1, -1)
        picture = to_pillow(grey)
        draw = ImageDraw.Draw(picture)
        radius = max(1.0, max(picture.size) / 160)
        font = ImageFont.load_default(max(8.0, 5 * radius))
        colours = self._colours()
        for n, instance in enumerate(self.points - 0.5):  # Pillow puts integers at pixel centres
            seen = instance.isfinite().all(-1)
            for a, b in self.skeleton.limbs:
                if seen[a] and seen[b]:
                    draw.line([*instance[a].tolist(), *instance[b].tolist()], colours[n], max(1, round(radius)))
            for x, y in instance[seen].tolist():
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], (255, 40, 60))
            if self.identities is not None and seen.any():
                x, y = instance[seen][instance[seen][:, 1].argmin()].tolist()
                draw.text((x, y - 2 * radius), str(int(self.identities[n])), colours[n], font, anchor="mb")
        return picture

    def _colours(self) -> list[tuple[int, int, int]]:
        if self.identities is None:
            return [(255, 214, 0)] * len(self.points)
        known = distinct_colours(DIFFERENT)
        return [known[identity % DIFFERENT] for identity in self.identities.tolist()]

    def to_json(self) -> dict[str, Any]:
        """Return every point with its name, position in pixels and confidence; null where there is none."""
        instances = [
            {
                name: [round(v, 3) for v in (*point, sure)] if all(np.isfinite(point)) else None
                for name, point, sure in zip(self.skeleton.names, points, confidence, strict=True)
            }
            for points, confidence in zip(self.points.tolist(), self.confidence.tolist(), strict=True)
        ]
        who = {} if self.identities is None else {"identities": self.identities.tolist()}
        return {"kind": "keypoints", **self._size(), "instances": instances, **who}
