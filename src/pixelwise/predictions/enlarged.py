"""A picture several times as large as the one that was asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixelwise.predictions.image import ImagePrediction


@dataclass(frozen=True)
class EnlargedPrediction(ImagePrediction):
    """An enlarged picture.

    Attributes:
        pixels: uint8 `(3, scale H, scale W)`.
        scale: Its pixels per pixel of `image`.
    """

    scale: int

    def to_json(self) -> dict[str, Any]:
        """Return the size of what was asked about, the scale, the size of the answer, and its mean colour."""
        height, width = self.pixels.shape[-2:]
        return {**super().to_json(), "scale": self.scale, "enlarged": {"height": height, "width": width}}

    def line(self) -> str:
        """Return the scale and the size of the answer."""
        height, width = self.pixels.shape[-2:]
        return f"x{self.scale}: {width}x{height}"
