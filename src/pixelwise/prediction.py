"""Answers in the image's own pixels, each able to draw itself, to save itself, and to become JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor

from pixelwise.color.palette import colourise
from pixelwise.errors import UsageError

UNKNOWN = 255
EXACT = (".png", ".tif", ".tiff", ".bmp")
"""Suffixes of the formats that keep class indices as they are."""


def to_pillow(pixels: Tensor) -> PillowImage.Image:
    """Turn uint8 `(C, H, W)` with 1 or 3 channels into a Pillow image."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return PillowImage.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@dataclass(frozen=True)
class Prediction(ABC):
    """What the model says about one image.

    Attributes:
        image: The image it was asked about, uint8 `(C, H, W)`.
        suffixes: Of the image files that can hold the answer.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*EXACT, ".jpg", ".jpeg", ".webp", ".gif")
    image: Tensor

    @abstractmethod
    def render(self) -> PillowImage.Image:
        """Draw the answer as an RGB picture of the image's own size."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain numbers and names."""

    def answer(self) -> PillowImage.Image:
        """Return the answer itself as an image file would hold it; by default the picture."""
        return self.render()

    def save(self, path: str | Path) -> Path:
        """Write the answer: `.json` as numbers, one of `suffixes` as an image.

        Raises:
            UsageError: The suffix is not one that can be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".json", *self.suffixes):
            known = ", ".join(self.suffixes)
            raise UsageError(f"cannot write {path.name}: this answer does not fit suffix {suffix!r}", f"use {known} or .json")
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".json":
            path.write_text(json.dumps(self.to_json()))
        else:
            self.answer().save(path)
        return path

    def input(self) -> PillowImage.Image:
        """Return the image that was asked about."""
        return to_pillow(self.image)

    def _size(self) -> dict[str, int]:
        return {"height": self.image.shape[-2], "width": self.image.shape[-1]}


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
        counts = torch.bincount(self.labels.flatten().long(), minlength=UNKNOWN + 1)
        total = max(1, int(counts.sum() - counts[UNKNOWN]))
        return {
            "kind": "labels",
            **self._size(),
            "share": {name: round(int(n) / total, 6) for name, n in zip(self.classes, counts, strict=False)},
        }


@dataclass(frozen=True)
class KeypointsPrediction(Prediction):
    """Points of one or several objects.

    Attributes:
        points: float `(N, K, 2)` (x, y) in pixels; NaN where there is none.
        confidence: float `(N, K)`.
        names: Name of each of the K points.
        edges: Pairs of point indices that are drawn as lines.
    """

    points: Tensor
    confidence: Tensor
    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def render(self) -> PillowImage.Image:
        """Draw points and edges over the image."""
        grey = self.image if self.image.shape[0] == 3 else self.image.expand(3, -1, -1)
        picture = to_pillow(grey)
        draw = ImageDraw.Draw(picture)
        radius = max(1.0, max(picture.size) / 160)
        for instance in self.points - 0.5:  # Pillow puts integers at pixel centres
            seen = instance.isfinite().all(-1)
            for a, b in self.edges:
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
                for name, point, sure in zip(self.names, points, confidence, strict=True)
            }
            for points, confidence in zip(self.points.tolist(), self.confidence.tolist(), strict=True)
        ]
        return {"kind": "keypoints", **self._size(), "instances": instances}


@dataclass(frozen=True)
class ImagePrediction(Prediction):
    """An image.

    Attributes:
        pixels: uint8 `(C, H, W)`.
    """

    pixels: Tensor

    def render(self) -> PillowImage.Image:
        """Return the image."""
        return to_pillow(self.pixels)

    def to_json(self) -> dict[str, Any]:
        """Return size and mean colour; the pixels are in the saved image."""
        mean = self.pixels.float().mean(dim=(1, 2)) / 255
        return {"kind": "image", **self._size(), "mean": [round(v, 6) for v in mean.tolist()]}
