"""Things that may overlap, as one mask each, laid over the image in colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.prediction import Prediction, to_pillow
from pixelwise.predictions.image import ImagePrediction

OPACITY = 0.5


@dataclass(frozen=True)
class MasksPrediction(Prediction):
    """A mask of each thing, saved exactly as the pages of a TIFF, and otherwise as a picture.

    Attributes:
        masks: uint8 `(L, H, W)`: 1 in the mask, 0 outside; 255 is unknown (only in truths).
        names: Of the masks.
        palette: RGB colour of each mask, 0 to 255.
    """

    masks: Tensor
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def render(self) -> PillowImage.Image:
        """Lay the mean colour of the masks at each pixel over the image."""
        grey = self.image if self.image.shape[0] == 3 else self.image.expand(3, -1, -1)
        total, count = torch.zeros(grey.shape), torch.zeros(grey.shape[1:])
        for mask, colour in zip(self.masks == 1, self.palette, strict=True):
            total += mask * torch.tensor(colour).view(3, 1, 1)
            count += mask
        share = OPACITY * (count > 0)
        return to_pillow((grey * (1 - share) + share * total / count.clamp(min=1)).round().to(torch.uint8))

    @property
    def beside(self) -> tuple[str, ...]:
        """The numbers."""
        return (".json",)

    def apart(self) -> dict[str, Prediction]:
        """Return every mask as a black and white picture, as the reader of masks takes it."""
        pictures = (self.masks == 1).to(torch.uint8)[:, None] * 255
        return {name: ImagePrediction(self.image, mask) for name, mask in zip(self.names, pictures, strict=True)}

    def _write(self, path: Path) -> None:
        if path.suffix.lower() not in (".tif", ".tiff"):
            return super()._write(path)
        pages = [PillowImage.fromarray(mask.numpy()) for mask in (self.masks == 1).to(torch.uint8) * 255]
        pages[0].save(path, save_all=True, append_images=pages[1:])

    def to_json(self) -> dict[str, Any]:
        """Return the share of its known pixels that each mask takes; null where none is known."""
        inside, known = (kind.sum((1, 2)).tolist() for kind in (self.masks == 1, self.masks != UNKNOWN))
        shares = [round(n / of, 6) if of else None for n, of in zip(inside, known, strict=True)]
        return {"kind": "masks", **self._size(), "share": dict(zip(self.names, shares, strict=True))}
