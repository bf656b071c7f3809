"""An image as the answer, with what came with the image that was asked about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.color.levels import eight_bits
from pixelwise.data.carried import EVERYTHING, Carried, Part
from pixelwise.data.channels import ARRAY
from pixelwise.data.png import Alpha, rows_of, write_png
from pixelwise.data.tiff import write_tiff
from pixelwise.geometry.tiles import Tile
from pixelwise.prediction import Prediction, to_pillow

LARGE = 2**24
"""Pixels above which a picture is written without a copy of it, as Pillow makes."""
ROWS = 256
"""Rows that are added up at a time."""
HOLDS: dict[str, tuple[Part, ...]] = {
    ".png": EVERYTHING,
    ".tif": EVERYTHING,
    ".tiff": EVERYTHING,
    ".webp": ("alpha", "profile", "exif"),
    ".jpg": ("profile", "exif"),
    ".jpeg": ("profile", "exif"),
}
"""What the files of each suffix can hold; the others hold nothing but colours of 8 bits."""
NAMES: dict[Part, str] = {
    "alpha": "transparency, which is laid on white",
    "bits": "16 bits",
    "profile": "the ICC profile",
    "exif": "EXIF data",
}


@dataclass(frozen=True)
class ImagePrediction(Prediction):
    """An image.

    Attributes:
        pixels: uint8 or uint16 `(C, H, W)`: of the size of the image that was asked about, or whole times as large.
        carried: What came with that image; it is written into files of the answer that can hold it.
    """

    suffixes = (*Prediction.suffixes, ARRAY)
    pixels: Tensor
    carried: Carried = field(default=Carried(), kw_only=True)

    @property
    def beside(self) -> tuple[str, ...]:
        """An array `(H, W, C)` where no image file holds all channels."""
        return () if len(self.pixels) in (1, 3) else (ARRAY,)

    def render(self) -> PillowImage.Image:
        """Return the image as RGB of 8 bits, laid on white where it is transparent."""
        answer = self.answer()
        if answer.mode == "RGBA":
            answer = PillowImage.alpha_composite(PillowImage.new("RGBA", answer.size, "white"), answer).convert("RGB")
        return answer

    def answer(self) -> PillowImage.Image:
        """Return the image with 8 bits, and its alpha if it has some."""
        pixels, alpha = eight_bits(self.pixels), self._alpha(torch.uint8)
        if alpha is None:
            return to_pillow(pixels)
        return PillowImage.fromarray(rows_of(pixels.expand(3, -1, -1), alpha, Tile(0, 0, *pixels.shape[-2:]), "<"))

    def _alpha(self, dtype: torch.dtype) -> Alpha | None:
        """Return what gives the alpha of a part of the answer in levels of `dtype`."""
        if self.carried.alpha is None:
            return None
        return partial(self.carried.alpha_of, size=(self.pixels.shape[-2], self.pixels.shape[-1]), dtype=dtype)

    def _write(self, path: Path) -> None:
        suffix, carried = path.suffix.lower(), self.carried
        if suffix == ARRAY:
            np.save(path, self.pixels.permute(1, 2, 0).contiguous().numpy())
            return
        holds = HOLDS.get(suffix, ())
        deep = self.pixels.dtype == torch.uint16
        written = holds if len(self.pixels) == 3 else tuple(part for part in holds if part != "bits")
        deeper: tuple[Part, ...] = ("bits",) if deep and not self.beside else ()
        lost = [NAMES[part] for part in (*deeper, *carried.parts) if part not in written]
        if lost:
            warnings.warn(f"{path.name}: a {suffix} file cannot hold {', '.join(lost)}", stacklevel=3)
        own = write_png if suffix == ".png" and (deep or self.pixels[0].numel() > LARGE) else None
        own = write_tiff if suffix in (".tif", ".tiff") and deep else own
        if own and len(self.pixels) == 3:
            own(path, self.pixels, self._alpha(self.pixels.dtype), carried.profile, carried.exif)
            return
        kept: dict[str, Any] = {"icc_profile": carried.profile, "exif": carried.exif} if holds else {}
        (self.answer() if "alpha" in holds else self.render()).save(path, **{name: data for name, data in kept.items() if data})

    def to_json(self) -> dict[str, Any]:
        """Return size and mean colour; the pixels are in the saved image."""
        highest = torch.iinfo(self.pixels.dtype).max
        total = torch.stack([rows.long().sum(dim=(1, 2)) for rows in torch.split(self.pixels, ROWS, 1)]).sum(0)
        mean = total / self.pixels[0].numel() / highest
        return {"kind": "image", **self._size(), "mean": [round(v, 6) for v in mean.tolist()]}
