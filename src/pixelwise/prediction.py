"""Answers in the image's own pixels, each able to draw itself, to save itself, and to become JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from pixelwise.color.palette import colourise
from pixelwise.data.png import write_png
from pixelwise.errors import UsageError

UNKNOWN = 255
LARGE = 2**24
"""Pixels above which a picture is written without a copy of it, as Pillow makes."""
ROWS = 256
"""Rows that are added up at a time."""
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
        notes: What the user should know about how the answer came about.
        suffixes: Of the image files that can hold the answer.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*EXACT, ".jpg", ".jpeg", ".webp", ".gif")
    image: Tensor
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def nbytes(self) -> int:
        """Memory that the answer takes beside the image."""
        return sum(value.nbytes for name, value in vars(self).items() if isinstance(value, Tensor) and name != "image")

    @abstractmethod
    def render(self) -> PillowImage.Image:
        """Draw the answer as an RGB picture: of the image's own size, unless the answer lies on no pixel."""

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
            self._write(path)
        return path

    def _write(self, path: Path) -> None:
        self.answer().save(path)

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
        counts = torch.bincount(self.labels.flatten(), minlength=UNKNOWN + 1)
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

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".png" and len(self.pixels) == 3 and self.pixels[0].numel() > LARGE:
            write_png(path, self.pixels)
        else:
            super()._write(path)

    def to_json(self) -> dict[str, Any]:
        """Return size and mean colour; the pixels are in the saved image."""
        total = torch.stack([rows.sum(dim=(1, 2)) for rows in torch.split(self.pixels, ROWS, 1)]).sum(0)
        mean = total / self.pixels[0].numel() / 255
        return {"kind": "image", **self._size(), "mean": [round(v, 6) for v in mean.tolist()]}


SHOWN = 3
"""How many scores are written below a picture."""


def captioned(picture: PillowImage.Image, lines: Sequence[str]) -> PillowImage.Image:
    """Write lines below a picture; a small picture is first enlarged by a whole factor, so that they can be read."""
    factor = -(-256 // max(picture.size))
    picture = picture.convert("RGB").resize((factor * picture.width, factor * picture.height), PillowImage.Resampling.NEAREST)
    size = max(picture.size) // 14
    font = ImageFont.load_default(size)
    margin, text = size // 3, "\n".join(lines)
    corner = (margin, picture.height + margin)
    _, _, right, bottom = map(ceil, ImageDraw.Draw(picture).multiline_textbbox(corner, text, font))
    page = PillowImage.new("RGB", (max(picture.width, right + margin), bottom + margin), "white")
    page.paste(picture)
    ImageDraw.Draw(page).multiline_text(corner, text, "black", font)
    return page


@dataclass(frozen=True)
class VectorPrediction(Prediction):
    """One answer for the picture as a whole, which is written below it.

    Attributes:
        numbers: float `(N,)` probabilities or values; NaN is unknown (only in truths).
        names: What each number is of.
    """

    numbers: Tensor
    names: tuple[str, ...]

    @abstractmethod
    def words(self) -> list[str]:
        """Return the answer as lines."""

    def render(self) -> PillowImage.Image:
        """Draw the picture with the answer below it."""
        return captioned(self.input(), self.words())

    def ranked(self) -> dict[str, float]:
        """Return the known numbers by name, the highest first."""
        numbers = zip(self.names, self.numbers.tolist(), strict=True)
        return dict(sorted(((name, round(n, 6)) for name, n in numbers if isfinite(n)), key=lambda pair: -pair[1]))


class CategoryPrediction(VectorPrediction):
    """One of several classes, with the probability of each."""

    def words(self) -> list[str]:
        """Return the likeliest classes and their probabilities."""
        return [f"{name} {score:.2f}" for name, score in self.ranked().items() if score >= 0.005][:SHOWN] or ["unknown"]

    def to_json(self) -> dict[str, Any]:
        """Return the category (null if it is unknown) and the probability of each, the likeliest first."""
        ranked = self.ranked()
        return {"kind": "category", **self._size(), "category": next(iter(ranked), None), "scores": ranked}


class LabelSetPrediction(VectorPrediction):
    """Which of several labels apply, with the probability that each does."""

    def applying(self) -> dict[str, float]:
        """Return the labels with a probability of at least 0.5, the likeliest first."""
        return {name: score for name, score in self.ranked().items() if score >= 0.5}

    def words(self) -> list[str]:
        """Return the labels that apply and their probabilities."""
        return [f"{name} {score:.2f}" for name, score in self.applying().items()] or ["none"]

    def to_json(self) -> dict[str, Any]:
        """Return the labels that apply, and the probability of each, the likeliest first."""
        return {"kind": "label_set", **self._size(), "labels": list(self.applying()), "scores": self.ranked()}


@dataclass(frozen=True)
class ValuePrediction(VectorPrediction):
    """A number and its unit, which may be empty."""

    unit: str = ""

    def words(self) -> list[str]:
        """Return the name and the value with its unit."""
        (value,) = self.numbers.tolist()
        return [f"{self.names[0]} {f'{value:.4g}' if isfinite(value) else 'unknown'} {self.unit}".rstrip()]

    def to_json(self) -> dict[str, Any]:
        """Return the name, the value (null if it is unknown) and its unit."""
        (name,) = self.names
        return {"kind": "value", **self._size(), "name": name, "value": self.ranked().get(name), "unit": self.unit}
