"""HaarPSI, the similarity of Haar wavelets, as a loss (Reisenhofer et al. 2018): a formula, so it needs no weights."""

from __future__ import annotations

from typing import Literal

from pixelwise.losses.perceptual import Analytic, PerceptualConfig
from pixelwise.losses.wavelets import haarpsi_loss


class Config(PerceptualConfig):
    """Settings of the HaarPSI loss."""

    kind: Literal["haarpsi"] = "haarpsi"

    def build(self) -> Analytic:
        """Return the loss; it has no parameters."""
        return Analytic(haarpsi_loss)
