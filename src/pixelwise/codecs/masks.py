"""Masks that may overlap, or a single one: a sheet of logits each, and a sigmoid that says whether a pixel is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.codecs.codec import Codec
from pixelwise.codecs.label_map import Kind, Targets, require_labels
from pixelwise.errors import UsageError
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.losses.classification import binary_cross_entropy, binary_focal
from pixelwise.losses.overlap import lovasz_hinge, soft_dice


@dataclass(frozen=True)
class MasksCodec(Codec[Targets]):
    """A sigmoid per sheet at every pixel; one output pixel per input pixel.

    Attributes:
        sheets: Number of masks L.
        weights: Weight of what lies outside and inside of each mask in the cross-entropy and the focal loss; none means 1.
        smoothing: Of the targets in the cross-entropy.
        threshold: Probability from which a pixel is in the mask.
    """

    units: ClassVar[Mapping[str, str]] = {"masks": "1 inside", "probabilities": "0 to 1"}
    sheets: int
    weights: tuple[tuple[float, float], ...] = ()
    smoothing: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != self.sheets:
            raise UsageError(f"{len(self.weights)} class weights for {self.sheets} masks", "give one weight per mask")

    @property
    def channels(self) -> int:
        """One sheet per mask."""
        return self.sheets

    @property
    def scale(self) -> float:
        """One output pixel per input pixel."""
        return 1.0

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the masks, and how probable the inside of each is, `(B, L, H, W)`."""
        return {"masks": self.decode(outputs), "probabilities": outputs.sigmoid()}

    def encode(self, masks: Tensor) -> Targets:
        """Return `masks` as floats `(B, L, H, W)`: 1 inside, 0 outside, NaN where unknown.

        Args:
            masks: uint8 `(B, L, H, W)`, or `(B, H, W)` where there is one: 1, 0, and 255 for unknown.

        Raises:
            DataError: There is another value.
        """
        require_labels(masks, 2, UNKNOWN)
        stacked = masks[:, None] if masks.dim() == 3 else masks
        return {"masks": stacked.float().masked_fill(stacked == UNKNOWN, torch.nan)}

    def decode(self, outputs: Tensor) -> Tensor:
        """Return which pixels are in the masks, uint8 `(..., L, H, W)`, from logits of this shape."""
        return (outputs.sigmoid() >= self.threshold).to(torch.uint8)

    def loss(self, outputs: Tensor, targets: Targets, kind: Kind = "cross_entropy") -> Tensor:
        """Return a loss of logits `(B, L, H, W)` over what is known; 0 if nothing is."""
        masks = targets["masks"]
        if kind == "lovasz":
            return lovasz_hinge(outputs, masks)
        if kind == "dice":
            return soft_dice(outputs.sigmoid(), masks == 1, ~masks.isnan())
        weights = self._weights(masks) if self.weights else None
        if kind == "focal":
            return binary_focal(outputs, masks, weights)
        return binary_cross_entropy(outputs, masks, weights, smoothing=self.smoothing)

    def _weights(self, masks: Tensor) -> Tensor:
        outside, inside = masks.new_tensor(self.weights)[..., None, None].unbind(1)
        return torch.where(masks == 1, inside, outside)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets."""
        return outputs.flip(-1)

    def averaged(self, outputs: Tensor) -> Tensor:
        """Return logits `(B, L, H, W)` of the mean probability of several, `(T, B, L, H, W)`."""
        inside, outside = (functional.logsigmoid(signed).logsumexp(0) for signed in (outputs, -outputs))
        return inside - outside
