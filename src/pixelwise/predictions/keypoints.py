"""Named points of one or several objects, drawn over the image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from pixelwise.color.palette import RGB, distinct_colours
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.prediction import Prediction, to_pillow

COCO, OPENPOSE = ".coco.json", ".openpose.json"
LIMBS: RGB = (255, 214, 0)
DIFFERENT = 24
"""Colours of objects and identities; then they begin anew."""


@dataclass(frozen=True)
class KeypointsPrediction(Prediction):
    """Points of one or several objects.

    Attributes:
        points: float `(N, K, 2)` (x, y) in pixels; NaN where there is none.
        confidence: float `(N, K)`.
        skeleton: Names of the K points, and the limbs that are drawn.
        scores: float `(N,)`, how sure each object is; None where there is always one.
        identities: int64 `(N,)` of the objects, the same from frame to frame; -1 for none. Only where a video was tracked.
    """

    points: Tensor
    confidence: Tensor
    skeleton: Skeleton
    scores: Tensor | None = field(default=None, kw_only=True)
    identities: Tensor | None = field(default=None, kw_only=True)

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers as JSON; of several objects also as COCO's list of results, and as OpenPose writes people."""
        return (".json",) if self.scores is None else (".json", COCO, OPENPOSE)

    def save(self, path: str | Path) -> Path:
        """Write the answer: as `Prediction.save`, or to `x.coco.json` or `x.openpose.json`.

        Raises:
            UsageError: The suffix is not one that can be written.
        """
        path = Path(path)
        for suffix, numbers in ((COCO, self.to_coco), (OPENPOSE, self.to_openpose)):
            if path.name.lower().endswith(suffix):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(numbers(path.name[: -len(suffix)])))
                return path
        return super().save(path)

    def render(self) -> PillowImage.Image:
        """Draw points and limbs over the image; each of several, or each identity with its number, in a colour."""
        grey = self.image if self.image.shape[0] == 3 else self.image.expand(3, -1, -1)
        picture = to_pillow(grey)
        draw = ImageDraw.Draw(picture)
        radius = max(1.0, max(picture.size) / 160)
        font_size = max(8.0, 5 * radius)
        font = ImageFont.load_default(font_size)
        shifted = self.points - 0.5  # Pillow puts integers at pixel centres
        for n, (instance, colour) in enumerate(zip(shifted, self._colours(), strict=True)):
            seen = instance.isfinite().all(-1)
            for a, b in self.skeleton.limbs:
                if seen[a] and seen[b]:
                    draw.line([*instance[a].tolist(), *instance[b].tolist()], colour, max(1, round(radius)))
            for x, y in instance[seen].tolist():
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], (255, 40, 60))
            if self.identities is not None and seen.any():
                x, y = instance[seen][instance[seen][:, 1].argmin()].tolist()
                draw.text((x, max(y - 2 * radius, font_size)), str(int(self.identities[n])), colour, font, anchor="mb")
        return picture

    def _colours(self) -> Sequence[RGB]:
        if self.scores is None and self.identities is None:
            return [LIMBS] * len(self.points)
        known = distinct_colours(DIFFERENT)
        numbers = range(len(self.points)) if self.identities is None else self.identities.tolist()
        return [known[number % DIFFERENT] for number in numbers]

    def to_json(self) -> dict[str, Any]:
        """Return every point with its name, position in pixels and confidence; null where there is none."""
        instances = [
            {
                name: [round(v, 3) for v in (*point, sure)] if all(np.isfinite(point)) else None
                for name, point, sure in zip(self.skeleton.names, points, confidence, strict=True)
            }
            for points, confidence in zip(self.points.tolist(), self.confidence.tolist(), strict=True)
        ]
        scores = {} if self.scores is None else {"scores": [round(score, 4) for score in self.scores.tolist()]}
        who = {} if self.identities is None else {"identities": self.identities.tolist()}
        return {"kind": "keypoints", **self._size(), "instances": instances, **scores, **who}

    def _flat(self, first: float) -> list[list[float]]:
        """Return x, y, confidence of one point after the other for each object; 0, 0, 0 where there is none.

        Args:
            first: Where the file has the centre of the first pixel; here it is 0.5.
        """
        rows = np.concatenate([self.points.numpy() + (first - 0.5), self.confidence.numpy()[..., None]], -1)
        found = np.isfinite(rows).all(-1, keepdims=True)
        return [[round(v, 3) for v in row.ravel().tolist()] for row in np.where(found, rows, 0)]

    def to_coco(self, image: str) -> list[dict[str, Any]]:
        """Return COCO's results format, the lists of many images put together being what `loadRes` of pycocotools reads.

        COCO has the centre of the first pixel at 0, so half a pixel is taken off, which its reader here adds. `category_id` is
        the skeleton's, as COCO's JSON or `{"names": ..., "category_id": 3}` stated it in training; else 1, COCO's people.

        Args:
            image: What `image_id` shall be; digits become a number, as COCO names its files.
        """
        number = int(image) if image.isdecimal() else image
        scores = [1.0] * len(self.points) if self.scores is None else self.scores.tolist()
        category = 1 if self.skeleton.category_id is None else self.skeleton.category_id
        return [
            {"image_id": number, "category_id": category, "keypoints": row, "score": score}
            for row, score in zip(self._flat(0), scores, strict=True)
        ]

    def to_openpose(self, image: str = "") -> dict[str, Any]:
        """Return what OpenPose's `--write_json` writes for an image, with our points in our order."""
        others = [f"{part}_keypoints_{way}" for way in ("2d", "3d") for part in ("face", "hand_left", "hand_right")]
        empty: dict[str, list[float]] = {name: [] for name in (*others, "pose_keypoints_3d")}
        who = [-1] * len(self.points) if self.identities is None else self.identities.tolist()
        rows = zip(who, self._flat(0.5), strict=True)
        people = [{"person_id": [number], "pose_keypoints_2d": row, **empty} for number, row in rows]
        return {"version": 1.3, "people": people}
