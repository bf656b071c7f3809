"""One answer for the picture as a whole, written below it: a category, labels, or a value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from pixelwise.prediction import Prediction

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

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers as JSON."""
        return (".json",)

    @abstractmethod
    def words(self) -> list[str]:
        """Return the answer as lines."""

    def line(self) -> str:
        """Return the answer as one line."""
        return ", ".join(self.words())

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
