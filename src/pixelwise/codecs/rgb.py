"""Images as one sheet per channel in [-1, 1], the range of a generator's tanh (Radford et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.color.levels import levels
from pixelwise.losses.regression import l1_loss


@dataclass(frozen=True)
class RGBCodec(Codec[Tensor]):
    """Channels, by default RGB, with one output pixel per input pixel; 8-bit images survive the round trip bit for bit."""

    channels: int = 3
    scale = 1.0
    units: ClassVar[Mapping[str, str]] = {"rgb": "0 to 1"}

    def encode(self, image: Tensor) -> Tensor:
        """Return the image in [-1, 1], float; it serves as a target and as an input alike.

        Args:
            image: `(..., C, H, W)`, uint8 in [0, 255] or floating in [0, 1].
        """
        return image.float() / 127.5 - 1 if image.dtype == torch.uint8 else image * 2 - 1

    def decode(self, outputs: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
        """Return the nearest image of `dtype`, uint8 or uint16, to outputs `(..., C, H, W)`, clipped to [-1, 1]."""
        return levels(self._unit(outputs), dtype)

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return `rgb` in [0, 1], not rounded."""
        return {"rgb": self._unit(outputs)}

    def _unit(self, outputs: Tensor) -> Tensor:
        return ((outputs.float() + 1) / 2).clamp(0, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean absolute difference in [-1, 1] units, the L1 term of Isola et al. 2017, equation 3."""
        return l1_loss(outputs, targets)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the image."""
        return outputs.flip(-1)
