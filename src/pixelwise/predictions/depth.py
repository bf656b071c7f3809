"""Metres for every pixel: as colours, as a PNG of 16 bits, as numbers, and as points in space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pixelwise.color.heat import heat
from pixelwise.errors import UsageError
from pixelwise.geometry.camera import Intrinsics, assumed_intrinsics, unproject
from pixelwise.prediction import Prediction, to_pillow
from pixelwise.predictions.point_cloud import rotating_view, write_ply

MOST = 65535
UNITS = (0.001, 1 / 256)
"""Metres per count of a 16-bit file, the first that holds the range: 65.5 m, or KITTI's 256 m."""


@dataclass(frozen=True)
class DepthPrediction(Prediction):
    """Distance along the camera's axis for every pixel.

    Attributes:
        metres: float32 `(H, W)`; NaN is unknown (only in truths).
        limits: Nearest and farthest metres: what is drawn brightest and darkest, and what a file must hold.
        intrinsics: The camera, in pixels of the image, or None if it is not known.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".ply", ".jpg")
    metres: Tensor
    limits: tuple[float, float]
    intrinsics: Intrinsics | None = None

    @property
    def beside(self) -> tuple[str, ...]:
        """The unit as JSON, the picture, and where the camera is known the points in space."""
        return (".json", ".view.jpg", *((".ply",) if self.intrinsics else ()))

    @property
    def unit(self) -> float:
        """Metres per count of the 16-bit answer."""
        return next((unit for unit in UNITS if self.limits[1] <= unit * MOST), self.limits[1] / MOST)

    def render(self) -> PillowImage.Image:
        """Draw the logarithm of the depth over its limits, near bright and far dark; unknown is black."""
        known = self.metres.isfinite()
        low, high = (math.log(limit) for limit in self.limits)
        shown = heat(-torch.where(known, self.metres, 1).clamp(*self.limits).log(), -high, -low)
        return to_pillow(shown * known)

    def answer(self) -> PillowImage.Image:
        """Return a 16-bit picture: metres / `unit`, rounded, at least 1; 0 is unknown."""
        counts = (self.metres / self.unit).round().clamp(1, MOST).nan_to_num(0)
        return PillowImage.fromarray(counts.numpy().astype(np.uint16))

    def points(self, intrinsics: Intrinsics) -> tuple[Tensor, Tensor]:
        """Return the known pixels as points `(N, 3)`, metres, x right, y down, z forward, and their colours, uint8 `(N, 3)`."""
        points, known = unproject(self.metres, intrinsics), self.metres.isfinite()
        return points[:, known].T.contiguous(), self.image.expand(3, -1, -1)[:, known].T.contiguous()

    def views(self) -> list[PillowImage.Image]:
        """Draw the points from five sides; where the camera is not known, one of 60 degrees is assumed."""
        height, width = self.metres.shape
        intrinsics = self.intrinsics or assumed_intrinsics((height, width))
        return rotating_view(*self.points(intrinsics), intrinsics, (height, width))

    def _write(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            np.save(path, self.metres.numpy())
        elif suffix == ".ply":
            if self.intrinsics is None:
                hint = "train on data that states fx, fy, cx, cy, or set them: dataclasses.replace(prediction, intrinsics=...)"
                raise UsageError(f"cannot write {path.name}: points in space need the camera of the picture", hint)
            write_ply(path, *self.points(self.intrinsics))
        elif suffix == ".jpg":
            self.render().save(path, quality=92)
        else:
            stated = PngInfo()
            stated.add_text("depth_unit", f"{self.unit:.9g} metres per count; 0 is unknown")
            self.answer().save(path, pnginfo=stated)

    def to_json(self) -> dict[str, Any]:
        """Return the unit of the 16-bit answer and nearest, median and farthest metres; null where nothing is known."""
        known = self.metres[self.metres.isfinite()]
        ends = (known.min(), known.median(), known.max()) if len(known) else (None,) * 3
        metres = {
            n: v if v is None else round(float(v), 4) for n, v in zip(("nearest", "median", "farthest"), ends, strict=True)
        }
        camera = self.intrinsics._asdict() if self.intrinsics else None
        return {"kind": "depth", **self._size(), "depth_unit": self.unit, "metres": metres, "intrinsics": camera}
