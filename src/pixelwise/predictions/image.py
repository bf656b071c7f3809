"""An image as the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.data.png import write_png
from pixelwise.prediction import Prediction, to_pillow

LARGE = 2**24
"""Pixels above which a picture is written without a copy of it, as Pillow makes."""
ROWS = 256
"""Rows that are added up at a time."""


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
