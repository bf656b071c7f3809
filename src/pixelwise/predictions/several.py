"""Several answers about one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image as PillowImage

from pixelwise.prediction import Prediction


@dataclass(frozen=True)
class SeveralPrediction(Prediction):
    """Answers by name.

    Attributes:
        parts: Each about the same image.
    """

    parts: dict[str, Prediction]

    @property
    def nbytes(self) -> int:
        """Memory that the answers take together."""
        return sum(part.nbytes for part in self.parts.values())

    def render(self) -> PillowImage.Image:
        """Draw the answers side by side."""
        pictures = [part.render().convert("RGB") for part in self.parts.values()]
        row = PillowImage.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
        left = 0
        for picture in pictures:
            row.paste(picture, (left, 0))
            left += picture.width
        return row

    def to_json(self) -> dict[str, Any]:
        """Return every answer by name."""
        return {"kind": "several", **self._size(), "parts": {name: part.to_json() for name, part in self.parts.items()}}

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers."""
        return (".json",)

    def apart(self) -> dict[str, Prediction]:
        """Return every answer."""
        return self.parts

    def views(self) -> list[PillowImage.Image]:
        """Return the further pictures of all answers."""
        return [picture for part in self.parts.values() for picture in part.views()]
