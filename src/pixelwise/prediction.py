"""Answers in the image's own pixels, each able to draw itself, to save itself, and to become JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.color.levels import eight_bits
from pixelwise.errors import UsageError

EXACT = (".png", ".tif", ".tiff", ".bmp")
"""Suffixes of the formats that keep class indices as they are."""


def to_pillow(pixels: Tensor) -> PillowImage.Image:
    """Turn `(C, H, W)`, uint8, uint16 or floating in [0, 1], into a Pillow image of 8 bits.

    Of more than three channels the first three are shown as colours, of two the first is shown as grey.
    """
    array = eight_bits(pixels[: 3 if len(pixels) >= 3 else 1]).permute(1, 2, 0).contiguous().numpy()
    return PillowImage.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@dataclass(frozen=True)
class Prediction(ABC):
    """What the model says about one image.

    Attributes:
        image: The image it was asked about, `(C, H, W)`, uint8, or floating in [0, 1] if it was read with 16 bits.
        notes: What the user should know about how the answer came about.
        suffixes: Of the files that can hold the answer, beside `.json`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*EXACT, ".jpg", ".jpeg", ".webp", ".gif")
    image: Tensor
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def nbytes(self) -> int:
        """Memory that the answer takes beside the image."""
        return sum(value.nbytes for name, value in vars(self).items() if isinstance(value, Tensor) and name != "image")

    @property
    def beside(self) -> tuple[str, ...]:
        """Suffixes of the files that `pixelwise predict` writes beside the answer; by default there are none."""
        return ()

    @abstractmethod
    def render(self) -> PillowImage.Image:
        """Draw the answer as an RGB picture: of the image's own size, unless the answer lies on no pixel."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain numbers and names."""

    def views(self) -> list[PillowImage.Image]:
        """Return further pictures of the answer that a report shows in a row; by default there are none."""
        return []

    def apart(self) -> Mapping[str, Prediction]:
        """Return answers by name that `pixelwise predict` writes into files of their own too; by default there are none."""
        return {}

    def line(self) -> str:
        """Return the answer in a few words, empty if only a picture can say it."""
        return ""

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
