"""Boundaries that several people drew as sheets of logits: one per side output of a network, and the fused one last."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.errors import DataError
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.losses.boundaries import balanced_cross_entropy

Targets = dict[str, Tensor]


@dataclass(frozen=True)
class BoundaryCodec(Codec[Targets]):
    """A logit per pixel and output, all trained on what enough annotators drew; the last output is the answer.

    Attributes:
        sides: Outputs before the last that are trained too (deep supervision).
        threshold: Share of the annotators, above 0 and at most 1, from which a pixel is a boundary. What nobody drew is none;
            what fewer drew is controversial, and has no loss (Liu et al. 2017).
    """

    sides: int = 0
    threshold: float = 0.3

    @property
    def channels(self) -> int:
        """The sides and the fused output."""
        return self.sides + 1

    @property
    def scale(self) -> float:
        """One output pixel per input pixel."""
        return 1.0

    def encode(self, shares: Tensor) -> Targets:
        """Return `boundaries`, uint8 `(B, H, W)`: 1 on a boundary, 0 elsewhere, 255 where controversial or unknown.

        Args:
            shares: `(B, H, W)`, share of the annotators in [0, 1], NaN where unknown; or uint8 0, 1 and 255 for unknown.

        Raises:
            DataError: A value is none of these (looked for on the CPU only: elsewhere looking would stall every step).
        """
        if not shares.is_floating_point():
            shares = torch.where(shares == UNKNOWN, torch.nan, shares.float())
        if shares.device.type == "cpu":
            wrong = (shares < 0) | (shares > 1)
            if wrong.any():
                value = float(shares[wrong][0])
                raise DataError(
                    f"{value:g} in a map of boundaries", "values are 0 to 1, or 0, 1 and 255 for unknown in a label map"
                )
        targets = torch.full(shares.shape, UNKNOWN, dtype=torch.uint8, device=shares.device)
        targets[shares == 0] = 0
        targets[shares >= self.threshold - 1e-6] = 1
        return {"boundaries": targets}

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the probabilities `(B, H, W)` of the last output."""
        return outputs[:, -1].sigmoid()

    def losses(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the loss of the `fused` output and, where there are any, the sum over the `sides`."""
        each = balanced_cross_entropy(outputs, targets["boundaries"])
        return {"fused": each[-1]} | ({"sides": each[:-1].sum()} if self.sides else {})

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the sum over all outputs (Xie and Tu 2015, equations 1 and 3, all weights 1)."""
        return balanced_cross_entropy(outputs, targets["boundaries"]).sum()

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets."""
        return outputs.flip(-1)
