"""Depth as one sheet in [-0.5, 0.5]: metres, their logarithm or their inverse, over a range (Eigen et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.errors import UsageError
from pixelwise.losses.regression import l1_loss

Kind = Literal["metric", "log", "inverse"]


@dataclass(frozen=True)
class DepthCodec(Codec[Tensor]):
    """A strict inverse pair between metres within a range and [-0.5, 0.5].

    -0.5 is the nearest for `metric` and `log`, the farthest for `inverse`. 0 is the middle of the range, because that is
    what an untrained network says: one that begins at an end of the range learns slower.

    Attributes:
        kind: What is linear in the sheet: metres, ln metres, or 1 / metres.
        range: Nearest and farthest metres that can be said.
    """

    units: ClassVar[Mapping[str, str]] = {"depth": "metres along the camera's axis"}
    kind: Kind
    range: tuple[float, float]

    def __post_init__(self) -> None:
        low, high = self.range
        if not 0 < low < high < math.inf:
            raise UsageError(
                f"range = {low:g}, {high:g}: expected 0 < nearest < farthest", "for example 0.1,10 (metres) indoors"
            )

    @property
    def channels(self) -> int:
        """One sheet."""
        return 1

    @property
    def scale(self) -> float:
        """One output pixel per input pixel."""
        return 1.0

    @property
    def _ends(self) -> tuple[float, float]:
        """What -0.5 and 0.5 stand for: metres, ln metres or 1 / metres."""
        low, high = self.range
        if self.kind == "log":
            return math.log(low), math.log(high)
        return (low, high) if self.kind == "metric" else (1 / high, 1 / low)

    def encode(self, metres: Tensor) -> Tensor:
        """Return the sheet `(B, 1, H, W)` in [-0.5, 0.5] of metres `(B, H, W)`; NaN where unknown or beyond the range."""
        nearest, farthest = self.range
        inside = torch.where((metres >= nearest) & (metres <= farthest), metres, math.nan)
        said = inside.log() if self.kind == "log" else inside.reciprocal() if self.kind == "inverse" else inside
        low, high = self._ends
        return ((said - low) / (high - low) - 0.5)[:, None]

    def decode(self, outputs: Tensor) -> Tensor:
        """Return metres `(..., H, W)`, float32 within the range, of outputs `(..., 1, H, W)`; NaN becomes the nearest."""
        low, high = self._ends
        nearest = 0.5 if self.kind == "inverse" else -0.5
        said = low + (high - low) * (outputs.float().nan_to_num(nearest).clamp(-0.5, 0.5) + 0.5)
        metres = said.exp() if self.kind == "log" else said.reciprocal() if self.kind == "inverse" else said
        return metres.clamp(*self.range).squeeze(-3)

    def logarithm(self, outputs: Tensor) -> Tensor:
        """Return ln metres of outputs, differentiable; below -0.5 `metric` and `inverse` go on along the tangent."""
        low, high = self._ends
        step, share = high - low, outputs + 0.5
        if self.kind == "log":
            return low + step * share
        value = torch.log(low + step * share.clamp(min=0)) + step / low * share.clamp(max=0)
        return value if self.kind == "metric" else -value

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean absolute difference in units of the sheet over the known pixels."""
        return l1_loss(outputs, targets, targets.isfinite())

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheet."""
        return outputs.flip(-1)
