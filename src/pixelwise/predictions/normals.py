"""A direction for every pixel: as colours, which are the answer in files as well, and as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pixelwise.prediction import EXACT, Prediction, to_pillow

AXES = "RUB"
"""Where red, green and blue point in image files: right, up, backward, so that what faces the camera is blue."""


@dataclass(frozen=True)
class NormalsPrediction(Prediction):
    """The direction of the surface at every pixel.

    Attributes:
        vectors: float32 `(3, H, W)` of length 1: x right, y down, z forward; NaN is unknown (only in truths).
    """

    suffixes: ClassVar[tuple[str, ...]] = (*EXACT, ".npy")
    vectors: Tensor

    @property
    def beside(self) -> tuple[str, ...]:
        """The axes as JSON."""
        return (".json",)

    def render(self) -> PillowImage.Image:
        """Draw (n + 1) / 2 with red right, green up and blue backward; unknown is black."""
        drawn = self.vectors * self.vectors.new_tensor([1, -1, -1])[:, None, None]
        return to_pillow(((drawn + 1) * 127.5).nan_to_num(0).round().clamp(0, 255).to(torch.uint8))

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".npy":
            np.save(path, self.vectors.permute(1, 2, 0).contiguous().numpy())
        elif path.suffix.lower() == ".png":
            stated = PngInfo()
            stated.add_text("normals_axes", AXES)
            self.answer().save(path, pnginfo=stated)
        else:
            super()._write(path)

    def to_json(self) -> dict[str, Any]:
        """Return the axes of image files, and the mean direction as x right, y down, z forward (null of nothing)."""
        mean = self.vectors.flatten(1).nanmean(1)
        told = [round(v, 4) for v in mean.tolist()] if mean.isfinite().all() else None
        return {"kind": "normals", **self._size(), "normals_axes": AXES, "mean": told}
