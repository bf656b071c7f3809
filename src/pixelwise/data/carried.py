"""What a picture brings beside its colours, of which an answer that is a picture too keeps a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pixelwise.color.levels import levels, unit
from pixelwise.geometry.homography import Size
from pixelwise.geometry.resample import bicubic
from pixelwise.geometry.tiles import Tile

Part = Literal["alpha", "bits", "profile", "exif"]
EVERYTHING: tuple[Part, ...] = ("alpha", "bits", "profile", "exif")
MARGIN = 4
"""Pixels around a part of the alpha that enlarging it looks at; the bicubic kernel reaches 2."""


@dataclass(frozen=True, eq=False)
class Carried:
    """What came with a picture.

    Attributes:
        alpha: How opaque each pixel is, `(H, W)`, uint8 or uint16; None where all are.
        profile: The ICC profile its numbers are meant in, empty for sRGB; always one of RGB.
        exif: What the camera or an editor wrote about it, as EXIF from "Exif" on, without what tells sizes and orientation.
    """

    alpha: Tensor | None = None
    profile: bytes = b""
    exif: bytes = b""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What of it is there, beside its bits."""
        there: dict[Part, bool] = {"alpha": self.alpha is not None, "profile": bool(self.profile), "exif": bool(self.exif)}
        return tuple(part for part, is_there in there.items() if is_there)

    def alpha_of(self, place: Tile, size: Size, dtype: torch.dtype) -> Tensor:
        """Return the alpha of a part of the answer.

        Args:
            place: The part, in the answer's pixels.
            size: Of the whole answer, whole times the size of the picture; it is enlarged as by MATLAB's bicubic.
            dtype: Of the levels, uint8 or uint16.

        Returns:
            `(height, width)` of `place`.
        """
        assert self.alpha is not None
        scale = size[0] // self.alpha.shape[0]
        if scale == 1:
            part = place.of(self.alpha)
            return part if part.dtype == dtype else levels(unit(part), dtype)
        top, left = (max(0, start // scale - MARGIN) for start in (place.top, place.left))
        bottom, right = ((place.top + place.height) // scale + MARGIN, (place.left + place.width) // scale + MARGIN)
        seen = unit(self.alpha[top:bottom, left:right])
        if seen.amin() == seen.amax():  # most of most pictures is opaque
            return levels(seen[:1, :1], dtype).expand(place.height, place.width)
        large = bicubic(seen, (seen.shape[0] * scale, seen.shape[1] * scale), scale)
        return levels(place.within(Tile(top * scale, left * scale, *large.shape)).of(large), dtype)
