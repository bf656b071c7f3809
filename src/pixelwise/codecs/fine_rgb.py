"""Pictures s times as fine as what the network sees, as s x s sheets for each channel (Shi et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.codecs.codec import Codec
from pixelwise.color.levels import levels
from pixelwise.losses.regression import charbonnier_loss, l1_loss, l2_loss

Loss = Literal["l1", "l2", "charbonnier"]
LOSSES = {"l1": l1_loss, "l2": l2_loss, "charbonnier": charbonnier_loss}


class FineRGBCodec(Codec[Tensor]):
    """RGB in [0, 1]: sheet c s^2 + s y + x holds channel c of the fine pixels at row y and column x of their coarse pixel.

    Attributes:
        factor: Fine pixels per coarse pixel, s.
    """

    units: ClassVar[Mapping[str, str]] = {"rgb": "0 to 1"}

    def __init__(self, factor: int, loss: Loss = "l1") -> None:
        self.factor, self._loss = factor, LOSSES[loss]

    @property
    def channels(self) -> int:
        """3 s^2."""
        return 3 * self.factor**2

    @property
    def scale(self) -> float:
        """Fine pixels per coarse pixel."""
        return float(self.factor)

    def encode(self, picture: Tensor) -> Tensor:
        """Return the sheets `(B, 3 s^2, H, W)` of pictures `(B, 3, s H, s W)`, uint8 in [0, 255] or floating in [0, 1]."""
        unit = picture.float() / 255 if picture.dtype == torch.uint8 else picture
        return functional.pixel_unshuffle(unit, self.factor)

    def picture(self, sheets: Tensor) -> Tensor:
        """Return the pictures `(..., 3, s H, s W)` of sheets, not clipped."""
        return functional.pixel_shuffle(sheets, self.factor)

    def decode(self, outputs: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
        """Return the nearest pictures of `dtype`, uint8 or uint16; values beyond [0, 1] are clipped."""
        return levels(self.picture(outputs), dtype)

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return `rgb` in [0, 1], not rounded."""
        return {"rgb": self.picture(outputs).clamp(0, 1)}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean difference of sheets, in units of white."""
        return self._loss(outputs, targets)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the picture."""
        return functional.pixel_unshuffle(self.picture(outputs).flip(-1), self.factor)
